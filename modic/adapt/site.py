"""`modic adapt`: readings → card, weights and page of a site's grader.

OUT/
  classifier.safetensors, classifier.json   for `classifier = "OUT"` in cohort.toml; not written if the shipped grader
                                            is better left alone
  detector.safetensors, detector.json       with them, where the cohort's discs were found by another than the shipped
                                            one, so that `--models OUT` is the whole grader
  classifier.md                             what was done, in words
  report.html                               before and after, what was read, drift
  comparison.parquet                        the numbers of the page
  drift.json                                what later nights compare their images with, beside the card
"""

import json
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from modic.adapt import page
from modic.adapt.choice import LEVEL, PATIENTS_FOR_LAST_LAYER, Tested
from modic.adapt.findings import Site
from modic.adapt.grader import adapt, shipped_of
from modic.adapt.proof import compare, judge
from modic.adapt.site_data import Group, site_data
from modic.adapt.thresholds import DISCS, FEWEST, effective, promise, site_quantiles
from modic.adapt.update import SHIPPED
from modic.cohort import open_cohort
from modic.errors import UsageError, WeightsError
from modic.files import make_folder, write_json, write_whole
from modic.grades import CLASSES, GRADES
from modic.grading.site_correction import site_correction_of
from modic.models.card import DESIGNS, model_id, read_card
from modic.run.configuration import remembered_weights
from modic.run.drift import DRIFT
from modic.statistics.drift import Baseline, baseline, drift
from modic.statistics.prevalence import own_prevalence
from modic.tables.described import Columns, write_rows
from modic.text import counted

NETWORKS = ("classifier", "detector")
OURS = {f"{name}.{suffix}" for name in NETWORKS for suffix in ("safetensors", "json")}
OURS |= {"classifier.md", "report.html", "comparison.parquet", DRIFT}
COMPARISON: Columns = {
    "what": ("string", "what was measured"),
    "which": ("string", "of which type, level, scanner or field strength"),
    "before": ("float64", "of the shipped grader, weighted to the cohort"),
    "after": ("float64", "of the adapted grader, each disc by one that saw no disc of its patient"),
    "difference": ("float64", "after - before"),
    "low": ("float64", "lower end of the difference's 95 % interval, from draws of patients"),
    "high": ("float64", "upper end"),
    "n": ("int64", "discs that the number is about"),
}


def adapt_site(cohort: Path, files: list[Path], out: Path, *, classifier: str = "") -> Site:
    """Adapt, prove, and write `out`. Raises UsageError in one line for what cannot be adapted.

    `classifier`: what graded the cohort; empty: as the cohort remembers (`_adapted_from`).
    """
    _check_out(out)
    used = remembered_weights(open_cohort(cohort))
    card, weights = read_card(classifier or _adapted_from(used), "classifier")
    detector = _detector_files(used.get("detector", {}).get("name", "detector"))
    shipped = shipped_of(card)
    data = site_data(cohort, files, classifier_id=model_id(card), measured=shipped.measured)
    adapted = adapt(data.read, shipped)
    before, after = judge(data.read, shipped)
    everybody = data.cohort.discs if len(data.cohort) else data.read.discs
    compared, baseline = compare(data.read, before, after), _baseline(data.read)
    drifts = [] if baseline is None else drift(
        baseline, data.cohort.discs.features, data.cohort.discs.patients, data.cohort.groups
    )  # fmt: skip
    site = Site(
        data, shipped, adapted, before, after, compared, baseline, drifts,
        own_prevalence(adapted.update.p(everybody.logits, everybody.features)).mean(0), model_id(card),
    )  # fmt: skip
    make_folder(out)
    for name in OURS:
        (out / name).unlink(missing_ok=True)
    rows = [{name: getattr(one, name) for name in COMPARISON} for one in site.compared]
    write_rows(out / "comparison.parquet", rows, COMPARISON)
    if not adapted.unchanged:
        if baseline is not None:
            write_json(out / DRIFT, baseline)
        shutil.copyfile(weights, out / "classifier.safetensors")
        for name, content in detector.items():
            (out / name).write_bytes(content)
        write_whole(out / "classifier.json", json.dumps(site_card(card, site), indent=2, ensure_ascii=False) + "\n")
    write_whole(out / "classifier.md", "\n".join(["# A site's grader", "", *facts(site), ""]))
    write_whole(out / "report.html", page.render(site, facts(site)))
    return site


def _baseline(read: Group) -> Baseline | None:
    discs = read.discs
    return baseline(discs.features, discs.patients, discs.weights, discs.shares, read.groups)


def _adapted_from(used: dict[str, dict[str, str]]) -> str:
    """The weights that graded the cohort, or, where those are a site's own, the design that they were made from."""
    known = used.get("classifier", {})
    name, id_ = known.get("name", "classifier"), known.get("id", "").split(" ")[0]
    for candidate in (name, *DESIGNS):
        with suppress(WeightsError):
            card = read_card(candidate, "classifier")[0]
            if model_id(card) == id_ and site_correction_of(card["calibration"]) is None:
                return candidate
    return "classifier"


def _detector_files(name: str) -> dict[str, bytes]:
    """What the folder holds of another detector than the shipped one. Raises WeightsError if that is gone."""
    if name == "detector":
        return {}
    path = read_card(name, "detector")[1]
    return {f"detector{suffix}": path.with_suffix(suffix).read_bytes() for suffix in (".safetensors", ".json")}


def _check_out(out: Path) -> None:
    """Raise UsageError if `out` is neither new nor the folder of an earlier `modic adapt`."""
    if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - OURS):
        raise UsageError(f"{out} holds something else than a site's grader; name a new folder for --out")


def site_card(card: dict[str, Any], site: Site) -> dict[str, Any]:
    """The card of the adapted grader; its weights are those of `card`."""
    adapted, update, discs = site.adapted, site.adapted.update, site.data.read.discs
    calibration = {k: v for k, v in card["calibration"].items() if k not in ("thresholds", "shift")}
    calibration |= {
        "temperature": round(update.temperature, 6),
        "conformal_q": [round(float(q), 6) for q in adapted.quantiles],
        "thresholds": _threshold_table(card["calibration"].get("thresholds"), site),
        "site": {
            "shift": [round(float(value), 6) for value in update.shift],
            "weights": [[float(f"{w:.6g}") for w in update.weights[:, k]] for k in range(CLASSES)]
            if len(update.weights)
            else [[]] * CLASSES,
        },
        "patients": len(np.unique(discs.patients)),
        "discs": {f"mc{k}": round(discs.types[k]) for k in range(CLASSES)},
        "sources": ["readings of a site"],
    }
    about = {
        "from": site.base_id,
        "written": f"{datetime.now(UTC):%Y-%m-%d}",
        "update": adapted.choice.kind.name,
        "thresholds_of_site": [GRADES[k] for k in adapted.refitted],
        "discs": round(discs.count()),
        "readings": site.data.readings,
        "readers": len(site.data.readers),
        "type_shares_of_cohort": [round(float(share), 4) for share in site.shares],
        "before_and_after": [
            {"what": one.what, "which": one.which, "before": round(one.before, 4), "after": round(one.after, 4)}
            for one in site.compared
            if " by " not in one.what
        ],
    }
    results = {"why": "of the grader that this one was made from", **card.get("results", {})}
    limits = [*card.get("limits", []), "Adapted to the readings of one site; at another it is not the better grader."]
    return {**card, "calibration": calibration, "adapted": about, "results": results, "limits": limits}


def _threshold_table(shipped: dict[str, Any] | None, site: Site) -> dict[str, Any] | None:
    """Thresholds for other risks: the site's as far as they are fitted."""
    if shipped is None or not site.adapted.refitted:
        return shipped
    discs, p = site.data.read.discs, site.adapted.choice.p
    rows = [
        [round(float(v), 6) for v in site_quantiles(p, discs, alpha, np.array(q))]
        for alpha, q in zip(shipped["alpha"], shipped["q"], strict=True)
    ]
    return {"alpha": shipped["alpha"], "q": rows}


def facts(site: Site) -> list[str]:
    """What was read, what was decided and what that promises, as sentences."""
    discs, data = site.data.read.discs, site.data
    read = ", ".join(f"{grade} {n:g}" for grade, n in zip(GRADES, discs.types.round(1), strict=True))
    patients, n = len(np.unique(discs.patients)), round(discs.count())
    readers = counted(len(data.readers), "reader")
    shared = f" ({counted(data.readings, 'reading')}; a disc counts once, its readers share it)"
    several = "" if data.readings == n else shared
    sentences = [f"{counted(n, 'disc')} of {counted(patients, 'patient')}, read by {readers}: {read}{several}."]
    skipped = ", ".join(f"{n} {why}" for why, n in data.left_out.items() if n)
    sentences += [f"Not or hardly usable: {skipped}."] if skipped else []
    return [*sentences, decision(site), *_threshold_facts(site), *_stratum_facts(site)]


def decision(site: Site) -> str:
    """What the test decided, in one sentence."""
    choice = site.adapted.choice
    if choice.kind == SHIPPED:
        best = min(choice.tested, key=lambda one: one.p_value)
        return (
            f"The shipped grader is better left alone: no update was shown to be better (the nearest, {best.kind.name},"
            f" p = {best.p_value:.2f}; needed: {LEVEL:g})."
        )
    taken: Tested = next(one for one in choice.tested if one.kind == choice.kind)
    larger = "" if any(one.kind.weight_sd for one in choice.tested) else (
        f" A last layer of its own needs {PATIENTS_FOR_LAST_LAYER} patients or more."
    )  # fmt: skip
    return (
        f"Updated: {choice.kind.name}. On patients that it did not see it saves {taken.gain:.3f} of log loss a disc"
        f" (p = {taken.p_value:.4f}).{larger}"
    )


def _threshold_facts(site: Site) -> list[str]:
    discs, alpha = site.data.read.discs, site.shipped.alpha
    if discs.count() < DISCS:
        return [f"The thresholds of the prediction sets are the shipped ones: {DISCS} discs are needed for others."]
    if not site.adapted.refitted:
        return ["The thresholds are the shipped ones: on these readings they hold what they promise."]
    kept = [GRADES[k] for k in range(CLASSES) if k not in site.adapted.refitted]
    said = [
        f"Thresholds are the site's for {', '.join(GRADES[k] for k in site.adapted.refitted)}"
        + (f"; {', '.join(kept)} has fewer than {FEWEST} discs and keeps the shipped one" if kept else "")
        + "."
    ]
    for k in site.adapted.refitted:
        rows = discs.labels == k
        of = promise(effective(discs.weights[rows], discs.shares[rows]), alpha)
        said.append(
            f"{GRADES[k]}: discs worth {of.discs:.0f} evenly drawn ones promise that sets hold"
            f" {100 * (1 - alpha):.0f} % ± {100 * of.sd:.0f} points (SD; 95 of 100 sites {100 * of.low:.0f}–"
            f"{100 * of.high:.0f} %)."
        )
    return said


def _stratum_facts(site: Site) -> list[str]:
    return [
        f"{one.which}: {100 * one.share:.0f} % of the cohort's discs, {one.read} of those read."
        + (" So few promise nothing there: read more, modic review --by field,grade." if one.to_read else "")
        for one in site.drift
        if one.what == "field strength"
    ]
