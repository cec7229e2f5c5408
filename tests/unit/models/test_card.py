"""Every value of a card is checked before a run starts: what is accepted, a worker can use."""

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modic.config import Config
from modic.errors import WeightsError
from modic.grading.thresholds import quantiles_at
from modic.models.card import SHIPPED, read_card, sha256
from modic.models.classifier import build_classifier
from modic.run.prepare import check_networks

NAMES = {"detector": "detector", "classifier": "classifier", "segmenter": "endplates", "steps": "count_from_c2"}
PARTS = ("architecture", "preprocessing", "calibration")
NO_VALUE = ("text", None, [], {}, math.nan, math.inf, -math.inf, 1e308, -1e308, True, "MISSING")
DESCRIBE = ("prior", "folds", "patients", "shift", "discs", "sources")
LEFT_OUT = {"'MISSING'"}
LESS = {  # what else may stand there: nothing, or any word
    "calibration/numbering": LEFT_OUT | {"{}"},
    "calibration/thresholds": LEFT_OUT | {"None"},
    "calibration/alpha": LEFT_OUT | {"None"},
    "calibration/marrow": LEFT_OUT | {"None"},
    "calibration/discs": {"{}"},
    "calibration/sources": {"[]"},
    "calibration/sources/0": {"'text'"},
    "preprocessing/contrasts": LEFT_OUT,
    "preprocessing/contrasts/0": LEFT_OUT,  # then the weights do not fit
}
LESS_BELOW = {
    "architecture/": LEFT_OUT,  # then the weights may not fit
    "calibration/numbering/": LEFT_OUT,
    **{
        f"calibration/{key}": LEFT_OUT | {"None"} for key in ("prior", "folds", "patients", "shift", "discs", "sources")
    },
}


def values_of(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The paths of every value in a card, of lists the first only."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from values_of(value[key], (*path, key))
    elif isinstance(value, list):
        yield from values_of(value[0], (*path, 0))


def cards() -> list[Any]:
    """(kind, path of a value) of every value that grading uses."""
    return [
        pytest.param(kind, path, id=f"{kind}: {'/'.join(map(str, path))}")
        for kind, name in NAMES.items()
        for part, value in json.loads((SHIPPED / f"{name}.json").read_text()).items()
        if part in PARTS
        for path in values_of(value, (part,))
        if path != (part,)
    ]


@pytest.fixture(scope="module")
def shipped() -> list[dict[str, Any]]:
    return [read_card(name, kind)[0] for kind, name in NAMES.items()]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file that is quickly hashed; its card comes later."""
    path = tmp_path / "small.safetensors"
    path.write_bytes(b"")
    return path


def refusal(weights: Path, shipped: list[dict[str, Any]], kind: str, card: dict[str, Any]) -> str:
    """What a run says to an edited card before it starts; empty if it takes it."""
    weights.with_suffix(".json").write_text(json.dumps(card | {"sha256": sha256(weights)}))
    try:
        cards = dict(zip(NAMES, shipped, strict=True))
        architecture = cards[kind]["architecture"]
        cards[kind] = read_card(str(weights), kind)[0]
        check_networks(Config(), **cards)
        quantiles_at(cards["classifier"]["calibration"])
        if kind == "classifier" and card["architecture"] != architecture:
            build_classifier(card["architecture"])  # as a run does with weights that are not the shipped ones
    except WeightsError as error:
        return str(error)
    return ""


def edited(kind: str, path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((SHIPPED / f"{NAMES[kind]}.json").read_text())
    place: Any = card
    for key in path[:-1]:
        place = place[key]
    if value == "MISSING":
        del place[path[-1]]
    else:
        place[path[-1]] = copy.deepcopy(value)
    return card


@pytest.mark.parametrize(("kind", "path"), cards())
def test_what_no_value_can_be_is_refused_before_the_run(
    weights: Path, shipped: Any, kind: str, path: tuple[Any, ...]
) -> None:
    name = "/".join(map(str, path))
    taken = {repr(value) for value in NO_VALUE if not refusal(weights, shipped, kind, edited(kind, path, value))}
    below = {value for key, values in LESS_BELOW.items() if name.startswith(key) for value in values}
    assert taken <= LESS.get(name, set()) | below


@pytest.mark.parametrize(
    ("kind", "path", "value", "words"),
    [
        ("classifier", ("preprocessing", "region_scale"), -1, "must be greater than or equal to 0.5, not -1"),
        ("classifier", ("preprocessing", "region_scale"), math.nan, "region_scale"),
        ("classifier", ("preprocessing", "region_scale"), "wide", "region_scale must be float, not str"),
        ("classifier", ("preprocessing", "region_size"), 0, "region_size"),
        ("classifier", ("preprocessing", "normalization"), "bright", "'none', 'standardize', 'clahe' or 'gamma'"),
        ("classifier", ("calibration", "temperature"), 0, "temperature"),
        ("classifier", ("calibration", "conformal_q"), [0.1, 0.2], "conformal_q"),
        ("classifier", ("calibration", "marrow", "scale", 0), 0, "marrow: scale"),
        ("classifier", ("calibration", "thresholds", "alpha", 0), 0.5, "`alpha` must ascend"),
        ("detector", ("preprocessing", "percentiles"), [99, 1], "the first of `percentiles` must be below the second"),
        ("detector", ("architecture", "anchor_sizes"), [24], "anchor_sizes"),
        ("detector", ("calibration", "numbering", "doubted"), 1.5, "doubted"),
        ("segmenter", ("preprocessing", "columns"), 95, "the card's strips are"),
    ],
)  # fmt: skip
def test_a_value_out_of_its_range_is_named(
    weights: Path, shipped: Any, kind: str, path: Any, value: Any, words: str
) -> None:
    assert words in refusal(weights, shipped, kind, edited(kind, path, value))


def test_weights_that_do_not_fit_their_card_are_refused_before_the_run(tmp_path: Path, shipped: Any) -> None:
    weights = tmp_path / "classifier.safetensors"
    weights.symlink_to(SHIPPED / weights.name)
    card = edited("classifier", ("architecture",), {"backbone": "resnet3d"})
    weights.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match="does not fit its card's architecture"):
        check_networks(Config(classifier=str(weights)), *shipped)


def test_the_shipped_cards_are_taken(weights: Path, shipped: Any) -> None:
    for kind in NAMES:
        assert refusal(weights, shipped, kind, edited(kind, ("licence",), "MIT")) == ""
