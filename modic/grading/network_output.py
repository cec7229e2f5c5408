"""What the classifier's network gives for each level: what is kept of it, and what a card makes grades of.

A card's calibration, thresholds and site correction (modic/grading/site_correction.py) start from here, so that they
can be changed without opening an image again. Numbers are kept as they are used: a level graded from what an earlier
run kept has the very grade that its images would give.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.models.network import FeatureNetwork
from modic.records import LevelFeatures

if TYPE_CHECKING:
    from modic.models.network import Network
    from modic.models.weights import Model


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """Of n levels. `logits` float32 (n, classes), `slice_logits` (n, slices, classes), `features` float16 (n, k).

    k is 0 if the network gives no features.
    """

    logits: np.ndarray
    slice_logits: np.ndarray
    features: np.ndarray


def network_output(encoding: Any, classifier: "Model[Network]") -> NetworkOutput:
    """Of the encoding that `modic.grading.classify.encode_regions` made of n regions."""
    import torch

    net = classifier.net
    with torch.inference_mode():
        logits, alone = net.logits(encoding).float().cpu().numpy(), net.slice_logits(encoding).float().cpu().numpy()
        features = np.zeros((len(logits), 0), np.float16)
        if isinstance(net, FeatureNetwork):
            features = np.clip(net.level_features(encoding).float().cpu().numpy(), -6e4, 6e4).astype(np.float16)
    return NetworkOutput(logits, alone, features)


def kept_of(
    levels: Sequence[str],
    output: NetworkOutput,
    features: Mapping[str, np.ndarray],
    endplates: Mapping[str, np.ndarray],
) -> dict[str, LevelFeatures]:
    """What is kept of each level, so that another card needs no image; `joined` undoes it.

    `features`: of modic.grading.marrow_features; `endplates`: of modic.grading.marrow.MarrowMeasurements.numbers; both
    by level, as far as they were measured.
    """
    nothing = np.array([])
    parts = zip(levels, output.logits, output.slice_logits, output.features, strict=True)
    return {
        level: LevelFeatures(logits, alone, read, features.get(level, nothing), endplates.get(level, nothing))
        for level, logits, alone, read in parts
    }


def joined(kept: Sequence[LevelFeatures]) -> NetworkOutput:
    """Of levels whose features were kept."""
    return NetworkOutput(
        np.stack([one.logits for one in kept]),
        np.stack([one.slice_logits for one in kept]),
        np.stack([one.features for one in kept]),
    )
