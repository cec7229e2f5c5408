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
    " change came out about 1 % too high, and with 400 levels 95 % intervals of the odds ratio of a level of which few"
    " with a change are read held in 89 % of cohorts",
    "readings": f"{WORLD}. The difference estimator with 400 levels, or 100 patients at two visits. Known: odds ratios"
    " average too high where intervals are wide (the median is near the truth)",
    "elsewhere": f"{WORLD}. 400 levels read in another cohort where changes are more frequent. Known: shares of"
    " patients with a change came out about 1 % too high, differences between groups a tenth too near to none; odds"
    " ratios against a level with few changes are too high, or not fitted; levels with MC1 are a"
    " fifth too many. Not simulated: a grader who errs differently there",
}
"""Method → what was simulated."""


def said(answer: pd.DataFrame, method: str) -> pd.DataFrame:
    """`answer` that says in `attrs` what its numbers rest on."""
    answer.attrs["simulated"] = SIMULATED[method]
    return answer
