"""What the numbers of each method rest on, as the answers say it in `attrs["simulated"]`."""

import pandas as pd

WORLD = (
    "simulated: cohorts of 800 patients and a grader that errs differently by level, age and scanner and abstains when"
    " unsure, with true odds ratios 1, 1.04 a year, 2 and 8; readers without error. Coverage and bias of shares, shares"
    " of patients, differences, changes and odds ratios: modic/analysis/README.md"
)
SIMULATED = {
    "naive": "grades as they are, not corrected for the grader's errors: odds ratios are pulled towards 1, or made",
    "imputed": f"{WORLD}. Imputed from 400 levels, or 100 patients at two visits. Known: shares of patients with a"
    " change came out 2 to 3 % too high, odds ratios and differences of covariates 6 to 17 % nearer to none",
    "readings": f"{WORLD}. The difference estimator with 400 levels, or 100 patients at two visits. Known: odds ratios"
    " average too high where intervals are wide (the median is near the truth), and 95 % intervals of a difference"
    " between scanners held in 90 % of cohorts with 100 patients",
    "elsewhere": f"{WORLD}. 400 levels read in another cohort where changes are more frequent. Known: shares of a rare"
    " type (MC1) came out too high. Not simulated: a grader who errs differently there",
}
"""Method → what was simulated."""


def said(answer: pd.DataFrame, method: str) -> pd.DataFrame:
    """`answer` that says in `attrs` what its numbers rest on."""
    answer.attrs["simulated"] = SIMULATED[method]
    return answer
