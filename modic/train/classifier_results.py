"""The calibration and the measured results in a classifier's card."""

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from modic.grades import CLASSES, TYPES
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
"""The rows of the card's table of risk and coverage."""
TITLES = {"spider": "real (SPIDER)", "painted": "real, type 1 painted", "phantom": "phantom"}
"""Words for the sources of calibration discs; another source is `real (SOURCE)`."""


def shift_head(net: "torch.nn.Module", examples: list[Example], logits: np.ndarray) -> np.ndarray:
    """Balance the types by the bias of the network's last layer, in place; returns the shift that was added (3,).

    Args:
        examples, logits: graded examples that the network was not fitted on, and their logits (n, 3) for `fit_scaling`.
    """
    import torch

    shift = fit_scaling(logits, np.array([e.label for e in examples]))[1]
    with torch.no_grad():
        bias = net.get_submodule("head").get_parameter("bias")
        bias.add_(torch.as_tensor(shift, dtype=bias.dtype, device=bias.device))
    return shift


def fit_calibration(examples: list[Example], logits: np.ndarray, options: "ClassifierTraining") -> dict[str, Any]:
    """The card's `calibration`, fitted on examples and their logits (n, 3)."""
    labels = np.array([e.label for e in examples])
    temperature, _ = fit_scaling(logits, labels)
    p = softmax(logits / temperature, axis=-1)
    quantiles = conformal_quantiles(p, labels, alpha=options.alpha)
    return {
        "thresholds": threshold_table(p, labels),
        "temperature": round(temperature, 4), "conformal_q": [round(q, 6) for q in quantiles], "alpha": options.alpha,
        "prior": [1 / CLASSES] * CLASSES, "folds": options.folds, "patients": len({e.disc.patient for e in examples}),
        "discs": {f"mc{k}": int((labels == k).sum()) for k in TYPES},
        "sources": sorted({TITLES.get(e.source, f"real ({e.source})") for e in examples}),
    }  # fmt: skip


def cross_validation_results(
    examples: list[Example], logits: np.ndarray, calibration: dict[str, Any], options: "ClassifierTraining"
) -> dict[str, Any]:
    """The card's results of cross-validation, from logits (n, 3) out of fold; empty without folds."""
    if not options.folds:
        return {}
    p, labels = softmax(logits / calibration["temperature"], axis=-1), np.array([e.label for e in examples])
    real = np.array([e.real for e in examples])
    patients = [e.disc.patient for e in examples]
    if not real.any():
        numbers = measure(p, labels, calibration["conformal_q"])
        return {"cross_validation_of_phantoms": {"patients": len(set(patients)), **numbers}}
    coverage = held_out_coverage(logits, labels, patients, alpha=options.alpha)
    right = [(p[real & (labels == k)][:, [0, 2]].argmax(1) == k // 2).mean() for k in (0, 2)]
    real_patients = [patient for patient, is_real in zip(patients, real, strict=True) if is_real]
    return {
        "cross_validation": {
            "why": f"{options.folds} folds by patient, the test patients left out of all",
            "patients": len(set(real_patients)),
            "auc_mc0_vs_mc2_of_real_discs": auc_0_2(p[real], labels[real]),
            "interval_95_by_patient": auc_interval(p[real], labels[real], real_patients),
            "balanced_accuracy_mc0_mc2_of_real_discs": round(float(np.mean(right)), 3),
            "coverage_of_patients_not_calibrated_on": {
                f"mc{k}": None if share is None else round(share, 3) for k, share in enumerate(coverage)
            },
            **measure(p, labels, calibration["conformal_q"]),
        },
        "risk_coverage": held_out_curve(logits, labels, patients, real, CARD_ALPHAS, draws=20),
        "audit": audit_results(examples, p, calibration),
    }  # fmt: skip


def test_results(
    net: "torch.nn.Module", parts: dict[str, list[Example]], calibration: dict[str, Any],
    options: "ClassifierTraining",
) -> dict[str, Any]:  # fmt: skip
    """The card's results on the test patients, and the AUC over all patients that the weights were not fitted on."""
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
            logits, labels = graded(net, group, options)
            logits = with_marrow(logits, group, measured_of(calibration))
            p = softmax(logits / calibration["temperature"], axis=-1)
            numbers = measure(p, labels, calibration["conformal_q"])
            results[name] = {"patients": len({e.disc.patient for e in group}), **numbers}
            if name.startswith("real") and "painted" not in name:
                results["audit_test"] = audit_results(group, p, calibration)
    unseen = [e for e in (*parts.get("calibrate", ()), *examples) if e.real]
    if unseen:
        logits, labels = graded(net, unseen, options)
        logits = with_marrow(logits, unseen, measured_of(calibration))
        p = softmax(logits, axis=-1)
        patients = [e.disc.patient for e in unseen]
        results["auc_real_unseen"] = {
            "why": "the weights were fitted on none of them, and calibration cannot change a rank",
            "patients": len(set(patients)), "discs": len(unseen), "auc_mc0_vs_mc2": auc_0_2(p, labels),
            "interval_95_by_patient": auc_interval(p, labels, patients),
        }  # fmt: skip
    return results


def graded(
    net: "torch.nn.Module", examples: list[Example], options: "ClassifierTraining"
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, 3) of measuring views, and labels (n,)."""
    from modic.train.inference import predict

    return predict(net, examples, options, seed=1), np.array([e.label for e in examples])
