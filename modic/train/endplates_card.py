"""The segmenter's card: JSON for the machine, Markdown for people. Only numbers that this training measured."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.imaging.endplate_edges import SpineStrips, find_edges
from modic.imaging.spine_strip import COLUMNS, WIDTH_PX, Strip
from modic.imaging.volume import Volume
from modic.models.endplate_net import CLASSES, PERCENTILES, STRIP, Segmenter
from modic.models.weights import save_weights
from modic.phantom.masks import UNKNOWN
from modic.records import LEVELS, EndplateTrouble
from modic.train.data.endplate_strips import StripSample
from modic.train.data.split import split_of
from modic.train.data_citations import PHANTOM, SPIDER

if TYPE_CHECKING:
    import torch

STEP_MM = 47.0 / WIDTH_PX  # of a strip's pixel in the median patient
FEWEST_ROWS = 6  # pixels of a class on a strip, below which it has no Dice
SOURCES = {
    "space": SPIDER.replace("mid-sagittal slices of T1 and T2 with radiological gradings", "T2 SPACE with masks"),
    "spider": SPIDER,
    "phantom": PHANTOM,
}
LIMITS = (
    "Research use; not a medical device, not for diagnosis.",
    "Masks by people are of T2 SPACE of 30 patients of one data set; T1 was learnt from phantoms and from labels that "
    "a first network gave the T2 of the same patient, and is judged by its agreement with T2, not with people.",
    "S1 has no mask by people: its upper endplate was learnt from phantoms alone, and looked at.",
    "Fractures, tumours, implants, infections, severe scoliosis and children are rare or absent in the data.",
)


def write_endplates(net: "torch.nn.Module", samples: list[StripSample], recipe: dict[str, Any], path: Path) -> Path:
    """Measure on the test patients, write `path` and the cards beside it; returns `path`."""
    segmenter = Segmenter(net.eval(), device=str(recipe["device"]))
    test = [sample for sample in samples if split_of(sample.patient) == "test"]
    names = list(dict.fromkeys(sample.source for sample in samples))
    recipe = {key: value for key, value in recipe.items() if key not in ("device", "threads")}
    recipe["detector"] = Path(str(recipe["detector"])).name
    card = {
        "name": path.stem, "kind": "segmenter", "architecture": {"widths": recipe.pop("widths")},
        "preprocessing": {**STRIP, "percentiles": list(PERCENTILES)},
        "data": {
            "patients": {name: len({s.patient for s in samples if s.source == name}) for name in names},
            "sources": {name: SOURCES[name] for name in names},
        },
        "recipe": recipe,
        "results": {name: results(segmenter, (s for s in test if _group(s) == name)) for name in _groups(test)},
        "limits": list(LIMITS),
        "licence": "Apache-2.0 (weights); trained on data under CC BY 4.0: keep the citation in `data`",
    }  # fmt: skip
    save_weights(path, net.state_dict(), card)
    path.with_suffix(".md").write_text(markdown(card), encoding="utf-8")
    return path


def _group(sample: StripSample) -> str:
    truth = {"space": "masks by people", "phantom": "phantom"}.get(sample.source, "labels from T2 by the first network")
    return f"{sample.source} {sample.contrast}, test patients ({truth})"


def _groups(samples: list[StripSample]) -> list[str]:
    return list(dict.fromkeys(_group(sample) for sample in samples))


def results(segmenter: Segmenter, samples: Iterable[StripSample]) -> dict[str, Any]:
    """Slices, patients, median Dice of each class over slices, and the distance of endplates from the truth, mm.

    Endplates are found in the truth as in the network's answer; `found` is the share of the truth's that the network
    gives as well, `mm` the mean distance at right angles to the disc, `within_1_mm` the share of points nearer.
    """
    dice: dict[str, list[float]] = {name: [] for name in CLASSES[1:]}
    apart, found, patients, slices = [], [], set(), 0
    for sample in samples:
        truth, p = _inner(sample.labels), segmenter.probabilities(_inner(sample.image)[None], sample.rhythm)
        for index, name in enumerate(CLASSES[1:], 1):
            dice[name] += _dice(p[0].argmax(0) == index, truth, index)
        distances, seen = _edges_apart(sample, truth, p)
        apart += distances
        found += seen
        patients.add(sample.patient)
        slices += 1
    points = np.concatenate(apart) if apart else np.array([np.nan])
    return {
        "slices": slices, "patients": len(patients),
        "dice": {name: round(float(np.median(values)), 3) for name, values in dice.items() if values},
        "endplates": {
            "n": len(found), "found": round(float(np.mean(found)), 3) if found else None,
            "mm": round(float(points.mean()), 2), "within_1_mm": round(float((points < 1).mean()), 3),
        },
    }  # fmt: skip


def _inner(values: np.ndarray) -> np.ndarray:
    margin = (values.shape[1] - COLUMNS) // 2
    return values[:, margin : margin + COLUMNS]


def _dice(answer: np.ndarray, truth: np.ndarray, index: int) -> list[float]:
    """Of one class where the truth is known; none where it has hardly a pixel."""
    known = truth != UNKNOWN
    ours, theirs = answer & known, truth == index
    if theirs.sum() < FEWEST_ROWS:
        return []
    return [float(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))]


def _edges_apart(sample: StripSample, truth: np.ndarray, p: np.ndarray) -> tuple[list[np.ndarray], list[bool]]:
    """Distances, mm, along each endplate that truth and answer have, and whether the answer has each of the truth's."""
    known = np.stack([(truth == index).astype(np.float32) for index in range(len(CLASSES))])[None]
    levels = [i for i in range(len(LEVELS)) if sample.rhythm[0] < i - 0.5 and i + 0.5 < sample.rhythm[-1]]
    wanted_edges, given_edges = (find_edges(_spine(sample, answer)) for answer in (known, p))
    distances, seen = [], []
    for level in levels:
        for wanted, given in zip(wanted_edges[level, 0], given_edges[level, 0], strict=True):
            if isinstance(wanted, EndplateTrouble):
                continue
            seen.append(not isinstance(given, EndplateTrouble))
            if not isinstance(given, EndplateTrouble):
                shared = np.intersect1d(wanted[0], given[0])
                distances.append(np.abs(np.interp(shared, *wanted) - np.interp(shared, *given)) * STEP_MM)
    return distances, seen


def _spine(sample: StripSample, probabilities: np.ndarray) -> SpineStrips:
    """A strip as if it were a slice of its own."""
    columns, rows = np.meshgrid(np.arange(COLUMNS, dtype=float), np.arange(len(sample.rhythm), dtype=float))
    strip = Strip(np.stack([columns, rows], -1), sample.rhythm, STEP_MM)
    volume = Volume(_inner(sample.image)[None].astype(np.float32), np.eye(4))
    inside = np.ones((1, *columns.shape), bool)
    bodies = probabilities[None, :, CLASSES.index("vertebra")] >= 0.5
    return SpineStrips(strip, (0,), tuple(range(len(LEVELS))), volume, probabilities, inside, bodies)


def markdown(card: dict[str, Any]) -> str:
    """The card for people."""
    rows = [
        f"| {name} | {r['patients']} | {r['slices']} | " + " | ".join(f"{r['dice'].get(c, '')}" for c in CLASSES[1:])
        + f" | {r['endplates']['found']} | {r['endplates']['mm']} | {r['endplates']['within_1_mm']} |"
        for name, r in card["results"].items()
    ]  # fmt: skip
    limits = "\n".join(f"- {limit}" for limit in card["limits"])
    data = "\n".join(f"- {name}, {card['data']['patients'][name]} patients: {text}" for name, text in
                     card["data"]["sources"].items())  # fmt: skip
    return f"""# {card["name"]}: vertebral bodies, discs and canal on a strip along the spine

A small U-Net that sees one slice of T1 or T2, straightened along the detector's discs, and where these discs lie
(modic/models/endplate_net.py). Endplates are the edges of the bodies beside each disc (modic/imaging/endplates.py);
the marrow is measured along them (modic/grading/marrow.py).

## Results on test patients
Median Dice over slices; endplates: share found, mean distance in mm, share of points within 1 mm.

| images | patients | slices | vertebra | disc | canal | endplates found | mm | within 1 mm |
|---|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

## Data
{data}

## Limits
{limits}

## Licence
{card["licence"]}
"""
