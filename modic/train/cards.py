"""The classifier's cards: JSON for the machine, Markdown for people. Only numbers that this training measured."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.classify import softmax
from modic.train.calibrate import conformal_quantiles, fit_scaling, held_out_coverage
from modic.train.loop import short
from modic.train.metrics import auc_0_2, auc_interval, measure
from modic.train.views import Example
from modic.weights import save_weights

if TYPE_CHECKING:
    import torch

    from modic.train.classifier import ClassifierTraining

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
DETECTOR_LIMITS = (
    "Research use; not a medical device, not for diagnosis.",
    "Levels are named without counting from C2: transitional anatomy cannot be told from ordinary anatomy for certain.",
    "SPIDER's boxes cover discs counted up from the sacrum; images whose boxes could not be named were left out of "
    "training and of the results.",
    "Measured on single mid-sagittal slices; service joins three slices. Scoliosis, fractures, implants, tumours and "
    "children are rare or absent in the data.",
)
SPIDER = (
    "SPIDER, mid-sagittal slices of T1 and T2 with radiological gradings, Zenodo 10159290, CC BY 4.0. Cite: van der "
    "Graaf J. W. et al., Lumbar spine segmentation in MR images: a dataset and a public benchmark, Scientific Data 11, "
    "264 (2024)."
)
PHANTOM = "Synthetic lumbar spines of modic.phantom (spin-echo physics, Modic 1 and 2 lesions); no patient data."
RELEASE = SPIDER.replace("mid-sagittal slices of T1 and T2", "volumes of T1 and T2, segmentations")
GROUPS = ("real", "real_mc0_mc2", "real_mc0_mc2_and_painted_mc1", "phantom")
TITLES = {"spider": "real (SPIDER)", "painted": "real, type 1 painted", "phantom": "phantom"}


def described(source: str) -> str:
    """What a card says of a source of data. Of a user's own it holds no name, place or patient."""
    texts = {"spider": SPIDER, "spider-release": RELEASE, "phantom": PHANTOM}
    return texts.get(source, f"Images and labels of whoever trained these weights (`{source}`); describe them here.")


def _licence(sources: Iterable[str]) -> str:
    if any(source.startswith("spider") for source in sources):
        return "Apache-2.0 (weights); trained on data under CC BY 4.0: keep the citation in `data`"
    return "That of the data in `data`, and of the weights that training started from"


def write_classifier(
    net: "torch.nn.Module",
    parts: dict[str, list[Example]],
    history: list[dict[str, Any]],
    options: "ClassifierTraining",
    started_from: dict[str, Any] | None = None,
    out_of_fold: tuple[list[Example], np.ndarray] | None = None,
) -> Path:
    """Calibrate, measure on `test`, write OUT/classifier.{safetensors,json,md}; returns the first.

    Calibration takes examples and logits that networks of the same recipe gave out of fold, or else the patients of
    `calibrate`: real ones where there are some, since a phantom is easier than a patient.
    """
    if out_of_fold is None:
        real = [e for e in parts["calibrate"] if e.source != "phantom"] or parts["calibrate"]
        out_of_fold = real, _views(net, real, options)[0]
    examples, logits = out_of_fold
    shift = _shift_head(net, examples, logits)
    out_of_fold = examples, logits + shift
    calibration = _calibrate(*out_of_fold, options) | {"shift": shift.round(4).tolist()}
    card = {
        "name": "classifier", "kind": "classifier", "architecture": options.architecture,
        "preprocessing": options.preprocessing, "calibration": calibration, "data": _data(parts),
        "recipe": {"command": command(options, started_from), "started_from": started_from,
                   "stopped_after": short(history[-1]), "history": [short(row) for row in history],
                   "optimizer": f"Adam {options.learning_rate}, {options.batch} discs a batch, classes equally often"
                   + ("; then types 0 and 2 by logistic regression (modic/train/refit.py)" * options.freeze_trunk)},
        "results": _cross_validation(*out_of_fold, calibration, options)
        | _results(net, parts, calibration, options), "limits": _limits(parts),
        "licence": _licence(e.disc.source for group in parts.values() for e in group),
    }  # fmt: skip
    path = save_weights(options.out / "classifier.safetensors", net.state_dict(), card)
    path.with_suffix(".md").write_text(markdown(card), encoding="utf-8")
    return path


def _limits(parts: dict[str, list[Example]]) -> list[str]:
    """`LIMITS`, but for what is not so with a user's own data."""
    examples = [e for group in parts.values() for e in group]
    own = any(e.real and e.disc.source != "spider" for e in examples)
    real1 = any(e.real and e.label == 1 for e in examples)
    tests = sum(e.real and e.label == 1 for e in parts["test"])
    limits = list(LIMITS)
    if own:
        limits[2] = "Learnt and measured on the data named here only; whether it holds elsewhere was not measured."
    if real1:
        limits[1] = (
            f"Real Modic type 1 in the test: {tests} discs. Painted and synthetic examples of type 1 were added in "
            "training; numbers on those say nothing about patients."
        )
    return limits


def command(options: "ClassifierTraining", started_from: dict[str, Any] | None) -> str:
    """The command line that repeats this training; folders are left out."""
    forms = {
        "imagenet": "imagenet",
        "weights": "FIRST.safetensors",
        "medicalnet": f"medicalnet={(started_from or {}).get('file')}",
    }
    data = " ".join("--data " + (d if d.startswith("phantom") else d.split("=")[0] + "=DIR") for d in options.data)
    data += " --labels FILE.csv" if options.labels else ""
    network = f"--backbone {options.backbone} --dropout {options.dropout:g}"
    if options.backbone == "resnet3d":
        network += f" --depth {options.depth} --widths {','.join(map(str, options.widths))}"
    return (
        f"modic train classifier {data} --out DIR --normalization {options.normalization} "
        f"--region-scale {options.region_scale:g} --region-size {options.region_size} {network} "
        f"--epochs {options.epochs} --epoch-steps {options.epoch_steps} --batch {options.batch} "
        f"--learning-rate {options.learning_rate} --patience {options.patience} --minutes {options.minutes:g} "
        f"--alpha {options.alpha} --head-penalty {options.head_penalty:g} --folds {options.folds} --seed {options.seed}"
        + (" --freeze-trunk" if options.freeze_trunk else "")
        + (" --detector detector" if options.detector else "")
        + (f" --init {forms[started_from['init']]}" if started_from else "")
    )


def _shift_head(net: "torch.nn.Module", examples: list[Example], logits: np.ndarray) -> np.ndarray:
    """Balance the classes (`fit_scaling`) by the bias of the last layer, in place; returns what was added (3,)."""
    import torch

    shift = fit_scaling(logits, np.array([e.label for e in examples]))[1]
    with torch.no_grad():
        bias = net.get_submodule("head").get_parameter("bias")
        bias.add_(torch.as_tensor(shift, dtype=bias.dtype, device=bias.device))
    return shift


def _calibrate(real: list[Example], logits: np.ndarray, options: "ClassifierTraining") -> dict[str, Any]:
    labels = np.array([e.label for e in real])
    temperature, _ = fit_scaling(logits, labels)
    quantiles = conformal_quantiles(softmax(logits / temperature), labels, alpha=options.alpha)
    return {
        "temperature": round(temperature, 4), "conformal_q": [round(q, 6) for q in quantiles], "alpha": options.alpha,
        "prior": [1 / 3] * 3, "folds": options.folds, "patients": len({e.disc.patient for e in real}),
        "discs": {f"mc{k}": int((labels == k).sum()) for k in range(3)},
        "sources": sorted({TITLES.get(e.source, f"real ({e.source})") for e in real}),
    }  # fmt: skip


def _cross_validation(
    real: list[Example], logits: np.ndarray, calibration: dict[str, Any], options: "ClassifierTraining"
) -> dict[str, Any]:
    """What networks of this recipe measured on patients of other folds; nothing where there were no folds."""
    if not options.folds:
        return {}
    p, labels = softmax(logits / calibration["temperature"]), np.array([e.label for e in real])
    unpainted = np.array([e.real for e in real])
    patients = [e.disc.patient for e in real]
    either = unpainted & (labels != 1)
    coverage = held_out_coverage(logits, labels, patients, alpha=options.alpha)
    rightly = [(p[either & (labels == k)][:, [0, 2]].argmax(1) == k // 2).mean() for k in (0, 2)]
    inside = [patient for patient, is_real in zip(patients, unpainted, strict=True) if is_real]
    return {
        "cross_validation": {
            "why": f"{options.folds} folds by patient, the test patients left out of all", "patients": len(set(inside)),
            "auc_mc0_vs_mc2_of_real_discs": auc_0_2(p[unpainted], labels[unpainted]),
            "interval_95_by_patient": auc_interval(p[unpainted], labels[unpainted], inside),
            "balanced_accuracy_mc0_mc2_of_real_discs": round(float(np.mean(rightly)), 3),
            "coverage_of_patients_not_calibrated_on": {
                f"mc{k}": None if share is None else round(share, 3) for k, share in enumerate(coverage)
            },
            **measure(p, labels, calibration["conformal_q"]),
        }
    }  # fmt: skip


def _results(
    net: "torch.nn.Module",
    parts: dict[str, list[Example]],
    calibration: dict[str, Any],
    options: "ClassifierTraining",
) -> dict[str, Any]:
    examples = parts["test"]
    groups = {
        "real" if any(e.real and e.label == 1 for e in examples) else "real_mc0_mc2": [e for e in examples if e.real],
        "real_mc0_mc2_and_painted_mc1": [e for e in examples if e.source != "phantom"],
        "phantom": [e for e in examples if e.source == "phantom"],
    }
    results: dict[str, Any] = {
        "split": "test patients: seen neither in training, nor for stopping, nor for calibration"
    }
    for name, group in groups.items():
        if group:
            logits, labels = _views(net, group, options)
            numbers = measure(softmax(logits / calibration["temperature"]), labels, calibration["conformal_q"])
            results[name] = {"patients": len({e.disc.patient for e in group}), **numbers}
    unseen = [e for e in (*parts.get("calibrate", ()), *examples) if e.real]
    if unseen:
        p, labels = softmax(_views(net, unseen, options)[0]), np.array([e.label for e in unseen])
        patients = [e.disc.patient for e in unseen]
        results["auc_real_unseen"] = {
            "why": "the weights were fitted on none of them, and calibration cannot change a rank",
            "patients": len(set(patients)), "discs": len(unseen), "auc_mc0_vs_mc2": auc_0_2(p, labels),
            "interval_95_by_patient": auc_interval(p, labels, patients),
        }  # fmt: skip
    return results


def _views(
    net: "torch.nn.Module", examples: list[Example], options: "ClassifierTraining"
) -> tuple[np.ndarray, np.ndarray]:
    from modic.train.classifier import predict

    return predict(net, examples, options, seed=1), np.array([e.label for e in examples])


def _data(parts: dict[str, list[Example]]) -> dict[str, Any]:
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
        **{f"mc{k}": sum(e.label == k for e in plain) for k in range(3)},
    }


def markdown(card: dict[str, Any]) -> str:
    """The card for people."""
    pre, arch = card["preprocessing"], card["architecture"]
    lines = [
        "# Classifier card", "",
        f"{_network(arch)}; Modic type 0, 1 or 2 of one disc level. Regions of {pre['slices']} slices, "
        f"{pre['region_size']} px, {pre['region_scale']} × the disc box; normalization `{pre['normalization']}`.", "",
        "## Limits", *(f"- {limit}" for limit in card["limits"]), "",
        "## Results", card["results"]["split"] + ".", "",
        "| patients | n | discs | sensitivity | balanced accuracy | AUC MC0/MC2 | abstained | right where not |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(name, card["results"][name]) for name in GROUPS if name in card["results"]), "",
        *_folds(card["results"].get("cross_validation")),
        *_unseen(card["results"].get("auc_real_unseen")),
        "## Data", *(f"- {text}" for text in card["data"]["sources"].values()), "",
        "| part | source | patients | MC0 | MC1 | MC2 |", "|---|---|---|---|---|---|",
        *(f"| {part} | {source} | {n['patients']} | {n['mc0']} | {n['mc1']} | {n['mc2']} |"
          for part, sources in card["data"]["parts"].items() for source, n in sources.items()), "",
        "Type 1 in real patients: painted into healthy discs (modic/train/lesions.py). Real slices that come without "
        "boxes are boxed by the detector where it is sure of all six levels and both contrasts agree.", "",
        "## Calibration",
        f"Temperature {card['calibration']['temperature']}, class-conditional conformal sets at alpha "
        f"{card['calibration']['alpha']}, fitted on {card['calibration']['patients']} patients "
        + ("out of fold: by networks that had not seen them." if card["calibration"].get("folds") else "kept for it."),
        "",
        "## Recipe", *_commands(card["recipe"]), "", card["recipe"]["optimizer"] + ".",
        f"Stopped after {card['recipe']['stopped_after']}.", "", "## Licence", card["licence"], "",
    ]  # fmt: skip
    return "\n".join(lines)


def _network(arch: dict[str, Any]) -> str:
    if arch.get("backbone", "resnet3d") == "resnet3d":
        return f"Two identical 3D ResNets (depth {arch['depth']}, widths {arch['widths']}), T1 and T2, features joined"
    return (
        "Each slice of T1 and T2 through three layers of one EfficientNet-Lite0, features joined and averaged over "
        "slices, and a layer that sees both contrasts at one place and speaks for type 1 only (modic/slicenet.py)"
    )


def _folds(group: dict[str, Any] | None) -> list[str]:
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
    if not group or group["auc_mc0_vs_mc2"] is None:
        return []
    low, high = group["interval_95_by_patient"]
    text = f"AUC MC0/MC2 over the {group['patients']} real patients that the weights were not fitted on"
    return [
        f"{text} ({group['discs']} discs): {group['auc_mc0_vs_mc2']:.2f} ({low:.2f}-{high:.2f}); {group['why']}.",
        "",
    ]


def _commands(recipe: dict[str, Any]) -> list[str]:
    """The trainings that led here, the first one first."""
    earlier, commands = recipe.get("started_from"), [recipe["command"]]
    while earlier:
        known = earlier.get("command")
        commands.insert(0, known or f"{earlier.get('file')}, SHA-256 {earlier['sha256']}")
        earlier = earlier.get("before")
    return [f"{number}. `{line}`" for number, line in enumerate(commands, 1)]


def _row(name: str, group: dict[str, Any]) -> str:
    sensitivity = ", ".join(f"{k} {v:.2f}" for k, v in group["sensitivity"].items())
    auc, right = group["auc_mc0_vs_mc2"], group["accuracy_where_not_abstained"]
    cells = [
        name.replace("_", " "), group["patients"], group["discs"], sensitivity, f"{group['balanced_accuracy']:.2f}",
        "–" if auc is None else f"{auc:.2f}", f"{group['abstained']:.0%}", "–" if right is None else f"{right:.0%}",
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def write_detector(
    state: dict[str, Any], results: dict[str, Any], data: dict[str, int], recipe: dict[str, Any], path: Path
) -> Path:
    """Write the detector's weights and both cards; returns `path`. `recipe` holds architecture and preprocessing."""
    card = {
        "name": "detector", "kind": "detector", "architecture": recipe.pop("architecture"),
        "preprocessing": recipe.pop("preprocessing"),
        "data": {"patients": data, "sources": {name: described(name) for name in data}},
        "recipe": recipe, "results": results, "limits": list(DETECTOR_LIMITS),
        "licence": _licence(data),
    }  # fmt: skip
    save_weights(path, state, card)
    path.with_suffix(".md").write_text(detector_markdown(card), encoding="utf-8")
    return path


def detector_markdown(card: dict[str, Any]) -> str:
    """The detector's card for people."""
    arch, pre = card["architecture"], card["preprocessing"]
    lines = [
        "# Detector card", "",
        f"Faster R-CNN, {arch['backbone']} with a feature pyramid of {arch['fpn_channels']} channels, seven classes "
        f"(background and T12/L1 to L5/S1), on sagittal slices of {pre['image_size']} px. Boxes are the disc with a "
        "margin of about 5 mm, as SPIDER's are.", "",
        "## Limits", *(f"- {limit}" for limit in card["limits"]), "",
        "## Results", "Patients of the test split (20 %, by a hash of the patient): not seen in training nor for "
        "choosing the epoch. IoU and score are means over the levels found; `named right` counts boxes of the right "
        "name with IoU of at least 0.5.", "",
    ]  # fmt: skip
    for name, result in card["results"].items():
        lines += [
            f"**{name}**: {result['slices']} slices of {result['patients']} patients; every visible level named right "
            f"in {_share(result['all_named_right'])} of the slices.", "",
            "| level | n | IoU | score | named right |", "|---|---|---|---|---|",
            *(f"| {level} | {row['n']} | {row['iou']} | {row['score']} | {_share(row['named_right'])} |"
              for level, row in result.items() if isinstance(row, dict)), "",
        ]  # fmt: skip
    if card.get("elsewhere"):
        lines += ["## Measured elsewhere", *(f"- {text}" for text in card["elsewhere"]), ""]
    lines += ["## Data", *(f"- {text}" for text in card["data"]["sources"].values()), ""]
    lines += ["## Recipe", *(f"- {key}: {value}" for key, value in card["recipe"].items()), ""]
    return "\n".join([*lines, "## Licence", card["licence"], ""])


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
