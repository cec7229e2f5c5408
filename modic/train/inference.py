"""Predictions of a network on labelled discs, in training and in evaluation."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from modic.grades import CLASSES
from modic.train.augment.regions import Example, Stress, measuring_view
from modic.train.options import ClassifierTraining

if TYPE_CHECKING:
    import torch

BATCH = 32  # views predicted at once


def network_batch(views: list[np.ndarray], device: str) -> "torch.Tensor | list[torch.Tensor]":
    """Views, each float32 (2, slices, size, size), as one tensor; as a list if their numbers of slices differ."""
    import torch

    tensors = [torch.from_numpy(view).to(device) for view in views]
    return torch.stack(tensors) if len({view.shape for view in views}) == 1 else tensors


def predict(
    net: "torch.nn.Module", examples: list[Example], options: ClassifierTraining, *, seed: int = 0,
    stress: Stress | None = None,
) -> np.ndarray:  # fmt: skip
    """Logits, float64 (n, 3), of measuring views, made harder by `stress`; the network ends in evaluation mode."""
    import torch

    net.eval()
    rows = []
    for batch in measuring_batches(examples, options, seed=seed, stress=stress):
        with torch.inference_mode():
            rows.append(net(batch).double().cpu().numpy())
    return np.concatenate(rows) if rows else np.zeros((0, CLASSES))


def measuring_batches(
    examples: list[Example], options: ClassifierTraining, *, seed: int, stress: Stress | None = None
) -> Iterator["torch.Tensor | list[torch.Tensor]"]:
    """Measuring views of all examples in their order, `BATCH` at a time; the same for the same seed."""
    view = partial(
        measuring_view, size=options.region_size, method=options.normalization, repeats=options.repeats, stress=stress
    )
    for start in range(0, len(examples), BATCH):
        some = enumerate(examples[start : start + BATCH], 1000 * seed + start)
        yield network_batch([view(example, number) for number, example in some], options.device)
