"""The findings of a study in sentences: the answer, the differences that remain, and the methods paragraph."""

from itertools import groupby
from typing import Any

from modic.experiment import significance
from modic.experiment.design import STOP_SHARE
from modic.experiment.folder import Study
from modic.experiment.results import FALLS, NONE, REVEALED, SURVIVES, Results
from modic.templates.render import template
from modic.text import counted

NAMES = {"none": "no normalization", "standardize": "standardization", "clahe": "CLAHE", "gamma": "gamma correction"}
BALANCED = ("balanced accuracy", "all")


def metric_name(metric: str, which: str) -> str:
    """The name of a metric: `balanced accuracy`, `sensitivity for MC1`, `F1 (weighted)`."""
    if which == "all":
        return metric
    return f"{metric} ({which})" if metric == "F1" and not which.startswith("MC") else f"{metric} for {which}"


def answer(results: Results) -> str:
    """Whether normalization matters in this study: one paragraph about balanced accuracy."""
    rows = [row for row in results.comparisons if (row["metric"], row["which"]) == BALANCED]
    text = _range(results)
    if rows[0]["n_folds"] < 2:
        return f"{text} One fold is finished; no difference can be tested on it."
    naive = sum(row["verdict"] in (SURVIVES, FALLS) for row in rows)
    kept = [row for row in rows if row["verdict"] in (SURVIVES, REVEALED)]
    verb = "remains" if len(kept) == 1 else "remain"
    rest = f"{len(kept)} {verb}: {'; '.join(map(_pair, kept))}." if kept else "none remains."
    text += (
        f" Of {len(rows)} pairs, tests that take folds for independent call {naive} different; with the correction for "
        f"shared patients and for {len(rows)} comparisons, {rest}"
    )
    return text + _equivalence(rows, kept)


def _range(results: Results) -> str:
    """The best and the worst normalization."""
    study, names = results.study, results.study.design.normalizations
    values = {name: results.values(name, BALANCED) for name in names}
    order = sorted(names, key=lambda name: -values[name].mean())
    first, last = order[0], order[-1]
    return (
        f"On {len(study.discs)} discs of {study.patients} patients, mean balanced accuracy was highest with "
        f"{NAMES[first]} ({values[first].mean():.3f}, SD over folds {_sd(values[first])}) and lowest with "
        f"{NAMES[last]} ({values[last].mean():.3f}, SD {_sd(values[last])})."
    )


def _equivalence(rows: list[dict[str, Any]], kept: list[dict[str, Any]]) -> str:
    """The pairs that are equivalent; or, if no difference is `kept` either, that this proves nothing."""
    same = [row for row in rows if row["p_equivalent"] >= significance.SURE]
    if same:
        pairs = "; ".join(f"{NAMES[row['a']]} and {NAMES[row['b']]}" for row in same)
        return (
            f" Within {significance.ROPE:g} of each other with at least {significance.SURE:.0%} probability: {pairs}."
        )
    if kept:
        return ""
    return (
        f" That is not evidence of no difference: for no pair is it at least {significance.SURE:.0%} probable that "
        f"both are within {significance.ROPE:g} of each other."
    )


def _sd(values: Any) -> str:
    return f"{values.std(ddof=1):.3f}" if len(values) > 1 else "–"


def _pair(row: dict[str, Any]) -> str:
    better, worse = (row["a"], row["b"]) if row["difference"] > 0 else (row["b"], row["a"])
    return (
        f"{NAMES[better]} above {NAMES[worse]} by {abs(row['difference']):.3f} (p = {number(row['p_corrected_holm'])})"
    )


def survival(results: Results) -> list[str]:
    """For each metric, which findings of the uncorrected tests survive and which do not."""
    sentences = []
    for key, group in groupby(results.comparisons, key=lambda row: (row["metric"], row["which"])):
        rows = list(group)
        name = metric_name(*key)
        lost, kept = ([row for row in rows if row["verdict"] == verdict] for verdict in (FALLS, SURVIVES))
        if all(row["verdict"] == NONE for row in rows):
            sentences.append(f"{name[0].upper()}{name[1:]}: no test finds a difference.")
            continue
        parts = []
        if lost:
            parts.append(f"does not survive: {'; '.join(_claim(row) for row in lost)}")
        if kept:
            parts.append(f"survives: {'; '.join(_claim(row) for row in kept)}")
        parts += [f"found only by the corrected test: {_claim(r)}" for r in rows if r["verdict"] == REVEALED]
        sentences.append(f"{name[0].upper()}{name[1:]}: {'. '.join(parts)}.")
    return sentences


def _claim(row: dict[str, Any]) -> str:
    """A difference with its p-values."""
    better, worse = (row["a"], row["b"]) if row["difference"] > 0 else (row["b"], row["a"])
    p = min(row["p_t"], row["p_wilcoxon"])
    return f"{better} above {worse} (p = {number(p)} uncorrected, {number(row['p_corrected_holm'])} corrected)"


def number(p: float | None) -> str:
    """A p-value or probability as it is printed."""
    if p is None or p != p:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def methods(results: Results) -> str:
    """A paragraph for the methods section of a paper, in plain text."""
    study, design = results.study, results.study.design
    type_names = {0: "no Modic change", 1: "type 1", 2: "type 2"}
    text = template("study_methods.md").render(
        design=design, discs=len(study.discs), patients=_patients(study), stop_share=STOP_SHARE, rope=significance.ROPE,
        draws=significance.DRAWS, names=[NAMES[name] for name in design.normalizations],
        trained_with=list(map(_trained_with, results.trained_with)),
        types=", ".join(f"{int((study.labels == k).sum())} with {type_names[k]}" for k in study.classes),
        repeated=_repeated(len({(fold.repeat, fold.fold) for fold in results.finished}), design.folds),
    )  # fmt: skip
    return " ".join(text.split())


def _patients(study: Study) -> str:
    synthetic = len(study.design.synthetic)
    if synthetic == len(study.design.data):
        return f"{study.patients} synthetic patients"
    return f"{counted(study.patients, 'patient')}{', synthetic ones among them' if synthetic else ''}"


def _trained_with(versions: dict[str, str]) -> str:
    return f"modic {versions['modic']} and PyTorch {versions['torch']} ({versions['device']})"


def _repeated(splits: int, folds: int) -> str:
    """`10 × 5-fold cross-validation`, and the folds of a repeat that is not whole."""
    repeats, rest = divmod(splits, folds)
    text = f"{repeats} × {folds}-fold cross-validation"
    return text + (f" and {counted(rest, 'fold')} of another repeat" if rest else "")
