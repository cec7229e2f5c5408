"""Weights of the paper's design for tests: ResNet50-FPN and two 3D ResNets, thin, untrained, always alike."""

from pathlib import Path
from typing import Any

import torch

from modic.models.classifier import build_classifier
from modic.models.detector import build_detector
from modic.models.weights import save_weights

DETECTOR = {"backbone": "resnet50", "fpn_channels": 8, "head_features": 8}
CLASSIFIER = {"backbone": "resnet3d", "depth": 10, "widths": [4, 4, 8, 8]}
PREPROCESSING = {"normalization": "standardize", "region_scale": 1.35, "region_size": 32, "slices": 5}
CALIBRATION = {"temperature": 1.0, "conformal_q": [0.7] * 3, "alpha": 0.2}
SURE_OF = 2  # the classifier leans to this type


def write_paper_design(folder: Path) -> Path:
    """FOLDER/detector/detector.safetensors and FOLDER/classifier/classifier.safetensors with cards, as `modic train`
    lays them; returns `folder`."""
    torch.manual_seed(0)
    detector = build_detector(DETECTOR)
    card: dict[str, Any] = {"kind": "detector", "preprocessing": {"image_size": 64, "percentiles": [1.0, 99.5]}}
    save_weights(folder / "detector" / "detector.safetensors", detector.state_dict(), card | {"architecture": DETECTOR})
    classifier = build_classifier(CLASSIFIER)
    classifier.get_submodule("head").get_parameter("bias").data[SURE_OF] += 3
    with torch.no_grad():
        for _ in range(40):  # the running statistics of batch normalization
            classifier(torch.randn(8, 2, 5, 32, 32))
    card = {"kind": "classifier", "architecture": CLASSIFIER, "preprocessing": PREPROCESSING}
    path = folder / "classifier" / "classifier.safetensors"
    save_weights(path, classifier.state_dict(), card | {"calibration": CALIBRATION})
    return folder
