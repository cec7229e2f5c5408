"""Adapting on images: SPIDER from one scanner to the other, and the phantom with another contrast.

    python tests/benchmarks/adapt_images.py features CACHE --spider DIR | --phantom N     (go on where it was stopped)
    python tests/benchmarks/adapt_images.py spider CACHE
    python tests/benchmarks/adapt_images.py phantom CACHE

`features` keeps what the shipped network gives for every disc. SPIDER: mid-sagittal slices, the trunk is ImageNet's and
has seen none of them. A home grader is made of one manufacturer's training patients alone: a regression of type 2
against 0 on the shipped trunk's features, its temperature and thresholds from predictions out of fold. It is adapted
to 50, 100 and 200 discs of the other manufacturer's training patients and judged on the rest of these, many times; the
test patients are judged once, with all discs of the training patients read. Phantom: synthetic patients on a 0.3 T
scanner with other echo and repetition times; the shipped grader as it is, without the measured marrow.
"""

import argparse
import time
from dataclasses import fields
from pathlib import Path

import numpy as np

from modic.adapt.grader import Adapted, Shipped, adapt, graded
from modic.adapt.site_data import Group
from modic.adapt.update import Discs, Update
from modic.statistics.calibration import conformal_quantiles, fit_scaling
from modic.statistics.metrics import auc, fat_share
from modic.train.data.discs import Disc

ALPHA, DRAWS, CHUNK = 0.2, 20, 12


def features(cache: Path, spider: Path | None, phantom: int) -> None:
    """Files of a few patients each."""
    cache.mkdir(exist_ok=True)
    from modic.models.weights import load_classifier

    model = load_classifier()
    preprocessing = model.card["preprocessing"]
    if spider:
        from modic.train.data.spider_discs import spider_discs

        path = cache / "discs.npy"
        if not path.exists():
            discs = spider_discs(spider, preprocessing, detector="detector", segmenter="endplates")
            np.save(path, np.array(discs, object), allow_pickle=True)
            print(f"{len(discs)} discs", flush=True)
        discs = list(np.load(path, allow_pickle=True))
        patients = sorted({disc.patient for disc in discs})
        for start in range(0, len(patients), CHUNK):
            some = set(patients[start : start + CHUNK])
            _keep(cache / f"spider-{start:04d}.npz", lambda some=some: [d for d in discs if d.patient in some], model)
    for seed in range(phantom):
        _keep(
            cache / f"phantom-{seed:04d}.npz", lambda seed=seed: _at_low_field(9_000_000 + seed, preprocessing), model
        )


def _keep(path: Path, discs_of: object, model: object) -> None:
    if path.exists():
        return
    import torch

    from modic.models.network import FeatureNetwork
    from modic.train.augment.regions import Example
    from modic.train.inference import measuring_batches

    discs = discs_of()
    net: FeatureNetwork = model.net
    options = _options(model.card["preprocessing"])
    read, logits = [], []
    for batch in measuring_batches([Example(disc) for disc in discs], options, seed=1):
        with torch.inference_mode():
            encoding = net.encode(batch if torch.is_tensor(batch) else torch.stack(batch))
            read.append(net.level_features(encoding).numpy().astype(np.float16))
            logits.append(net.logits(encoding).numpy())
    if not discs:  # a transitional spine
        np.savez(path, labels=[])
        return
    marrow = [np.full(28, np.nan) if disc.marrow is None else disc.marrow for disc in discs]
    np.savez(
        path, features=np.concatenate(read), logits=np.concatenate(logits),
        labels=[d.label for d in discs], patients=[d.patient for d in discs], levels=[d.level for d in discs],
        scanners=[d.scanner for d in discs], marrow=np.array(marrow),
    )  # fmt: skip
    print(path.name, len(discs), f"{time.process_time():.0f} s", flush=True)


def _options(preprocessing: dict) -> object:
    from modic.train.options import ClassifierTraining

    named = {field.name for field in fields(ClassifierTraining)} & preprocessing.keys()
    return ClassifierTraining(data=(), out=Path(), device="cpu", **{name: preprocessing[name] for name in named})


def _at_low_field(seed: int, preprocessing: dict) -> list[Disc]:
    """Discs of a synthetic patient on a 0.3 T scanner: less T1 weight in T1, less T2 weight in T2, thick and noisy."""
    from modic.phantom.anatomy import make_patient
    from modic.phantom.physics import Sequence
    from modic.phantom.render import Grid, disc_boxes, render_many
    from modic.records import LevelBox
    from modic.train.data.discs import cut_discs

    patient = make_patient(seed, p_mc1=0.33, p_mc2=0.33)
    if patient.transitional:
        return []
    rng = np.random.default_rng([seed, 11])
    _, y, z = patient.lumbar_centre_mm
    centre = (float(patient.lateral(z) + rng.normal(0, 2)), y, z - 15.0)
    grid = Grid("sagittal", 224, 160, 1.15, preprocessing["slices"], 5.0, 2.0, centre)
    t1, t2 = Sequence("t1", 350.0, 26.0, field_t=0.3), Sequence("t2", 2200.0, 75.0, field_t=0.3)
    rendered = render_many(patient, grid, [t1, t2], seed=0, snr=9.0, coil=0.8)
    middle = preprocessing["slices"] // 2
    boxes = [LevelBox(name, box, middle, 1.0) for name, box in disc_boxes(patient, grid, middle) if name]
    labels = {level: (int(grade), 0) for level, grade in patient.grades.items()}
    volumes = {name: volume.canonical() for name, volume in zip(("t1", "t2"), rendered, strict=True)}
    return list(
        cut_discs(volumes, boxes, labels, patient=f"phantom-{seed}", source="phantom", preprocessing=preprocessing)
    )


def load(cache: Path, kind: str) -> dict[str, np.ndarray]:
    """All discs of a kind."""
    files = [np.load(path) for path in sorted(cache.glob(f"{kind}-*.npz"))]
    files = [file for file in files if len(file["labels"])]
    return {name: np.concatenate([file[name] for file in files]) for name in files[0].files}


def group(data: dict[str, np.ndarray], logits: np.ndarray, rows: np.ndarray) -> Group:
    """Discs of the rows, evenly weighted."""
    discs = Discs(
        logits[rows].astype(float), data["features"][rows], data["labels"][rows], data["patients"][rows],
        np.ones(len(rows)), np.ones(len(rows)),
    )  # fmt: skip
    names = data["levels"][rows], data["scanners"][rows], data["scanners"][rows]
    return Group(discs, *names, np.zeros(len(rows), int), (None,) * len(rows))


def judged(test: Group, update: Update, quantiles: np.ndarray) -> dict[str, float]:
    """AUC, coverage and abstention of a grader."""
    labels = test.discs.labels
    p = update.p(test.discs.logits, test.discs.features)
    grades, held = graded(test, p, quantiles)
    either = labels != 1
    numbers = {"AUC 0 vs 2": auc(fat_share(p[either]), labels[either] == 2), "abstained": float((grades < 0).mean())}
    numbers |= {"right where graded": float((grades == labels)[grades >= 0].mean()) if (grades >= 0).any() else np.nan}
    loss = -np.log(np.clip(p[np.arange(len(labels)), labels], 1e-12, 1))
    of = [labels == k for k in range(3)]
    numbers["log loss"] = float(np.mean([loss[k].mean() for k in of if k.any()]))
    for k in range(3):
        if of[k].any():
            numbers[f"coverage MC{k}"] = float(held[of[k]].mean())
    return numbers


def read_some(
    rng: np.random.Generator, data: dict[str, np.ndarray], rows: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Whole patients until n discs are read (the last one in part), and the rows of all others."""
    names = rng.permutation(np.unique(data["patients"][rows]))
    order = np.concatenate([rows[data["patients"][rows] == name] for name in names])
    read = order[:n]
    rest = order[~np.isin(data["patients"][order], data["patients"][read])]
    return read, rest


def many(
    data: dict[str, np.ndarray], logits: np.ndarray, rows: np.ndarray, shipped: Shipped, sizes: tuple[int, ...]
) -> None:
    """Adapt to draws of patients and judge on the others; prints means, and how often the adapted grader is worse."""
    for n in sizes:
        found: list[tuple[dict[str, float], dict[str, float], str]] = []
        for draw in range(DRAWS):
            read, rest = read_some(np.random.default_rng(draw), data, rows, n)
            adapted = adapt(group(data, logits, read), shipped, seed=draw)
            test = group(data, logits, rest)
            found.append(
                (judged(test, Update(shipped.temperature), shipped.quantiles),
                 judged(test, adapted.update, adapted.quantiles), _named(adapted))
            )  # fmt: skip
        taken = {name: sum(one[2] == name for one in found) for name in sorted({one[2] for one in found})}
        worse = sum(new["log loss"] > old["log loss"] + 1e-9 for old, new, _ in found)
        print(f"{n} discs read, {DRAWS} draws: {taken}; log loss worse in {worse}")
        for name in found[0][0]:
            old, new = (np.array([one[i][name] for one in found]) for i in (0, 1))
            print(f"   {name}: {old.mean():.3f} → {new.mean():.3f} (SD of draws {new.std():.3f})")


def _named(adapted: Adapted) -> str:
    return adapted.choice.kind.name + (" + thresholds" if adapted.refitted else "")


def spider(cache: Path) -> None:
    """Both directions."""
    from sklearn.linear_model import LogisticRegression

    from modic.train.data.split import part_of

    data = load(cache, "spider")
    maker = np.array([name.split()[0] if name else "" for name in data["scanners"]])
    test = np.array([part_of(name) == "test" for name in data["patients"]])
    usable = data["labels"] != 1
    for home, away in (("Philips", "Siemens"), ("Siemens", "Philips")):
        own = np.flatnonzero((maker == home) & ~test & usable)
        theirs = np.flatnonzero((maker == away) & ~test & usable)
        held = np.flatnonzero((maker == away) & test & usable)
        x, y = data["features"].astype(float)[:, :2016], data["labels"] == 2

        def regression(rows: np.ndarray, x: np.ndarray = x, y: np.ndarray = y) -> LogisticRegression:
            return LogisticRegression(C=0.001, max_iter=2000, class_weight="balanced").fit(x[rows], y[rows])

        folds = np.unique(data["patients"][own], return_inverse=True)[1] % 5
        out = np.zeros(len(own))
        for fold in range(5):
            out[folds == fold] = regression(own[folds != fold]).decision_function(x[own[folds == fold]])
        both = np.stack([-out / 2, np.full(len(out), -8.0), out / 2], 1)
        temperature, shift = fit_scaling(both, data["labels"][own])
        p = Update(temperature, shift).p(both, np.zeros((len(out), 0)))
        quantiles = np.array(conformal_quantiles(p, data["labels"][own], alpha=ALPHA))
        quantiles[1] = 0  # there is no type 1 to ask for
        shipped = Shipped(temperature, quantiles, ALPHA)
        score = regression(own).decision_function(x)
        logits = np.stack([-score / 2, np.full(len(score), -8.0), score / 2], 1) + shift
        print(f"## {home} ({_size(data, own)}) → {away} ({_size(data, theirs)})")
        many(data, logits, theirs, shipped, (50, 100, 200))
        adapted = adapt(group(data, logits, theirs), shipped)
        last = group(data, logits, held)
        old = judged(last, Update(shipped.temperature), shipped.quantiles)
        new = judged(last, adapted.update, adapted.quantiles)
        print(f"test patients of {away}, once ({len(held)} discs of {len(np.unique(data['patients'][held]))} patients,"
              f" {len(theirs)} read): {_named(adapted)}")  # fmt: skip
        for name in old:
            print(f"   {name}: {old[name]:.3f} → {new[name]:.3f}")


def _size(data: dict[str, np.ndarray], rows: np.ndarray) -> str:
    types = np.bincount(data["labels"][rows], minlength=3)
    return f"{len(rows)} discs of {len(np.unique(data['patients'][rows]))} patients, by type {types}"


def phantom(cache: Path) -> None:
    """The shipped grader on another contrast."""
    from modic.adapt.grader import shipped_of
    from modic.models.card import read_card

    data = load(cache, "phantom")
    shipped = shipped_of(read_card("classifier", "classifier")[0])
    rows = np.arange(len(data["labels"]))
    print(f"## phantom at 0.3 T: {len(rows)} discs of {len(np.unique(data['patients']))} patients, by type"
          f" {np.bincount(data['labels'], minlength=3)}")  # fmt: skip
    many(data, data["logits"], rows, shipped, (50, 100, 200))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("features", "spider", "phantom"))
    parser.add_argument("cache", type=Path)
    parser.add_argument("--spider", type=Path)
    parser.add_argument("--phantom", type=int, default=0)
    args = parser.parse_args()
    if args.what == "features":
        features(args.cache, args.spider, args.phantom)
    else:
        {"spider": spider, "phantom": phantom}[args.what](args.cache)


if __name__ == "__main__":
    main()
