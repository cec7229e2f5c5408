"""The page of a site's grader: what was decided, before and after, calibration, strata, drift."""

from typing import Any

import numpy as np

from modic.adapt.choice import LEVEL
from modic.adapt.findings import Site
from modic.adapt.proof import FEWEST_OF_GROUP, LEVEL_AND_TYPE, Compared
from modic.adapt.thresholds import promise
from modic.grades import GRADES
from modic.records import LEVELS
from modic.statistics.drift import Drift
from modic.statistics.intervals import clustered_mean, effective_wilson
from modic.statistics.metric_tables import Table
from modic.statistics.metrics import alike, reliability
from modic.templates.render import template

SIDE, EDGE = 260, 34  # px of the calibration picture and of its margin
DISCS = (20, 50, 67, 100, 200, 400)
FROM_ALL = ("AUC", "sensitivity", "abstained", "right where graded", "coverage", "calibration error")


def render(site: Site, facts: list[str]) -> str:
    """HTML that needs no other file."""
    changed = not site.adapted.unchanged
    sections = [
        _section("Before and after", _before_and_after(site), _compared(site.compared, FROM_ALL), figure=_figure(site)),
        _section(
            "By type and level",
            [_by_level_text()],
            [_by_level(site)],
        ),
        _section(
            "By level, scanner and field strength",
            [
                f"Levels, scanners and field strengths of which at least {FEWEST_OF_GROUP} discs were read. Small"
                " groups have wide intervals."
            ],
            [*_strata(site.compared), _read(site)],
        ),
        _section("What was tested", [_how()], [_tested(site)]),
        _section("What a number of readings can promise", [_promise_text(site.shipped.alpha)], [_promises(site)]),
        _section("Does the cohort look like what was read?", _drift_text(site), [_drift(site)] if site.drift else []),
        _section("How frequent the types are", _shares_text(site), [_shares(site)]),
    ]
    return str(template("site.html").render(facts=facts, changed=changed, sections=sections, grades=GRADES))


def _section(title: str, text: list[str], tables: list[Table], figure: Any = None) -> dict[str, Any]:
    return {"title": title, "text": text, "tables": tables, "figure": figure}


def _before_and_after(site: Site) -> list[str]:
    return [
        "Every disc that was read is judged by a grader that saw no disc of its patient: adapting is repeated without"
        " each fifth of the patients. Correction, thresholds and this comparison thus never use the same patient."
        " Numbers are weighted to the cohort; intervals are of the difference, by patient.",
        f"Sets should hold the true type in {100 * (1 - site.shipped.alpha):.0f} % of the discs of each type"
        " (coverage). A grader that abstains more and covers as promised is better than one that is wrong.",
    ]


def _compared(rows: list[Compared], wanted: tuple[str, ...]) -> list[Table]:
    body = [_line(row) for row in rows if row.what in wanted]
    return [Table("", ("number", "of", "discs", "before", "after", "difference (95 % interval)"), body)]


def _line(row: Compared) -> tuple[str, ...]:
    low, high = (f"{value:+.2f}" if np.isfinite(value) else "–" for value in (row.low, row.high))
    gain = f"{row.difference:+.2f} ({low} to {high})"
    return (row.what, row.which, str(row.n), f"{row.before:.2f}", f"{row.after:.2f}", gain)


def _strata(rows: list[Compared]) -> list[Table]:
    wanted = (row.what for row in rows if " by " in row.what and not row.what.endswith(LEVEL_AND_TYPE))
    return _compared(rows, tuple(dict.fromkeys(wanted)))


def _by_level_text() -> str:
    return (
        "Coverage: the share of discs whose set holds the true type, before → after, with the 95 % interval of the"
        f" share after, and how many discs were read. Fewer than {FEWEST_OF_GROUP} discs say nothing: only their number"
        " is given."
    )


def _by_level(site: Site) -> Table:
    read = site.data.read
    body = [
        (level, *(_coverage(site, (read.levels == level) & (read.discs.labels == k)) for k in range(len(GRADES))))
        for level in LEVELS
    ]
    return Table("", ("level", *GRADES), body)


def _coverage(site: Site, of: np.ndarray) -> str:
    discs = site.data.read.discs
    n = discs.count(of)
    if n < FEWEST_OF_GROUP:
        return f"{round(n)} read" if round(n) else ""
    before, after = (site.before.held[of], site.after.held[of])
    (value,), variance = clustered_mean(after[:, None].astype(float), discs.patients[of], discs.weights[of])
    low, high = effective_wilson(float(value), float(variance[0, 0]), n=round(n), patients=len(set(discs.patients[of])))
    was = np.average(before, weights=discs.weights[of])
    return f"{was:.2f} → {value:.2f} ({low:.2f}–{high:.2f}), {round(n)} read"


def _read(site: Site) -> Table:
    read = site.data.read
    names = dict.fromkeys((*np.unique(read.fields).tolist(), *np.unique(site.data.cohort.fields).tolist()))
    body = []
    for name in names:
        of = read.fields == name
        share = float((site.data.cohort.fields == name).mean()) if len(site.data.cohort) else float("nan")
        counts = (of, *(of & (read.discs.labels == k) for k in range(len(GRADES))))
        body.append((name, f"{100 * share:.0f} %", *(str(round(read.discs.count(some))) for some in counts)))
    return Table("Discs read by field strength", ("field strength", "of the cohort", "discs read", *GRADES), body)


def _how() -> str:
    return (
        "Each update is fitted without a fifth of the patients and predicts it. An update is taken if its log loss on"
        " these patients is lower than the shipped grader's by more than chance, all updates tested together (max-T"
        f" with signs flipped by patient, {100 * LEVEL:.0f} % for the whole family), and a larger one only if it also"
        " beats the smaller one."
    )


def _tested(site: Site) -> Table:
    body = [
        (
            one.kind.name + (f", prior SD {one.kind.weight_sd:g}" if one.kind.weight_sd else ""),
            f"{one.gain:+.3f}", f"{one.p_value:.4f}", "taken" if one.kind == site.adapted.choice.kind else "",
        )
        for one in site.adapted.choice.tested
    ]  # fmt: skip
    return Table("", ("update", "log loss saved a disc", "p (adjusted)", ""), body)


def _promise_text(alpha: float) -> str:
    return (
        f"Sets are to hold the true type in {100 * (1 - alpha):.0f} %. Which share they hold at a site depends on the"
        " discs that happened to be read. So far may it lie off for independent discs of one type; discs of one patient"
        " are alike, those of a type that was drawn unevenly count less, and more readers of a disc make no more of it,"
        " so these are at best."
    )


def _promises(site: Site) -> Table:
    alpha = site.shipped.alpha
    body = [
        (f"{n}", f"{100 * of.sd:.1f} points", f"{100 * of.low:.0f}–{100 * of.high:.0f} %")
        for n in DISCS
        for of in (promise(n, alpha),)
    ]
    return Table("", ("discs of a type", "standard deviation", "95 of 100 sites"), body)


def _drift_text(site: Site) -> list[str]:
    if not site.drift:
        return ["The network of this classifier gives no features to compare."]
    texts = [
        "Distance: how far the mean of a group lies from the discs that were read, in standard deviations of these, in"
        " the direction in which it is largest."
    ]
    missing = [
        f"{one.which} ({100 * one.share:.0f} % of the cohort, {one.read} read)" for one in site.drift if one.to_read
    ]
    if missing:
        texts.append(f"Read again there: {', '.join(missing)}. Until then the grader promises nothing there.")
    else:
        texts.append("Nothing calls for further readings now.")
    if not site.adapted.unchanged:
        texts.append(
            "Every night that grades with this grader compares its newest studies in the same way, and says so in its"
            " last line, in `modic status` and on the report if they drift."
        )
    if few := len(site.drift) - len(_compared_groups(site)):
        texts.append(f"{few} small groups, of which too few discs are there to compare, are not shown.")
    return texts


def _compared_groups(site: Site) -> list[Drift]:
    return [one for one in site.drift if one.distance is not None or one.to_read]


def _drift(site: Site) -> Table:
    body = [
        (
            one.what, one.which, f"{100 * one.share:.0f} %", str(one.read),
            "–" if one.distance is None else f"{one.distance:.2f}",
            "read there" if one.to_read else "unlike, but read" if one.far else "",
        )
        for one in _compared_groups(site)
    ]  # fmt: skip
    return Table("", ("by", "group", "of the cohort", "discs read", "distance", ""), body)


def _shares_text(site: Site) -> list[str]:
    return [
        "The probabilities of the tables take the types for equally frequent. How frequent they are in this cohort, as"
        " estimated from all probabilities (label shift, Saerens 2002) and from the readings alone, weighted. For"
        " intervals use `modic.open(COHORT).corrected_prevalence()` after `modic validate`."
    ]


def _shares(site: Site) -> Table:
    discs = site.data.read.discs
    read = [float(discs.weights[discs.labels == k].sum() / discs.weights.sum()) for k in range(len(GRADES))]
    body = [
        ("all discs, adapted grader", *(f"{100 * share:.1f} %" for share in site.shares)),
        ("readings", *(f"{100 * share:.1f} %" for share in read)),
    ]
    return Table("", ("from", *GRADES), body)


def _figure(site: Site) -> list[dict[str, Any]]:
    """Calibration before and after: points of bins, their place in px and their share of all discs."""
    labels, panels = site.data.read.discs.labels, []
    equally = alike(labels, site.data.read.discs.weights)
    for name, judged in (("before", site.before), ("after", site.after)):
        bins = reliability(judged.p.max(1), judged.p.argmax(1) == labels, equally)
        total = sum(weight for *_, weight in bins)
        points = [
            {"x": EDGE + SIDE * mean, "y": EDGE / 2 + SIDE * (1 - share), "r": 3 + 14 * np.sqrt(weight / total)}
            for mean, share, weight in bins
        ]
        panels.append({"name": name, "points": points, "side": SIDE, "edge": EDGE})
    return panels
