"""Trains the classifier by which modic/levels/count_from_c2.py counts, on whole spines of the phantom; measures it on
others.

`python -m modic.train.count_from_c2 OUT.safetensors --patients 110 --held-out 42`: 4 minutes on one busy core
for training, and 5 s for each held-out patient.

First it learns true steps against shifted, short, long and turned ones. Then it follows spines with what it knows, and
learns from the candidates that looked best or most like an end (`SECOND_ROUND` patients), right or wrong.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modic.levels import count_from_c2 as c2
from modic.models.step_classifier import StepClassifier
from modic.phantom.anatomy import make_patient
from modic.phantom.physics import Sequence
from modic.phantom.render import Grid, render_many
from modic.phantom.whole_spine import disc_centres_mm, with_whole_spine

HIDDEN, EPOCHS = 48, 8
HELD_OUT = 1_000_000  # seeds of held-out patients begin here
SECOND_ROUND = 50
NAMED_SD_MM = 1.5  # of the discs that the lumbar image named
RIGHT, WRONG = (0.22, 0.2), (0.4, 0.35)  # of a distance: errors of the lower and the upper disc


@dataclass(frozen=True, eq=False)
class Spine:
    """One slice of one contrast, scaled, with the true discs (n, 2) in mm of the plane, foot to head."""

    image: np.ndarray
    pixel: np.ndarray
    discs: np.ndarray


def spines(seed: int) -> Iterator[Spine]:
    """T2 and T1 localizers of a patient of 22, 23 or 24 discs; pixels 1.0 to 1.8 mm, SNR 20 to 60."""
    rng = np.random.default_rng([seed, 9])
    patient = with_whole_spine(make_patient(seed), seed=1, more=seed % 3 - 1)
    discs = disc_centres_mm(patient)
    pixel = float(rng.uniform(1, 1.8))
    x = float(np.median(discs[:, 0]) + rng.uniform(-3, 3))
    y = float((discs[:, 1].min() + discs[:, 1].max()) / 2 + rng.uniform(-20, 20))
    z = float((discs[0, 2] + discs[-1, 2]) / 2 + rng.uniform(-10, 25))
    grid = Grid("sagittal", int(760 / pixel), int(300 / pixel), pixel, 1, 8.0, 6.0, (x, y, z))
    field = float(rng.choice([1.5, 3.0]))
    t2 = Sequence("t2", float(rng.uniform(2500, 4500)), float(rng.uniform(80, 120)), field_t=field)
    t1 = Sequence("t1", float(rng.uniform(450, 700)), float(rng.uniform(8, 14)), field_t=1.5)
    for volume in render_many(patient, grid, [t2, t1], seed=seed, snr=float(rng.uniform(20, 60)), coil=0.2):
        canonical = volume.canonical()
        spacing = np.array(canonical.spacing_mm[:2])
        yield Spine(c2.scaled(canonical.voxels[0]), spacing, canonical.to_index(discs)[:, :2] * spacing)


def start(spine: Spine, rng: np.random.Generator) -> np.ndarray:
    """The six named discs (6, 2), foot to head, as a detector would give them."""
    return spine.discs[: c2.NAMED] + rng.normal(0, NAMED_SD_MM, (c2.NAMED, 2))


def labels(lower: np.ndarray, upper: np.ndarray, discs: np.ndarray) -> np.ndarray:
    """(n,) of steps: 0 none, 1 a vertebra, 2 the one below C2/C3, -1 neither right nor wrong enough to learn from."""
    last = len(discs) - 1
    distance = np.linalg.norm(lower[:, None] - discs, axis=2)
    nearest, off = distance.argmin(axis=1), distance.min(axis=1)
    scale = np.linalg.norm(np.diff(discs, axis=0), axis=1)[np.minimum(nearest, last - 1)]
    beyond = np.linalg.norm(upper - discs[np.minimum(nearest + 1, last)], axis=1)
    beyond = np.where(nearest < last, beyond, np.inf)
    right = (off < RIGHT[0] * scale) & (beyond < RIGHT[1] * scale)
    wrong = (off > WRONG[0] * scale) | (beyond > WRONG[1] * scale)
    return np.select([wrong, right & (nearest == last - 1), right], [0, 2, 1], -1)


def samples(discs: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends (n, 2) of steps: true ones, a little off, and shifted, short, long and turned ones."""
    last = len(discs) - 1
    step = np.diff(discs, axis=0)
    true = np.repeat([*range(3, last), last - 1, last - 1], 2)
    size = np.linalg.norm(step, axis=1)
    lower = [discs[true] + rng.normal(0, 0.07, (len(true), 2)) * size[true, None]]
    upper = [discs[true + 1] + rng.normal(0, 0.07, (len(true), 2)) * size[true, None]]
    false = np.repeat([*range(3, last), *[last] * 7], 4)
    along, scale = step[np.minimum(false, last - 1)], size[np.minimum(false, last - 1)][:, None]
    n = len(false)
    moved = along * rng.uniform(-0.5, 1.5, (n, 1)) + scale * rng.normal(0, 0.5, (n, 2))
    begin = discs[false] + scale * rng.normal(0, 0.1, (n, 2)) + moved * (rng.random((n, 1)) < 0.4)
    angle = rng.uniform(-0.35, 0.35, n)
    turned = np.stack(
        [
            along[:, 0] * np.cos(angle) - along[:, 1] * np.sin(angle),
            along[:, 0] * np.sin(angle) + along[:, 1] * np.cos(angle),
        ],
        axis=1,
    )
    long = rng.choice([0.5, 0.7, 1, 1, 1.3, 1.6, 2], (n, 1)) * rng.uniform(0.9, 1.1, (n, 1))
    return np.concatenate([*lower, begin]), np.concatenate([*upper, begin + turned * long])


def train(patients: int, rng: np.random.Generator) -> StepClassifier:
    """A classifier of whole spines of the seeds 0 to `patients` - 1."""
    every = [spine for seed in range(patients) for spine in spines(seed)]
    seen, said = [], []
    for spine in every:
        lower, upper = samples(spine.discs, rng)
        seen.append(c2.features(spine.image, spine.pixel, lower, upper, c2.spacing(start(spine, rng))))
        said.append(labels(lower, upper, spine.discs))
    first = _fit(seen, said)
    for spine in every[: 2 * SECOND_ROUND]:
        for step in c2.follow(spine.image, spine.pixel, start(spine, rng), first):
            if step.discs <= len(spine.discs) + 1:
                hard = np.concatenate([np.argsort(-step.score)[:15], np.argsort(-step.log_p[:, 2])[:5], step.kept])
                seen.append(step.features[hard])
                said.append(labels(step.lower[hard], step.upper[hard], spine.discs))
    return _fit(seen, said)


def _fit(seen: list[np.ndarray], said: list[np.ndarray]) -> StepClassifier:
    from sklearn.neural_network import MLPClassifier

    x, y = np.concatenate(seen), np.concatenate(said)
    net = MLPClassifier((HIDDEN,), alpha=1e-2, batch_size=128, max_iter=EPOCHS, random_state=0, learning_rate_init=2e-3)
    net.fit(x[y >= 0], y[y >= 0])
    return StepClassifier(
        tuple(w.astype(np.float32) for w in net.coefs_), tuple(b.astype(np.float32) for b in net.intercepts_)
    )


def measure(classifier: StepClassifier, patients: int, rng: np.random.Generator) -> dict[str, int]:
    """Of held-out patients: localizers, counts given and right; and counts given where the image is cut below C2/C3."""
    result = {"localizers": 0, "given": 0, "right": 0, "cut": 0, "cut_given": 0}
    for seed in range(HELD_OUT, HELD_OUT + patients):
        for spine in spines(seed):
            count = counted(spine, classifier, rng)
            result["localizers"] += 1
            result["given"] += count is not None
            result["right"] += count is not None and count.discs == len(spine.discs)
            result["cut"] += 1
            result["cut_given"] += counted(cut(spine, below=int(rng.integers(0, 12))), classifier, rng) is not None
    return result


def counted(spine: Spine, classifier: StepClassifier, rng: np.random.Generator) -> c2.Count | None:
    steps = c2.follow(spine.image, spine.pixel, start(spine, rng), classifier)
    return c2.decide(steps, spine.pixel * np.array(spine.image.shape[::-1]))


def cut(spine: Spine, *, below: int) -> Spine:
    """The same without what lies above the disc `below` places under C2/C3 (0: C2 itself is cut)."""
    top = max(int((spine.discs[-1 - below, 1] - 6) / spine.pixel[1]), 0)
    return Spine(np.ascontiguousarray(spine.image[top:]), spine.pixel, spine.discs - [0, top * spine.pixel[1]])


def main() -> None:
    from safetensors.numpy import save_file

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, default=110)
    parser.add_argument("--held-out", type=int, default=42)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    classifier = train(options.patients, rng)
    tensors = {f"{kind}.{i}": np.ascontiguousarray(v) for kind in ("weights", "biases")
               for i, v in enumerate(getattr(classifier, kind))}  # fmt: skip
    save_file(tensors, options.out)
    print(measure(classifier, options.held_out, rng))


if __name__ == "__main__":
    main()
