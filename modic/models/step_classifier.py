"""The classifier of steps along the spine: is this a vertebra, and is it the one below C2/C3?

modic/levels/count_from_c2.py makes the features and follows the steps; modic/train/count_from_c2.py trains it. A
perceptron with one hidden layer, in NumPy, small enough to need no torch.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from modic.errors import WeightsError
from modic.models.card import STEPS, Width, parse_architecture, read_card

FLOOR = -7.0  # log probability of a class, at least
ANSWERS = 3  # none, a vertebra, the vertebra below C2/C3


@dataclass(frozen=True, slots=True)
class StepArchitecture:
    """What a card says of the network."""

    features: Annotated[int, Field(ge=1, le=65536)]
    hidden: Width


@dataclass(frozen=True, eq=False)
class StepClassifier:
    """Features of a step → none, a vertebra, the vertebra below C2/C3."""

    weights: tuple[np.ndarray, ...]  # (features, hidden), (hidden, 3)
    biases: tuple[np.ndarray, ...]

    def log_p(self, features: np.ndarray) -> np.ndarray:
        """(n, 3) log probabilities of (n, features), at least `FLOOR`."""
        hidden = np.maximum(features @ self.weights[0] + self.biases[0], 0)
        out = hidden @ self.weights[1] + self.biases[1]
        out = out - out.max(axis=1, keepdims=True)
        return np.maximum(out - np.log(np.exp(out).sum(axis=1, keepdims=True)), FLOOR)


def load_step_classifier(name: str = STEPS) -> StepClassifier:
    """The classifier that a card describes. Raises WeightsError (`read_card`)."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    card, path = read_card(name, "steps")
    layers = check_step_classifier(card)
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"steps weights: {path} is not safetensors: {error}") from error
    if {key: value.shape for key, value in stored.items()} != layers:
        raise WeightsError(f"steps weights: {path} does not fit its card's architecture")
    weights, biases = (
        tuple(stored[f"{kind}.{i}"].astype(np.float32) for i in range(2)) for kind in ("weights", "biases")
    )
    return StepClassifier(weights, biases)


def check_step_classifier(card: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors by their names. Raises WeightsError for an architecture that cannot be built."""
    built = parse_architecture(StepArchitecture, card["architecture"])
    return {
        "weights.0": (built.features, built.hidden), "biases.0": (built.hidden,),
        "weights.1": (built.hidden, ANSWERS), "biases.1": (ANSWERS,),
    }  # fmt: skip
