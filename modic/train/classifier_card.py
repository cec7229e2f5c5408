"""The classifier's cards: JSON for the machine, Markdown for people. They hold only numbers of this training."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.grades import TYPES
from modic.imaging.regions import contrast_label
from modic.models.weights import save_weights
from modic.text import counted
from modic.train.augment.regions import Example
from modic.train.classifier_audit import audit_markdown, sections_markdown
from modic.train.classifier_results import cross_validation_results, fit_calibration, graded, shift_head, test_results
from modic.train.command_line import command
from modic.train.data_citations import described, licence, share_text
from modic.train.loop import short

if TYPE_CHECKING:
    import torch

    from modic.train.options import ClassifierTraining

LIMITS = (
    "Research use; not a medical device, not for diagnosis.",
    "Never validated on real Modic type 1: its examples are painted into real regions or synthetic, in training and "
    "in every number about type 1 here.",
    "Type 0 against 2 was learnt and measured on one mid-sagittal slice a patient (SPIDER), which readers graded on "
    "the whole volume; five real slices of real patients were never measured.",
    "Modic type 3, haemangioma, fracture, infection, metastasis and surgery are not classes; such discs get a wrong "
    "grade or none.",
    "Probabilities assume the three types equally frequent, as in training; multiply by a cohort's own prevalence and "
    "rescale, or correct the counts (Rogan-Gladen), before reading them as risks.",
)
PHANTOMS_ALONE = (
    "Trained, calibrated and measured on phantoms alone: no patient was seen. Every number here is one about a model "
    "of spin-echo physics and drawn lesions, and says nothing about patients.",
    "Real STIR differs from the phantom's: fat that is nulled unevenly, pulsation, vessels, other causes of oedema.",
)
GROUPS = ("real", "real_mc0_mc2", "real_mc0_mc2_and_painted_mc1", "phantom", "cross_validation_of_phantoms")


def write_classifier(
    net: "torch.nn.Module", parts: dict[str, list[Example]], history: list[dict[str, Any]],
    options: "ClassifierTraining", started_from: dict[str, Any] | None = None,
    out_of_fold: tuple[list[Example], np.ndarray] | None = None, measured: dict[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Calibrate, measure on the test patients, write OUT/classifier.{safetensors,json,md}; returns the first.

    Args:
        net: the trained network; its last layer is shifted to balance the types.
        parts: examples by part of the split (modic.train.sampling.examples_by_part).
        history: one row an epoch.
        started_from: the record of the weights that training started from (modic.train.pretrained.Start).
        out_of_fold: examples and logits (n, 3) of cross-validation, to calibrate on. Without them the patients of
            `calibrate` are taken: real ones if there are some, since a phantom is easier than a patient.
        measured: the marrow's part of the calibration (modic.train.frozen.record).
    """
    if out_of_fold is None:
        real = [e for e in parts["calibrate"] if e.source != "phantom"] or parts["calibrate"]
        out_of_fold = real, graded(net, real, options)[0]
    examples, logits = out_of_fold
    shift = shift_head(net, examples, logits)
    out_of_fold = examples, logits + shift
    calibration = fit_calibration(*out_of_fold, options) | {"shift": shift.round(4).tolist()} | (measured or {})
    card = {
        "name": "classifier", "kind": "classifier", "architecture": options.architecture,
        "preprocessing": options.preprocessing, "calibration": calibration, "data": _data(parts),
        "recipe": _recipe(options, history, started_from),
        "results": cross_validation_results(*out_of_fold, calibration, options)
        | test_results(net, parts, calibration, options), "limits": _limits(parts),
        "licence": licence(e.disc.source for group in parts.values() for e in group),
    }  # fmt: skip
    path = save_weights(options.out / "classifier.safetensors", net.state_dict(), card)
    path.with_suffix(".md").write_text(markdown(card), encoding="utf-8")
    return path


def _recipe(
    options: "ClassifierTraining", history: list[dict[str, Any]], started_from: dict[str, Any] | None
) -> dict[str, Any]:
    optimizer = f"Adam {options.learning_rate}, {options.batch} discs a batch, classes equally often"
    if options.freeze_trunk:
        optimizer += "; then types 0 and 2 by logistic regression (modic/train/refit_head.py)"
    return {
        "command": command("classifier", options), "started_from": started_from, "stopped_after": short(history[-1]),
        "history": [short(row) for row in history], "optimizer": optimizer,
    }  # fmt: skip


def _limits(parts: dict[str, list[Example]]) -> list[str]:
    """`LIMITS`, with those replaced that do not hold for a user's own data."""
    examples = [e for group in parts.values() for e in group]
    own = any(e.real and e.disc.source != "spider" for e in examples)
    real1 = any(e.real and e.label == 1 for e in examples)
    tests = sum(e.real and e.label == 1 for e in parts["test"])
    limits = list(LIMITS)
    if not any(e.real for e in examples):
        return [limits[0], *PHANTOMS_ALONE, *limits[3:]]
    if own:
        limits[2] = "Learnt and measured on the data named here only; data from elsewhere were not measured."
    if real1:
        limits[1] = (
            f"Real Modic type 1 in the test: {counted(tests, 'disc')}. Painted and synthetic examples of type 1 were "
            "added in training; numbers on those say nothing about patients."
        )
    return limits


def _data(parts: dict[str, list[Example]]) -> dict[str, Any]:
    """The card's `data`: what the sources are, and the patients and discs of each part of the split."""
    sources = {e.disc.source for group in parts.values() for e in group}
    counts = {
        part: {source: _counted([e for e in group if e.disc.source == source]) for source in sorted(sources)}
        for part, group in parts.items()
    }
    return {"sources": {source: described(source) for source in sorted(sources)}, "parts": counts}


def _counted(examples: list[Example]) -> dict[str, int]:
    plain = [e for e in examples if not e.painted]
    return {
        "patients": len({e.disc.patient for e in plain}),
        **{f"mc{k}": sum(e.label == k for e in plain) for k in TYPES},
    }


def markdown(card: dict[str, Any]) -> str:
    """The card for people."""
    pre, arch = card["preprocessing"], card["architecture"]
    lines = [
        "# Classifier card", "",
        f"{_network(arch, pre['contrasts'])}; Modic type 0, 1 or 2 of one disc level. Regions of {pre['slices']} "
        f"slices, {pre['region_size']} px, {pre['region_scale']} × the disc box; normalization "
        f"`{pre['normalization']}`.", "",
        "## Limits", *(f"- {limit}" for limit in card["limits"]), "",
        "## Results", card["results"]["split"] + ".", "",
        "| patients | n | discs | sensitivity | balanced accuracy | AUC MC0/MC2 | abstained | right where not |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(name, card["results"][name]) for name in GROUPS if name in card["results"]), "",
        *_folds(card["results"].get("cross_validation")),
        *_unseen(card["results"].get("auc_real_unseen")),
        *audit_markdown(card["results"]),
        *sections_markdown(card.get("sections", ())),
        "## Data", *(f"- {text}" for text in card["data"]["sources"].values()), "",
        "| part | source | patients | MC0 | MC1 | MC2 |", "|---|---|---|---|---|---|",
        *(f"| {part} | {source} | {n['patients']} | {n['mc0']} | {n['mc1']} | {n['mc2']} |"
          for part, sources in card["data"]["parts"].items() for source, n in sources.items()), "",
        *((
            "Type 1 in real patients: painted into healthy discs (modic.train.augment.lesions). Real slices without "
            "boxes are boxed by the detector if it is sure of all six levels and both contrasts agree.", "",
        ) if any(source != "phantom" for source in card["data"]["sources"]) else ()),
        "## Calibration",
        f"Temperature {card['calibration']['temperature']}, class-conditional conformal sets at alpha "
        f"{card['calibration']['alpha']}, fitted on {card['calibration']['patients']} patients "
        + ("out of fold: by networks that had not seen them." if card["calibration"].get("folds") else "kept for it."),
        "",
        "## Recipe", *_commands(card["recipe"]), "", card["recipe"]["optimizer"] + ".",
        f"Stopped after {card['recipe']['stopped_after']}.", "", "## Licence", card["licence"], "",
    ]  # fmt: skip
    return "\n".join(lines)


def _network(arch: dict[str, Any], contrasts: list[str]) -> str:
    names = " and ".join(map(contrast_label, contrasts))
    if arch.get("backbone", "resnet3d") == "resnet3d":
        return f"Two identical 3D ResNets (depth {arch['depth']}, widths {arch['widths']}), {names}, features joined"
    return (
        f"Each slice of {names} through three layers of one EfficientNet-Lite0, features joined and averaged over "
        "slices, and a layer that reads both contrasts at one place and speaks for type 1 only (modic.models.slice_net)"
    )


def _folds(group: dict[str, Any] | None) -> list[str]:
    """The paragraph on cross-validation."""
    if not group:
        return []
    low, high = group["interval_95_by_patient"]
    sensitivity, coverage = (
        ", ".join(f"{k} {v:.2f}" for k, v in group.get(key, {}).items() if v is not None)
        for key in ("sensitivity", "coverage_of_patients_not_calibrated_on")
    )
    return [
        f"Cross-validation ({group['why']}): {group['patients']} real patients, AUC MC0/MC2 "
        f"{group['auc_mc0_vs_mc2_of_real_discs']:.2f} (95 % interval {low:.2f}-{high:.2f}), balanced accuracy MC0/MC2 "
        f"{group['balanced_accuracy_mc0_mc2_of_real_discs']:.2f}. With painted type 1 and three classes: sensitivity "
        f"{sensitivity}; abstained {group['abstained']:.0%}, right where not "
        f"{group['accuracy_where_not_abstained'] or 0:.0%}. Coverage of the prediction sets where calibration saw half "
        f"of these patients and coverage was counted on the other half (200 times): {coverage}.", "",
    ]  # fmt: skip


def _unseen(group: dict[str, Any] | None) -> list[str]:
    """The paragraph on all patients that the weights were not fitted on."""
    if not group or group["auc_mc0_vs_mc2"] is None:
        return []
    low, high = group["interval_95_by_patient"]
    text = f"AUC MC0/MC2 over the {group['patients']} real patients that the weights were not fitted on"
    return [
        f"{text} ({group['discs']} discs): {group['auc_mc0_vs_mc2']:.2f} ({low:.2f}-{high:.2f}); {group['why']}.",
        "",
    ]


def _commands(recipe: dict[str, Any]) -> list[str]:
    """The command lines that led to these weights, the first training first."""
    earlier, commands = recipe.get("started_from"), [recipe["command"]]
    while earlier:
        known = earlier.get("command")
        commands.insert(0, known or f"{earlier.get('file')}, SHA-256 {earlier['sha256']}")
        earlier = earlier.get("before")
    return [f"{number}. `{line}`" for number, line in enumerate(commands, 1)]


def _row(name: str, group: dict[str, Any]) -> str:
    """A row of the table of results."""
    sensitivity = ", ".join(f"{k} {v:.2f}" for k, v in group["sensitivity"].items())
    auc = group["auc_mc0_vs_mc2"]
    cells = [
        name.replace("_", " "), group["patients"], group["discs"], sensitivity, f"{group['balanced_accuracy']:.2f}",
        "–" if auc is None else f"{auc:.2f}", share_text(group["abstained"]),
        share_text(group["accuracy_where_not_abstained"]),
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"
