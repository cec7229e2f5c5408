"""The measured results in a classifier's card."""

from typing import TYPE_CHECKING, Any

import numpy as np

from modic.grading.classify import softmax
from modic.grading.measured import measured_of
from modic.statistics.calibration import conformal_quantiles, fit_scaling, held_out_coverage
from modic.statistics.metrics import auc_0_2, auc_interval, measure
from modic.statistics.risk_coverage import held_out_curve, threshold_table
from modic.train.augment.regions import Example
from modic.train.classifier_audit import audit_results
from modic.train.frozen import with_marrow

if TYPE_CHECKING:
    import torch

    from modic.train.options import ClassifierTraining


CARD_ALPHAS = (0.05, 0.08, 0.1, 0.13, 0.15, 0.2, 0.25, 0.3)
TITLES = {"spider": "real (SPIDER)", "painted": "real, type 1 painted", "phantom": "phantom"}


def shift_head(net: "torch.nn.Module", examples: list[Example], logits: np.ndarray) -> np.ndarray:
    """Balance the classes (`fit_scaling`) by the bias of the last layer, in place; returns what was added (3,)."""
    import torch

    shift = fit_scaling(logits, np.array([e.label for e in examples]))[1]
    with torch.no_grad():
        bias = net.get_submodule("head").get_parameter("bias")
        bias.add_(torch.as_tensor(shift, dtype=bias.dtype, device=bias.device))
    return shift


def fit_calibration(real: list[Example], logits: np.ndarray, options: "ClassifierTraining") -> dict[str, Any]:
    labels = np.array([e.label for e in real])
    temperature, _ = fit_scaling(logits, labels)
    p = softmax(logits / temperature)
    quantiles = conformal_quantiles(p, labels, alpha=options.alpha)
    return {
        "thresholds": threshold_table(p, labels),
        "temperature": round(temperature, 4), "conformal_q": [round(q, 6) for q in quantiles], "alpha": options.alpha,
        "prior": [1 / 3] * 3, "folds": options.folds, "patients": len({e.disc.patient for e in real}),
        "discs": {f"mc{k}": int((labels == k).sum()) for k in range(3)},
        "sources": sorted({TITLES.get(e.source, f"real ({e.source})") for e in real}),
    }  # fmt: skip


def cross_validation_results(
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
        },
        "risk_coverage": held_out_curve(logits, labels, patients, unpainted, CARD_ALPHAS, draws=20),
        "audit": audit_results(real, p, calibration),
    }  # fmt: skip


def test_results(
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
            logits, labels = views_by_part(net, group, options)
            logits = with_marrow(logits, group, measured_of(calibration))
            numbers = measure(softmax(logits / calibration["temperature"]), labels, calibration["conformal_q"])
            results[name] = {"patients": len({e.disc.patient for e in group}), **numbers}
            if name.startswith("real") and "painted" not in name:
                results["audit_test"] = audit_results(group, softmax(logits / calibration["temperature"]), calibration)
    unseen = [e for e in (*parts.get("calibrate", ()), *examples) if e.real]
    if unseen:
        logits = with_marrow(views_by_part(net, unseen, options)[0], unseen, measured_of(calibration))
        p, labels = softmax(logits), np.array([e.label for e in unseen])
        patients = [e.disc.patient for e in unseen]
        results["auc_real_unseen"] = {
            "why": "the weights were fitted on none of them, and calibration cannot change a rank",
            "patients": len(set(patients)), "discs": len(unseen), "auc_mc0_vs_mc2": auc_0_2(p, labels),
            "interval_95_by_patient": auc_interval(p, labels, patients),
        }  # fmt: skip
    return results


def views_by_part(
    net: "torch.nn.Module", examples: list[Example], options: "ClassifierTraining"
) -> tuple[np.ndarray, np.ndarray]:
    from modic.train.inference import predict

    return predict(net, examples, options, seed=1), np.array([e.label for e in examples])
