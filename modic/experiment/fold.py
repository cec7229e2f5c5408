"""Train one fold: on its training patients, stopped by others, and predict its own; the result is one immutable file.

A worker gets only the study's folder and the fold; the rest is in the folder's `private/`. A fold that was killed is
resumed from its last checkpoint (modic/train/checkpoint.py).
"""

import contextlib
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from modic.experiment.design import Fold
from modic.experiment.folder import Study, fold_path, open_study
from modic.grades import TYPES, P
from modic.tables.described import Columns, write_rows
from modic.train.augment.regions import Example

PREDICTIONS: Columns = {
    "normalization": ("string", "grey-level normalization (modic/imaging/normalize.py)"),
    "repeat": ("int64", "repeat, from 1: each divides all patients into folds anew"),
    "fold": ("int64", "fold, from 1, in which the region was predicted by a network that never saw its patient"),
    "region": ("int64", "number of the region within the study, from 0"),
    "patient": ("string", "number of the patient within the study"),
    "level": ("string", "level of the disc"),
    "label": ("int64", "Modic type by the label: 0, 1 or 2"),
    **{P[k]: ("float64", f"probability of type {k}, 0-1, not calibrated; null if the study has no such type")
       for k in TYPES},
    "mc": ("int64", "most probable type"),
}  # fmt: skip
"""One row a region, normalization and repeat."""

COSTS: Columns = {
    "epochs": ("int64", "epochs that the fold was trained for"),
    "best_epoch": ("int64", "the epoch whose weights predicted"),
    "minutes": ("float64", "how long the fold was trained, without reading and predicting"),
    "n_train": ("int64", "regions that the fold was trained on"),
}
"""The same in all rows of a fold."""

VERSIONS: Columns = {"trained_with": ("string", "JSON: versions and device that trained the fold")}
"""The same in all rows of a fold; the report may be written elsewhere, by other versions."""


def train_fold(out: str, fold: Fold, device: str) -> str:
    """Train and predict one fold of the prepared study in `out`, unless its file exists.

    Returns the name of the file, which appears whole.
    """
    study = open_study(Path(out))
    path = fold_path(study.design.out, fold)
    if not path.is_file():
        work = study.design.out / "private" / "work" / fold.id
        work.mkdir(parents=True, exist_ok=True)
        with (work / "training.log").open("a") as log, contextlib.redirect_stdout(log):
            rows = predictions(study, fold, work, device)
        write_rows(path, rows, PREDICTIONS | COSTS | VERSIONS)
        shutil.rmtree(work, ignore_errors=True)
    return path.name


def predictions(study: Study, fold: Fold, work: Path, device: str) -> list[dict[str, Any]]:
    """Train one fold; rows of `PREDICTIONS`, `COSTS` and `VERSIONS` for its regions.

    `work`: folder for checkpoints.
    """
    from modic.train.classifier import fit, new_network
    from modic.train.inference import predict
    from modic.train.loop import prepare, settings_of
    from modic.train.pretrained import Start
    from modic.versions import versions

    indices = study.split.parts(fold.repeat, fold.fold)
    parts = {part: [Example(study.discs[i]) for i in regions] for part, regions in indices.items()}
    options = study.design.training(fold, classes=study.classes, n_train=len(indices["train"]), out=work)
    options = replace(options, device=prepare(device, seed=options.seed, threads=options.threads))
    net = new_network(options, Start())
    began = time.monotonic()
    history = fit(net, parts, options, settings_of(options), work)
    costs = {
        "epochs": len(history), "best_epoch": max(row["epoch"] for row in history if row["best"]),
        "minutes": (time.monotonic() - began) / 60, "n_train": len(indices["train"]),
    }  # fmt: skip
    p = probabilities(predict(net, parts["test"], options, seed=1), study.classes)
    trained_with = {"trained_with": json.dumps(versions() | {"device": _device(options.device)})}
    return [
        prediction_row(study, fold, int(region), of_region) | costs | trained_with
        for region, of_region in zip(indices["test"], p, strict=True)
    ]


def _device(device: str) -> str:
    """The name of the GPU, or `CPU`."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


def probabilities(logits: np.ndarray, classes: tuple[int, ...]) -> np.ndarray:
    """Probabilities (n, 3) of logits (n, 3) among the types that the study has; NaN for the others."""
    p = np.full_like(logits, np.nan)
    p[:, classes] = softmax(logits[:, classes], axis=-1)
    return p


def prediction_row(study: Study, fold: Fold, region: int, p: np.ndarray) -> dict[str, Any]:
    """The row of `PREDICTIONS` of one region; `p`: of `probabilities` (3,)."""
    disc = study.discs[region]
    return {
        "normalization": fold.normalization, "repeat": fold.repeat + 1, "fold": fold.fold + 1, "region": region,
        "patient": disc.patient, "level": disc.level, "label": disc.label,
        **{P[k]: float(p[k]) if k in study.classes else None for k in TYPES},
        "mc": int(np.nanargmax(p)),
    }  # fmt: skip
