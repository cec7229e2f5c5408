"""What a site's readings add to the network's logits: `calibration.site` of a card that `modic adapt` wrote.

`shift` (a number a type) undoes a bias between types; `weights` (types, features), where there are any, are a last
layer fitted to the site, on the network's level features (modic/grading/network_output.py). Slices alone get what their
level gets. The temperature of the card then applies to the sum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from modic.decode import decode
from modic.errors import WeightsError
from modic.grades import CLASSES

Number = Annotated[float, Field(ge=-1e4, le=1e4)]


@dataclass(frozen=True, slots=True)
class SiteCorrection:
    """`shift`: one a type. `weights`: for each type none, or one for each of the network's features."""

    shift: tuple[Number, ...] = (0.0,) * CLASSES
    weights: tuple[tuple[Number, ...], ...] = ((),) * CLASSES

    def logits(self, features: np.ndarray) -> np.ndarray:
        """float64 (n, types) to add, of features (n, k). Raises WeightsError if they are not those it was fitted on."""
        for weights in self.weights:
            if weights and len(weights) != features.shape[1]:
                raise WeightsError(
                    f"the classifier's card was adapted to {len(weights)} features, its network gives"
                    f" {features.shape[1]}: adapt again with this network"
                )
        return corrections(features, np.array(self.shift), [np.array(weights) for weights in self.weights])


def corrections(features: np.ndarray, shift: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    """float64 (n, types): shift (types,) and, of each type with weights (k,), these on features (n, k).

    A row does not depend on the others of its batch, to the last bit.
    """
    added = np.tile(shift, (len(features), 1)).astype(np.float64)
    for k, of_type in enumerate(weights):
        if len(of_type):
            added[:, k] += (features.astype(np.float64) * of_type).sum(1)
    return added


def site_correction_of(calibration: Mapping[str, Any]) -> SiteCorrection | None:
    """Of a classifier's card; None if it was not adapted to a site. Raises WeightsError for one that cannot be used."""
    stored = calibration.get("site")
    if stored is None:
        return None
    correction = decode(SiteCorrection, stored, "the classifier's card: calibration: site", error=WeightsError)
    if {len(correction.shift), len(correction.weights)} != {CLASSES}:
        raise WeightsError(f"the classifier's card: calibration: site needs a shift and weights for {CLASSES} types")
    return correction
