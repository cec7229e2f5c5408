"""Discs as the fit of a site's update sees them, with the truth known."""

import numpy as np

from modic.adapt.update import Discs

TEMPERATURE = 0.7


def discs(
    n: int, *, shift: tuple[float, ...] = (0, 0, 0), types: tuple[float, ...] = (0.5, 0.2, 0.3), scale: float = 1.0,
    told: float = 0.0, width: int = 60, seed: int = 0,
) -> Discs:  # fmt: skip
    """`n` discs, four a patient, whose logits are calibrated but for `shift` and `scale`; `told`: by the features."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, n, p=types)
    logits = (rng.normal(size=(n, 3)) + np.eye(3)[labels] / TEMPERATURE) * scale + shift
    features = rng.normal(size=(n, width))
    features[:, :3] += told * np.eye(3)[labels]
    return Discs(logits, features, labels, np.arange(n) // 4, np.ones(n), np.ones(n))
