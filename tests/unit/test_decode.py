"""Dataclasses of plain values: exact where they fit, refused by name where they do not."""

import json
import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modic.decode import decode, decode_json
from modic.errors import UsageError, WeightsError


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Leaf:
    numbers: tuple[float, ...]
    free: dict[str, Any]
    colour: Colour | None = None


@dataclass(frozen=True, slots=True)
class Tree:
    place: Path
    count: int
    leaf: Leaf | None = None
    trees: tuple["Tree", ...] = ()


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
LEAVES = st.builds(
    Leaf,
    st.lists(st.floats(allow_nan=False)).map(tuple),
    st.dictionaries(st.text(), VALUES),
    st.none() | st.just(Colour.RED),
)


@settings(deadline=None)  # the first call imports pydantic
@given(LEAVES, st.integers())
def test_what_json_holds_comes_back_exactly(leaf: Leaf, count: int) -> None:
    tree = Tree(Path("a/b"), count, leaf, (Tree(Path("c"), -count, leaf),))
    again = decode_json(Tree, json.dumps(asdict(tree), default=str), "test")
    assert again == tree
    assert again.leaf and (leaf.colour is None or again.leaf.colour is Colour.RED)
    assert [math.copysign(1, x) for x in again.leaf.numbers] == [math.copysign(1, x) for x in leaf.numbers]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"place": "a", "count": 1, "size": 2}, "tree.yaml: unknown key `size`; known here: count, leaf, place, trees"),
        ({"place": "a"}, "tree.yaml: `count` is missing"),
        ({"place": "a", "count": "1"}, "tree.yaml: count must be int, not str"),
        ({"place": "a", "count": True}, "tree.yaml: count must be int, not bool"),
        ({"place": "a", "count": 1.0}, "tree.yaml: count must be int, not float"),
        ({"place": 1, "count": 1}, "tree.yaml: place must be str, not int"),
        ({"place": "a", "count": 1, "leaf": 3}, "tree.yaml: leaf must be a section [leaf]"),
        ({"place": "a", "count": 1, "trees": {}}, "tree.yaml: trees must be list, not dict"),
        ({"place": "a", "count": 1, "trees": [{"place": "b", "count": 2, "x": 0}]},
         "tree.yaml: trees: 0: unknown key `x`; known here: count, leaf, place, trees"),
        ({"place": "a", "count": 1, "leaf": {"numbers": [], "free": {}, "colour": "blue"}},
         "tree.yaml: leaf: colour: must be 'red', not 'blue'"),
        ([], "tree.yaml must hold keys and values"),
        (None, "tree.yaml must hold keys and values"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(values: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        decode(Tree, values, "tree.yaml")
    assert str(caught.value) == message


def test_a_caller_chooses_the_error() -> None:
    with pytest.raises(WeightsError, match=r"^the card: `place` is missing$"):
        decode(Tree, {"count": 1}, "the card", error=WeightsError)
