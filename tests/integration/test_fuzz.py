"""Damaged headers, cards, CSV files, options and JSON files: each is refused by name, or read as something valid.

Seeded by the date, so that each day tries other damage; the seed is printed at the end. To try a case again:

    MODIC_FUZZ_SEED=20261130 MODIC_FUZZ_SECONDS=1000 python -m pytest tests/integration/test_fuzz.py

Each of the six targets takes at most MODIC_FUZZ_SECONDS (default 10).
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless

import dicoms
from made_cohort import make_cohort
from modic.archive.crawl import crawl
from modic.archive.header_index import INDEX
from modic.archive.headers import read_rows
from modic.cases.outliers import read_case
from modic.cohort import Cohort, open_cohort
from modic.config import Config, IdentifyOptions, PairOptions, load_config
from modic.decode import decode
from modic.errors import Reason, Rejected, UsageError
from modic.grading.thresholds import published_thresholds, quantiles_at
from modic.imaging.load import load_volume
from modic.imaging.volume import Volume
from modic.labels.table import read_labels
from modic.levels.certainty import Calibration
from modic.models.card import SHIPPED, read_card, sha256
from modic.reader_study.readings import read_readings
from modic.run import status
from modic.run.prepare import check_networks
from modic.series.identify import identify
from modic.series.pair import pair
from mutations import SEED, damaged_bytes, damaged_json

SECONDS = float(os.environ.get("MODIC_FUZZ_SECONDS", "10"))
SLOW_S = 20.0
MOST = 3000


@contextmanager
def case(target: str, number: int) -> Iterator[Random]:
    """The generator of one case; what goes wrong inside names it."""
    begun = time.monotonic()
    try:
        yield Random(f"{SEED} {target} {number}")
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise AssertionError(f"MODIC_FUZZ_SEED={SEED}, {target}, case {number}: {what}") from error
    assert time.monotonic() - begun < SLOW_S, f"MODIC_FUZZ_SEED={SEED}, {target}, case {number} is slow"


def fuzz(target: str, try_one: Callable[[Random], None]) -> None:
    """Cases until the time is over; at least twenty."""
    ends = time.monotonic() + SECONDS
    for number in range(MOST):
        if number >= 20 and time.monotonic() > ends:
            return
        with case(target, number) as dice:
            try_one(dice)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Whole files: explicit, implicit, compressed."""
    folder, slices = tmp_path_factory.mktemp("images"), dicoms.series(n=5, rows=64, columns=64)
    slices[1].file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    slices[2].compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    return [path.read_bytes() for path in dicoms.write(slices, folder)]


@pytest.mark.filterwarnings("ignore")
def test_headers(tmp_path: Path, images: list[bytes]) -> None:
    path = tmp_path / "archive" / "2"
    path.parent.mkdir()
    for index in (0, 1, 3, 4):
        (path.parent / str(index)).write_bytes(images[index])

    def try_one(dice: Random) -> None:
        whole = images[dice.randrange(len(images))]
        head = len(whole) if dice.random() < 0.3 else 1000  # most of a file is pixels
        path.write_bytes(damaged_bytes(whole[:head], dice) + whole[head:])
        with path.open("rb", buffering=0) as file:
            rows = read_rows(file)
        if not isinstance(rows, Reason):
            file_of = {"path": "2", "size": 1, "mtime_ns": 1, "member": None, "reason": None}
            pa.Table.from_pylist([{**file_of, **row} for row in rows], schema=INDEX)
        if dice.random() < 0.3:
            found = crawl(path.parent, index=None)
            series = identify(found.headers, options=IdentifyOptions())
            pair(series, options=PairOptions())
            for one in series:
                if one.rejected is None:
                    assert isinstance(load_volume(one, options=IdentifyOptions()), Volume | Rejected)

    fuzz("headers", try_one)


def test_cards(tmp_path: Path) -> None:
    names = {"detector": "detector", "classifier": "classifier", "segmenter": "endplates", "steps": "count_from_c2"}
    shipped = {kind: read_card(name, kind)[0] for kind, name in names.items()}
    weights = tmp_path / "small.safetensors"
    weights.write_bytes(b"")
    same = {"sha256": sha256(weights)}

    def try_one(dice: Random) -> None:
        kind = dice.choice(list(names))
        used = {key: value for key, value in shipped[kind].items() if key in PARTS}
        text = (
            damaged_json(used, dice)
            if dice.random() < 0.8
            else damaged_bytes((SHIPPED / f"{names[kind]}.json").read_bytes(), dice)
        )
        values = try_json(text)
        if isinstance(values, dict):
            text = json.dumps({"kind": kind, **values, **same}).encode()
        weights.with_suffix(".json").write_bytes(text)
        try:
            cards = shipped | {kind: read_card(str(weights), kind)[0]}
            check_networks(Config(), **cards)
            calibration = cards["classifier"].get("calibration", {})
            quantiles_at(calibration)
        except UsageError as error:
            assert str(error)
            return
        published_thresholds(calibration)
        Calibration.of(cards["detector"])

    fuzz("cards", try_one)


def try_json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    root = make_cohort(tmp_path_factory.mktemp("cohort"))
    (root / "private").mkdir(exist_ok=True)
    (root / "private" / "cohort.json").write_text('{"layout": 1}')
    return open_cohort(root)


PARTS = ("architecture", "preprocessing", "calibration")
LABELS = "study_key,level,mc,reader,verdict,blind,sample_id,patient_id,x0,y0,x1,y1,slice\n" + "".join(
    f"s_{number:016x},{level},{number % 3},ann,,yes,,p{number},1,2,30,40,5\n"
    for number in range(3, 9)
    for level in ("L4/L5", "L5/S1")
)


def test_csv_files(tmp_path: Path, cohort: Cohort) -> None:
    path = tmp_path / "labels.csv"

    def try_one(dice: Random) -> None:
        if dice.random() < 0.5:
            path.write_bytes(damaged_bytes(LABELS.encode(), dice))
        else:
            cells = [line.split(",") for line in LABELS.splitlines()]
            for _ in range(dice.randint(1, 4)):
                line = cells[dice.randrange(len(cells))]
                line[dice.randrange(len(line))] = damaged_json(dice.choice(line), dice).decode("utf-8", "replace")
            path.write_text("\n".join(map(",".join, cells)), encoding="utf-8")
        for read in (read_labels, lambda file: readings(cohort, file)):
            try:
                read(path)
            except UsageError as error:
                assert str(path) in str(error) or "links.parquet cannot be read" in str(error)

    fuzz("csv", try_one)


def readings(cohort: Cohort, path: Path) -> None:
    for reading in read_readings(cohort.root, [path]).rows:
        assert reading.truth in (None, 0, 1, 2) and reading.weight == 1 and reading.reader.isprintable()


def test_json_files_of_a_cohort(cohort: Cohort) -> None:
    run_id = status.finished(cohort).run_id  # type: ignore[union-attr]
    case_folder = cohort.case(run_id, "s_0000000000000000")
    manifest, mark = cohort.run(run_id) / "manifest.json", cohort.private / "cohort.json"
    box = {
        "box": [1.0, 2.0, 3.0, 4.0],
        "shown": 1,
        "slice": 2,
        "alone": [0.1, 0.9],
        "agree": 1,
        "upper": 0.5,
        "t1": 0.4,
    }
    whole: dict[Path, Any] = {
        case_folder / "case.json": {"size": [448, 300], "slices": 5, "levels": {"L5/S1": box, "L4/L5": box}},
        manifest: {"studies_worked_on": 5, "to_grade": "5 new", "seconds": {"grade": 10.0, "find_studies": 1.0},
                   "seconds_by_stage": {"load": 1.0, "levels": 2.0}},
        mark: {"layout": 1},
    }  # fmt: skip
    for path, value in whole.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))

    def try_one(dice: Random) -> None:
        path = dice.choice(list(whole))
        path.write_bytes(damaged_json(whole[path], dice))
        try:
            assert len(status.lines(open_cohort(cohort.root))) <= 12
            images = read_case(case_folder)
            assert images is None or all(type(side) is int for side in images["size"])
        except UsageError as error:
            assert (path == mark and str(mark) in str(error)) or "layout" in str(error)
        finally:
            path.write_text(json.dumps(whole[path]))

    fuzz("json", try_one)


def test_options(tmp_path: Path) -> None:
    from flows.clusters import read_cluster

    guide = Path(__file__).parents[2] / "deployments"
    toml, clusters = (guide / "cohort.toml").read_bytes(), sorted((guide / "clusters").glob("*.yaml"))

    def try_one(dice: Random) -> None:
        path = tmp_path / "options"
        if dice.random() < 0.5:
            path.write_bytes(damaged_bytes(toml, dice))
            read: Callable[[Path], object] = load_config
        else:
            path.write_bytes(damaged_bytes(dice.choice(clusters).read_bytes(), dice))
            read = read_cluster
        try:
            read(path)
        except UsageError as error:
            assert str(path) in str(error)

    fuzz("options", try_one)


def test_decoding() -> None:
    """What modic.decode accepts, encodes to what it was; everything else is refused with a message."""
    from dataclasses import asdict

    from modic.run.shards import Shard

    whole = asdict(Shard("00001", 5, 2, True, ("00000",)))

    def try_one(dice: Random) -> None:
        value = try_json(damaged_json(whole, dice))
        try:
            found = decode(Shard, value, "shard")
        except UsageError as error:
            assert str(error).startswith("shard")
            return
        assert json.loads(json.dumps(asdict(found))) == {**json.loads(json.dumps(asdict(Shard("", 0)))), **value}

    fuzz("decode", try_one)
