"""What the measured marrow adds to the network's logits: a logistic regression that a classifier's card holds.

`calibration.marrow` of the card: `names` (modic.grading.marrow_features.FEATURES), `mean` and `scale` of the training
discs, `weight` and `bias` of type 2 against type 0. It moves types 0 and 2 against each other and leaves type 1 where
it is: of type 1 no real disc was measured in training. A number that was not measured counts as the mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from modic.decode import decode
from modic.errors import WeightsError
from modic.grading.marrow_features import FEATURES

Number = Annotated[float, Field(ge=-1e6, le=1e6)]
Spread = Annotated[float, Field(ge=1e-9, le=1e6)]


@dataclass(frozen=True, slots=True)
class Measured:
    """The regression; each of the tuples has a value for each of `names`."""

    names: tuple[str, ...]
    mean: tuple[Number, ...]
    scale: tuple[Spread, ...]
    weight: tuple[Number, ...]
    bias: Number

    def logits(self, values: np.ndarray) -> np.ndarray:
        """float64 (n, 3) to add to the network's, of features (n, names); 0 for levels without any measurement."""
        known = np.isfinite(values)
        unit = np.where(known, (values - np.array(self.mean)) / np.array(self.scale), 0.0)
        fat = (unit @ np.array(self.weight) + self.bias) * known.any(1)
        return np.stack([-fat / 2, np.zeros(len(fat)), fat / 2], 1)


def measured_of(calibration: Mapping[str, Any]) -> Measured | None:
    """Of a classifier's card; None if it decides by its network alone.

    Raises WeightsError if it decides by numbers that this version does not measure, or by no usable ones.
    """
    stored = calibration.get("marrow")
    if stored is None:
        return None
    measured = decode(Measured, stored, "the classifier's card: calibration: marrow", error=WeightsError)
    lengths = {len(measured.mean), len(measured.scale), len(measured.weight)}
    if measured.names != FEATURES or lengths != {len(FEATURES)}:
        raise WeightsError("the classifier's card decides by other measurements of the marrow than this version makes")
    return measured
