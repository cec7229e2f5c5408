"""Weights of several samples together, and the discs to read next."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modic.errors import UsageError
from modic.reader_study.next_discs import Earlier, choose, draw_next
from modic.reader_study.sample import SAMPLE, draw
from modic.reader_study.weights import Samples, sample_path
from modic.records import LEVELS
from modic.tables.described import write_rows

ALL = 1200


def discs(seed: int = 0) -> list[dict[str, Any]]:
    """Discs of 200 patients; few are MC1, which the model finds half of the time."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(ALL):
        p = rng.dirichlet([4, 0.3, 2])
        row = {f"p_mc{k}": float(value) for k, value in enumerate(p)}
        row |= {"study_key": f"s_{number // 6:04}", "patient_key": f"p_{number // 6:04}", "level": LEVELS[number % 6]}
        row |= {"mc": int(p.argmax()), "extent_upper": None if number % 5 == 0 else float(rng.random())}
        rows.append(row | {"truth": int(rng.random() < p[1]), "run_id": "r", "classifier_id": "c"})
    return rows


def kept(root: Path, name: str, rows: list[dict[str, Any]]) -> None:
    write_rows(sample_path(root, name), [{column: row[column] for column in SAMPLE} for row in rows], SAMPLE)


def next_of(root: Path, every: list[dict[str, Any]], n: int, seed: int = 0) -> list[dict[str, Any]]:
    return draw_next(every, Earlier.of(root), n, lambda rest, k: draw([[disc] for disc in rest], k, ["grade"], seed))


def first_of(every: list[dict[str, Any]], n: int, seed: int = 0) -> list[dict[str, Any]]:
    return draw([[disc] for disc in every], n, ["grade"], seed)


def test_half_is_random_and_half_is_chosen_and_none_was_drawn_before(tmp_path: Path) -> None:
    every = discs()
    first = first_of(every, 60)
    kept(tmp_path, "one", first)
    then = next_of(tmp_path, every, 61)
    assert Counter(disc["drawn"] == "random" for disc in then) == {True: 30, False: 31}
    assert Counter(disc["drawn"] for disc in then if disc["drawn"] != "random") == {
        "uncertain": 10,
        "rare": 10,
        "unlike": 11,
    }
    keys = [(disc["study_key"], disc["level"]) for disc in [*first, *then]]
    assert len(set(keys)) == len(keys) and {disc["after"] for disc in then} == {"one"}
    assert sum(disc["weight"] for disc in then) == pytest.approx(ALL - 60)
    assert all(disc["weight"] == 1 for disc in then if disc["drawn"] != "random")
    chosen = [disc["patient_key"] for disc in then if disc["drawn"] != "random"]
    assert len(set(chosen)) == len(chosen)


def test_what_is_chosen_is_uncertain_rare_or_unlike() -> None:
    every = discs()
    odd = every[7] | {"extent_upper": 40.0}
    chosen = choose([*every[:7], odd, *every[8:]], every[1100:], 30)
    of = {reason: [disc for disc in chosen if disc["drawn"] == reason] for reason in ("uncertain", "rare", "unlike")}
    margins = [np.diff(np.sort([disc[f"p_mc{k}"] for k in range(3)])[-2:]).item() for disc in of["uncertain"]]
    likely = sorted((disc["p_mc1"] for disc in every), reverse=True)
    assert max(margins) < 0.02 and min(disc["p_mc1"] for disc in of["rare"]) >= likely[25]
    assert (odd["study_key"], odd["level"]) == (of["unlike"][0]["study_key"], of["unlike"][0]["level"])


def test_small_cohorts_are_read_to_the_end(tmp_path: Path) -> None:
    every = discs()[:12]
    kept(tmp_path, "one", first_of(every, 5))
    then = next_of(tmp_path, every, 100)
    assert len(then) == 7 and sum(disc["weight"] for disc in then) == pytest.approx(7)
    kept(tmp_path, "two", then)
    with pytest.raises(UsageError, match="none to read next"):
        next_of(tmp_path, every, 1)


def test_weights_of_a_chain_of_samples_are_those_of_the_cohort(tmp_path: Path) -> None:
    """Unbiased for a rare trait, and as many discs as there are: one sample, two that follow, and two that do not."""
    every = discs()
    truth = sum(disc["truth"] for disc in every)
    estimates: dict[str, list[float]] = {"one": [], "chain": [], "apart": []}
    for seed in range(60):
        root = tmp_path / str(seed)
        first, apart = first_of(every, 80, seed), first_of(every, 40, 1000 + seed)
        kept(root, "one", first)
        then = next_of(root, every, 80, seed)
        kept(root, "two", then)
        kept(root, "apart", apart)
        for name, read in (
            ("one", {"one": first}),
            ("chain", {"one": first, "two": then}),
            ("apart", {"one": first, "apart": apart}),
        ):
            samples = Samples(root)
            named = [(s, (d["study_key"], d["level"]), d["truth"]) for s, rows in read.items() for d in rows]
            for sample, disc, _ in named:
                samples.named(sample, disc, "line 2")
            weights = [samples.combined(sample, disc) for sample, disc, _ in named]
            assert sum(weights) == pytest.approx(ALL)
            estimates[name].append(sum(w * t for w, (_, _, t) in zip(weights, named, strict=True)))
    for name, values in estimates.items():
        assert np.mean(values) == pytest.approx(truth, abs=3 * np.std(values) / np.sqrt(60)), name
    assert np.std(estimates["chain"]) < np.std(estimates["one"])


def test_samples_of_before_have_no_reasons(tmp_path: Path) -> None:
    every = first_of(discs(), 20)
    columns = {name: about for name, about in SAMPLE.items() if name not in ("drawn", "after", "unit")}
    write_rows(sample_path(tmp_path, "old"), [{name: row[name] for name in columns} for row in every], columns)
    disc = (every[0]["study_key"], every[0]["level"])
    samples = Samples(tmp_path)
    assert samples.named("old", disc, "line 2").drawn[disc] == "random"
    assert samples.combined("old", disc) == every[0]["weight"] and samples.left_out() == []


def test_a_sample_that_was_left_out_is_named(tmp_path: Path) -> None:
    every = discs()
    kept(tmp_path, "one", first_of(every, 20))
    then = next_of(tmp_path, every, 20)
    kept(tmp_path, "two", then)
    samples, disc = Samples(tmp_path), (then[0]["study_key"], then[0]["level"])
    samples.named("two", disc, "line 2")
    assert samples.left_out() == ["one"] and samples.combined("two", disc) == then[0]["weight"]
