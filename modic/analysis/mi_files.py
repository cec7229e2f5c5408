"""Imputed grades as files for Stata's `mi` and R's `mice`: `modic export COHORT --format mi`.

One row is one level of one imputation; `imputation` 0 is what was read, with `mc` missing where nothing was.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from modic.analysis.imputed import Imputed
from modic.errors import UsageError
from modic.export.flat import LEVEL_LABELS, label, label_of, plain
from modic.grades import CLASSES
from modic.records import LEVELS

GRADES_OF_ROW = ["mc", *(f"mc{k}" for k in range(CLASSES)), "any_mc"]
KEPT = [
    "imputation", "row", "patient", "patient_key", "study_key", "level", *GRADES_OF_ROW, "age_years", "sex",
    "study_year", "days_since_first_study", "manufacturer", "scanner_model", "field_strength_t", "level_numbering",
    "transitional_suspected",
]  # fmt: skip
OWN = {
    "imputation": "0: what readers read, else missing; 1 to m: imputed",
    "row": "number of the level, the same in all imputations",
    "patient": "number of the patient, for mi xtset",
    "mc": "true Modic type: read, or imputed from readings",
    **{f"mc{k}": f"1 if mc is {k}" for k in range(CLASSES)},
    "any_mc": "1 if mc is 1 or 2",
    "level": f"1 {LEVELS[0]} to {len(LEVELS)} {LEVELS[-1]}",
}
GUIDE = """# Imputed Modic grades

{n} levels of {patients} patients, {m} imputations learnt from {read} levels that readers read (modic.analysis.imputed).
`imputation` 0 is what was read; levels {levels} are 1 to 6. Pool with Rubin's
rules; the levels of one patient are a cluster. Put no covariate into an analysis that the imputation did not know
(`--data`): its association would be too weak.

Stata:

    use imputed.dta, clear
    mi import flong, m(imputation) id(row) imputed(mc mc0 mc1 mc2 any_mc) clear
    mi xtset patient
    mi estimate, eform: xtgee mc2 age_years i.level, family(binomial) link(logit) corr(exchangeable) vce(robust)

R:

    long <- as.data.frame(haven::read_dta("imputed.dta"))
    long$level <- haven::as_factor(long$level)
    long$sex <- factor(long$sex, levels = c("F", "M", "O"))
    imp <- mice::as.mids(long, .imp = "imputation", .id = "row")
    fit <- with(imp, geepack::geeglm(mc2 ~ age_years + level, id = patient, family = binomial, corstr = "exchangeable"))
    summary(mice::pool(fit), conf.int = TRUE, exponentiate = TRUE)

`as.mids` logs columns that hold one value or the same as others ("logged events"): that is no error. `imputed.parquet`
holds the same rows for `arrow::read_parquet`, with `level` as a number.
"""


STATA_NAME = re.compile(r"[^\W\d]\w{0,31}")
RESERVED = frozenset(
    {"_all", "_b", "_coef", "_cons", "_n", "_N", "_pi", "_pred", "_rc", "_skip", "_se", "byte", "double", "float"}
    | {"if", "in", "int", "long", "strL", "using", "with"}
)


def check_names(names: Iterable[str]) -> None:
    """Raise UsageError for covariates that Stata cannot have as variables."""
    if wrong := [name for name in names if not STATA_NAME.fullmatch(name) or name in RESERVED]:
        raise UsageError(
            f"Stata has no variable named {', '.join(map(repr, wrong))}: rename these columns of the data (letters,"
            " digits and _, no digit first, 32 at most)"
        )


def write_mi(imputed: Imputed, out: Path, *, data: tuple[str, ...] = ()) -> list[str]:
    """Write `imputed.parquet`, `imputed.dta` (with labels) and `imputed.md` into the folder `out`.

    `data`: names of the user's own covariates, which are kept too. Returns lines that say what was written. Raises
    UsageError without pyreadstat, or as `check_names`.
    """
    check_names(data)
    try:
        from pyreadstat import write_dta
    except ImportError as error:
        raise UsageError(f"Stata needs pyreadstat ({error.name} is missing): pip install 'modic[stats]'") from error
    frame = _table(imputed, data)
    frame.to_parquet(out / "imputed.parquet", index=False)
    labels: list[str | None] = [label(OWN[name]) if name in OWN else label_of(name) for name in frame.columns]
    values = {"level": LEVEL_LABELS}
    write_dta(plain(frame), str(out / "imputed.dta"), column_labels=labels, variable_value_labels=values)
    one = imputed.observed
    text = GUIDE.format(
        n=len(one), patients=one["patient_key"].nunique(), m=len(imputed.frames), read=imputed.n_read,
        levels=", ".join(LEVELS),
    )  # fmt: skip
    (out / "imputed.md").write_text(text, encoding="utf-8")
    return [
        f"{out / 'imputed.dta'}, {out / 'imputed.parquet'}: {len(one):,} levels, {len(imputed.frames)} imputations",
        f"{out / 'imputed.md'}: the lines for Stata and R",
    ]


def _table(imputed: Imputed, data: tuple[str, ...]) -> pd.DataFrame:
    """The long table, sorted by imputation and patient, whose levels stand together (geepack needs that)."""
    frame = imputed.long()
    patients = frame["patient_key"].astype("string")
    frame = frame.assign(
        patient=patients.rank(method="dense").astype(int),
        level=frame["level"].astype("string").map({name: i for i, name in enumerate(LEVELS, 1)}).astype(int),
    )
    frame = frame[[name for name in dict.fromkeys((*KEPT, *data)) if name in frame]]
    return frame.sort_values(["imputation", "patient", "study_key", "level"], kind="stable").reset_index(drop=True)
