"""Training with a frozen trunk on a CPU: what the trunk sees of each disc is computed once and kept, heads are cheap.

`modic train classifier --backbone efficientnet_lite0 --freeze-trunk --views N`:

1. The trunk's maps of every example in fixed views are kept in OUT/cache/maps, a file a few dozen examples; an
   interrupted training goes on there.
2. Type 1 against the others: the layer that sees both contrasts (modic/models/slice_net.py), by Adam.
3. Type 0 against 2: a logistic regression on pooled maps (modic/train/refit_head.py), and another one on the measured
   marrow (modic/grading/marrow_features.py); their logits are added. Discs weigh by `overlap_weights`.

Steps 2 and 3 are done for each fold on the other folds' patients, then on all. Phantoms alone (`--stir`) count as
patients do.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.errors import UsageError
from modic.grading.marrow_features import FEATURES
from modic.grading.measured import Measured
from modic.records import LEVELS
from modic.train.augment.regions import Example
from modic.train.inference import measuring_batches
from modic.train.refit_head import FEWEST, STRENGTH, logistic, replace_difference, source_weights

if TYPE_CHECKING:
    import torch

    from modic.train.options import ClassifierTraining

CHUNK = 32  # examples a file of maps
STEPS, BATCH, RATE = 100, 48, 2e-3  # of the layer that sees both contrasts
SHARES = {"type 1": 0.45, "real": 0.35, "other": 0.2}  # of a batch: type 1; real discs of other types; the rest
MARROW_STRENGTH = 0.03  # scikit-learn's C of the regression on the marrow, features of unit variance
FIRST_SEED = 2  # of the views; predictions out of fold take 1


@dataclass(frozen=True, slots=True)
class TrunkMaps:
    """What the trunk sees of examples, kept in `folder`; float16 (2 * slices, channels, h, w) a view of an example."""

    net: "torch.nn.Module"
    options: "ClassifierTraining"
    folder: Path

    def of(self, examples: list[Example], seed: int) -> list[np.ndarray]:
        """Of each example, in measuring views of this seed."""
        maps: list[np.ndarray] = []
        for start in range(0, len(examples), CHUNK):
            some = examples[start : start + CHUNK]
            path = self.folder / f"{_name(some, seed, self.options)}.npz"
            if not path.is_file():
                self._make(path, some, seed)
            with np.load(path) as file:
                joined, depths = file["maps"], file["depths"]
            maps += np.split(joined, np.cumsum(depths)[:-1])
        return maps

    def _make(self, path: Path, examples: list[Example], seed: int) -> None:
        import torch

        net: Any = self.net
        parts, depths = [], []
        for batch in measuring_batches(examples, self.options, seed=seed):
            with torch.inference_mode():
                parts.append(net.slice_maps(batch).half().cpu().numpy())
            depths += [2 * one.shape[1] for one in batch]
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = path.with_name(f".{path.stem}.tmp.npz")
        np.savez(hidden, maps=np.concatenate(parts), depths=depths)
        hidden.replace(path)


def _name(examples: list[Example], seed: int, options: "ClassifierTraining") -> str:
    """Of a file of maps: a hash of what is in it."""
    what = [(e.disc.source, e.disc.patient, e.disc.level, e.painted, e.healed) for e in examples]
    text = repr((what, seed, sorted(options.preprocessing.items()), options.repeats, options.init))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True, eq=False)
class Views:
    """Maps of many views of examples; `index` int (views,) says of which example."""

    examples: list[Example]
    maps: list[np.ndarray]
    index: np.ndarray

    @property
    def of_examples(self) -> list[Example]:
        """The example of each view."""
        return [self.examples[i] for i in self.index]

    def only(self, chosen: np.ndarray) -> "Views":
        """Those of some examples (bool mask)."""
        place = np.cumsum(chosen) - 1
        rows = np.flatnonzero(chosen[self.index])
        examples = [e for e, it in zip(self.examples, chosen, strict=True) if it]
        return Views(examples, [self.maps[i] for i in rows], place[self.index[rows]])

    def logits(self, net: Any, rows: Sequence[int]) -> np.ndarray:
        """float64 (rows, 3): what a network gives to the first view of examples."""
        import torch

        out = []
        with torch.inference_mode():
            for start in range(0, len(rows), 64):
                out.append(net.classify(*_batch(self, rows[start : start + 64], "cpu")).double().numpy())
        return np.concatenate(out)


def views_of(examples: list[Example], maps: TrunkMaps, count: int) -> Views:
    """`count` views of every example."""
    seeds = range(FIRST_SEED, FIRST_SEED + count)
    everything = [one for seed in seeds for one in maps.of(examples, seed)]
    return Views(examples, everything, np.tile(np.arange(len(examples)), count))


def fit_heads(net: "torch.nn.Module", views: Views, options: "ClassifierTraining", kept: Path) -> Measured | None:
    """Fit all that follows the trunk to these views, in place; returns the marrow's part, None without measurements.

    What was fitted is kept in the file `kept`, from which the same training goes on. Raises UsageError if a type is
    missing.
    """
    labels = np.array([e.label for e in views.of_examples])
    for k in options.classes:
        if not (labels == k).any():
            raise UsageError(f"the data hold no disc of Modic type {k} to train on; add phantom=N")
    weights = _weights(views.examples, options)
    if not _restored(net, kept):
        _fit_type1(net, views, options)
        _fit_types_0_and_2(net, views, _fit_norm(net, views), weights)
        _keep(net, kept)
    some = np.flatnonzero((weights > 0) & trusted(views.examples))
    fat = np.array([views.examples[i].label == 2 for i in some])
    return fit_marrow([views.examples[i] for i in some], fat, weights[some])


def _keep(net: "torch.nn.Module", path: Path) -> None:
    """Save all but the trunk; the file appears whole."""
    from safetensors.torch import save_file

    heads = {key: value.contiguous() for key, value in net.state_dict().items() if not key.startswith("trunk.")}
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}")
    save_file(heads, hidden)
    hidden.replace(path)


def _restored(net: "torch.nn.Module", path: Path) -> bool:
    """Whether there was such a file, now loaded."""
    from safetensors.torch import load_file

    if not path.is_file():
        return False
    net.load_state_dict(load_file(path), strict=False)
    net.eval()
    return True


def _fit_type1(net: Any, views: Views, options: "ClassifierTraining") -> None:
    """Type 1 against the others, balanced; the output speaks for type 1 only. Begins anew in each fold."""
    import torch

    torch.manual_seed(options.seed)
    for layer in (*net.joint, net.oedema):
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    rng, of = np.random.default_rng(options.seed), views.of_examples
    groups = {
        "type 1": [i for i, e in enumerate(of) if e.label == 1],
        "real": [i for i, e in enumerate(of) if e.label != 1 and e.real],
        "other": [i for i, e in enumerate(of) if e.label != 1 and not e.real],
    }
    drawn = [(group, round(BATCH * SHARES[name])) for name, group in groups.items() if group]
    trained = [*net.joint.parameters(), *net.oedema.parameters()]
    optimizer = torch.optim.AdamW(trained, RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    net.train()
    for _ in range(STEPS):
        rows = np.concatenate([rng.choice(group, n) for group, n in drawn])
        target = torch.tensor([float(of[i].label == 1) for i in rows])
        output = net.oedema_of(*_batch(views, rows, options.device)).squeeze(1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(output, 0.9 * target.to(output) + 0.05)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    net.eval()


def _batch(views: Views, rows: Sequence[int] | np.ndarray, device: str) -> "tuple[torch.Tensor, list[int]]":
    import torch

    chosen = [views.maps[i] for i in rows]
    joined = torch.from_numpy(np.concatenate(chosen)).to(device).float()
    return joined, [len(one) // 2 for one in chosen]


def _fit_norm(net: Any, views: Views) -> np.ndarray:
    """Set the mean and variance of the pooled features to those of the views; returns the features, normalized."""
    import torch

    pooled = []
    with torch.inference_mode():
        for start in range(0, len(views.maps), 64):
            maps, depths = _batch(views, range(start, min(start + 64, len(views.maps))), "cpu")
            pooled.append(net.pooled(maps, depths).numpy())
    values = np.concatenate(pooled).astype(float)
    net.norm.running_mean.copy_(torch.from_numpy(values.mean(0)))
    net.norm.running_var.copy_(torch.from_numpy(values.var(0) + 1e-6))
    normalized: np.ndarray = (values - values.mean(0)) / np.sqrt(values.var(0) + 1e-6 + net.norm.eps)
    return normalized


def _weights(examples: list[Example], options: "ClassifierTraining") -> np.ndarray:
    """Of each example (n,) in telling type 0 from 2; 0 for painted ones. Raises UsageError for too few real discs."""
    used = np.array([e.label in (0, 2) and not e.painted and not e.healed for e in examples])
    fat, real = np.array([e.label == 2 for e in examples]), trusted(examples)
    if min((used & fat & real).sum(), (used & ~fat & real).sum()) < FEWEST:
        raise UsageError(f"too few real discs: of types 0 and 2 at least {FEWEST} each are needed with --views")
    weights = np.zeros(len(used))
    weights[used] = source_weights(fat[used], real[used])
    some = np.flatnonzero(used & real)
    weights[some] *= overlap_weights([examples[i] for i in some], options.overlap)
    return weights


def trusted(examples: list[Example]) -> np.ndarray:
    """Which examples (n,) speak for patients: real ones, or all phantoms if there is nothing else."""
    real = np.array([e.real for e in examples])
    return real if real.any() else np.array([e.source == "phantom" for e in examples])


def _fit_types_0_and_2(net: Any, views: Views, features: np.ndarray, weights: np.ndarray) -> None:
    """Type 0 against 2, of unpainted discs: a regression on the trunk's features."""
    import torch

    fat = np.array([e.label == 2 for e in views.examples])
    rows = np.flatnonzero(weights[views.index] > 0)
    index, count = views.index[rows], len(views.index) // len(views.examples)
    weight, bias = logistic(features[rows], fat[index], weights[index] / count, STRENGTH)
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.zero_()
    replace_difference(net, weight, bias)


def overlap_weights(examples: list[Example], share: float) -> np.ndarray:
    """Weights (n,) of mean 1 under which type says less about how degenerate a disc is.

    Overlap weights (Li, Morgan & Zaslavsky, J. Am. Stat. Assoc. 113 (2018) 390-400): 1 - e for discs of type 2 and e
    for type 0, with e the probability of type 2 given Pfirrmann grade and level (logistic regression). They are
    bounded, unlike inverse propensities. `share`: of them, as a power; 0 leaves all discs alike. Discs of unknown grade
    weigh as at their level.
    """
    from sklearn.linear_model import LogisticRegression

    fat = np.array([e.label == 2 for e in examples])
    grades = np.array([[e.disc.degeneration == k for k in range(6)] for e in examples])
    levels = np.array([[e.disc.level == level for level in LEVELS] for e in examples])
    design = np.column_stack([grades, levels]).astype(float)
    chance = LogisticRegression(C=1.0, max_iter=1000).fit(design, fat).predict_proba(design)[:, 1]
    balanced = np.where(fat, 0.5 / fat.mean(), 0.5 / (1 - fat.mean()))
    own = np.where(fat, 1 - chance, chance) / balanced  # the balance between the types is `source_weights`'
    for k in (True, False):
        own[fat == k] /= own[fat == k].mean()
    weights: np.ndarray = own**share
    return weights / weights.mean()


def fit_marrow(examples: list[Example], fat: np.ndarray, weights: np.ndarray) -> Measured | None:
    """The regression of type 2 against 0 on the measured marrow; None if half of the discs have no measurement."""
    values = np.stack(
        [e.disc.marrow if e.disc.marrow is not None else np.full(len(FEATURES), np.nan) for e in examples]
    )
    known = np.isfinite(values).all(1)
    if known.sum() < max(FEWEST, len(examples) / 2):
        return None
    mean, scale = values[known].mean(0), values[known].std(0) + 1e-6
    inside = weights[known] / weights[known].mean()
    weight, bias = logistic((values[known] - mean) / scale, fat[known], inside, MARROW_STRENGTH)
    means, scales, weights_ = (tuple(np.round(v, 6).tolist()) for v in (mean, scale, weight))
    return Measured(FEATURES, means, scales, weights_, round(float(bias), 6))


def with_marrow(logits: np.ndarray, examples: list[Example], measured: Measured | None) -> np.ndarray:
    """The network's logits (n, 3) and the marrow's, added; of a painted lesion nothing is measured."""
    if measured is None:
        return logits
    return logits + measured.logits(marrow_of(examples))


def marrow_of(examples: list[Example]) -> np.ndarray:
    """float64 (n, FEATURES); NaN for what was not measured."""
    nothing = np.full(len(FEATURES), np.nan)
    return np.stack([nothing if e.painted or e.healed or e.disc.marrow is None else e.disc.marrow for e in examples])


def record(measured: Measured | None) -> dict[str, Any]:
    """For the card's `calibration`."""
    return {} if measured is None else {"marrow": asdict(measured)}
