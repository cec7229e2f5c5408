"""Images of a study for people: what they show, and where the classifier saw its grade."""

import json
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from lesions import MIDDLE, Spine, spine
from modic.cases import images
from modic.cases.images import (
    MAP_TILE,
    MOST_BYTES,
    TILE,
    encode_images,
    maps_sheet,
    regions_sheet,
    shares,
    shown_maps,
    spine_direction,
    write_case,
)
from modic.config import LevelOptions
from modic.grading.classify import encode_regions, grade_regions
from modic.grading.saliency import Saliency, explain
from modic.imaging.normalize import normalize
from modic.imaging.regions import cut_regions
from modic.imaging.volume import Volume
from modic.models.classifier import build_classifier
from modic.models.weights import Model, load_classifier
from modic.records import LEVELS, Grade, LevelSet, Region

FILES = ["case.json", "maps.webp", "regions.webp", "t1.webp", "t2.webp"]
DOWN = np.array([0.0, 1.0])


@pytest.fixture(scope="module")
def shipped() -> Model:
    return load_classifier()


def cut(patient: Spine, model: Model) -> tuple[list[Any], list[Region]]:
    """Regions as cut, and normalized."""
    preprocessing = model.card["preprocessing"]
    volumes = {"t1": patient.t1, "t2": patient.t2}
    regions = cut_regions(volumes, patient.levels, preprocessing=preprocessing, options=LevelOptions())
    return regions, [normalize(r, method=preprocessing["normalization"]) for r in regions if isinstance(r, Region)]


def draw(folder: Path, patient: Spine, model: Model) -> dict[str, Any]:
    raw, regions = cut(patient, model)
    saliency = explain(regions, grade_regions(regions, classifier=model), classifier=model)
    return json.loads(
        write_case(folder, patient.t1, patient.t2, patient.levels, raw, saliency, region_scale=1.25).read_bytes()
    )


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, shipped: Model) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("case") / "s_1"
    return folder, draw(folder, spine(7003), shipped)


def test_a_study_is_small_and_complete_and_the_same_bytes_again(
    case: tuple[Path, dict[str, Any]], shipped: Model, tmp_path: Path
) -> None:
    folder, facts = case
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MOST_BYTES
    assert draw(tmp_path, spine(7003), shipped) == facts
    for name in FILES:
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()


def chunks(data: bytes) -> set[bytes]:
    """Names of a WebP file's chunks (RIFF)."""
    assert data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    names, at = set(), 12
    while at < len(data):
        names.add(data[at : at + 4])
        at += 8 + (size := struct.unpack("<I", data[at + 4 : at + 8])[0]) + size % 2
    return names


def test_a_picture_is_pixels_and_nothing_else(case: tuple[Path, dict[str, Any]]) -> None:
    for path in case[0].glob("*.webp"):
        assert chunks(path.read_bytes()) <= {b"VP8 ", b"VP8L", b"VP8X", b"ALPH"}


def test_noise_that_hardly_compresses_is_still_small() -> None:
    rng = np.random.default_rng(0)

    def noise(*size: int) -> np.ndarray:
        return np.clip(128 + rng.normal(0, 30, size), 0, 255).astype(np.uint8)

    maps = np.repeat(np.repeat(noise(6 * MAP_TILE // 7, 10 * MAP_TILE // 7, 4), 7, 0), 7, 1)
    files = encode_images([noise(448, 448), noise(448, 448), noise(6 * TILE, 10 * TILE), maps])
    assert sum(map(len, files.values())) <= MOST_BYTES
    assert cv2.imdecode(np.frombuffer(files["maps.webp"], np.uint8), -1).shape == maps.shape


def test_boxes_lie_on_the_discs_of_the_picture(case: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = case
    assert cv2.imread(str(folder / "t2.webp")).shape[1::-1] == tuple(facts["size"])
    patient = spine(7003)
    scale = facts["size"][0] / patient.t2.voxels.shape[2]
    for disc in patient.levels.boxes:
        box = np.array(facts["levels"][disc.level]["box"])
        assert box == pytest.approx((np.array(disc.box) + 0.5) * scale, abs=0.06)
    t2 = cv2.imread(str(folder / "t2.webp"), cv2.IMREAD_GRAYSCALE)
    plane = patient.t2.voxels[MIDDLE]
    assert (
        np.corrcoef(cv2.resize(t2, plane.shape[::-1], interpolation=cv2.INTER_AREA).ravel(), plane.ravel())[0, 1] > 0.97
    )


def test_a_volume_on_its_side_is_shown_upright(shipped: Model, tmp_path: Path) -> None:
    """Rows and columns swapped and slices reversed: another file order, the same patient, the same pictures."""
    patient = spine(7003)
    swap = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, patient.t2.voxels.shape[0] - 1], [0, 0, 0, 1.0]])
    turned = Volume(
        np.ascontiguousarray(patient.t2.voxels[::-1].transpose(0, 2, 1)), patient.t2.affine @ swap
    ).canonical()
    index = turned.native.to_index(patient.t2.to_mm(np.array([[10.0, 20.0, 1.0]])))
    assert index[0] == pytest.approx([20, 10, 3])
    boxes = tuple(
        type(b)(b.level, (b.box[1], b.box[0], b.box[3], b.box[2]), 4 - b.slice_index, b.score)
        for b in patient.levels.boxes
    )
    levels = type(patient.levels)(boxes, "ok", 1.0)
    assert draw(tmp_path / "a", Spine(patient.t1, turned, levels, {}, {}), shipped) == draw(
        tmp_path / "b", patient, shipped
    )
    assert (tmp_path / "a" / "t1.webp").read_bytes() == (tmp_path / "b" / "t1.webp").read_bytes()


def test_the_map_of_an_oedema_lies_at_its_endplate(shipped: Model) -> None:
    """The shipped network on synthetic MC1 of one endplate, where it is sure of MC1."""
    right, on_side = 0, []
    for seed in (7001, 7003, 7004, 7005, 7008, 7012):
        patient = spine(seed)
        _, regions = cut(patient, shipped)
        grades = grade_regions(regions, classifier=shipped)
        boxes = {disc.level: disc.box for disc in patient.levels.boxes}
        for grade, saliency in zip(grades, explain(regions, grades, classifier=shipped), strict=True):
            if patient.grades[grade.level] == 1 and grade.p[1] > 0.5 and len(patient.sides[grade.level]) == 1:
                (side,) = patient.sides[grade.level]
                share = shares(shown_maps(saliency), spine_direction(grade.level, boxes, (1.0, 1.0)), 1.25)
                on_side.append(share[side] / (share["upper"] + share["lower"]))
                flat = shown_maps(saliency).sum((0, 1))
                right += (np.unravel_index(flat.argmax(), flat.shape)[0] < flat.shape[0] / 2) == (side == "upper")
    assert len(on_side) >= 5
    assert right >= len(on_side) - 1
    assert np.mean(on_side) > 0.7


def test_the_maps_are_of_what_the_network_saw_while_grading(shipped: Model) -> None:
    _, regions = cut(spine(7003), shipped)
    encoding = encode_regions(regions, classifier=shipped)
    grades = grade_regions(regions, classifier=shipped, encoding=encoding)
    assert grades == grade_regions(regions, classifier=shipped)
    reused = explain(regions, grades, classifier=shipped, encoding=encoding)[2]
    encoded_again = explain(regions, grades, classifier=shipped)[2]
    for contrast in ("t1", "t2"):
        assert np.array_equal(reused.maps[contrast], encoded_again.maps[contrast])


def spots(n: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Regions of noise; class 0 as they are, 1 with a bright spot on T2 above or below the middle, 2 with one on T1."""
    x = rng.normal(0, 0.3, (n, 2, 5, 32, 32)).astype(np.float32)
    y = rng.integers(0, 3, n)
    for pixels, label in zip(x, y, strict=True):
        row = rng.choice([6, 22])
        if label:
            pixels[2 - label, :, row : row + 5, 12:20] += 3
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.fixture(scope="module")
def resnet() -> Model:
    """A small one of the paper's kind, taught to tell the spots."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    net = build_classifier({"depth": 10, "widths": [8, 8, 16, 16], "dropout": 0.0})
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(30):
        x, y = spots(24, rng)
        loss = torch.nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Model(
        net.eval(),
        {"preprocessing": {}, "calibration": {"temperature": 1.0, "conformal_q": [0.9] * 3}},
        "0" * 12,
        "cpu",
    )


def test_the_papers_networks_are_explained_too(resnet: Model) -> None:
    x, y = spots(24, np.random.default_rng(1))
    regions = [Region("L4/L5", {"t1": t1.numpy(), "t2": t2.numpy()}) for t1, t2 in x]
    grades = grade_regions(regions, classifier=resnet)
    assert sum(int(np.argmax(g.p)) == label for g, label in zip(grades, y.tolist(), strict=True)) >= 20
    hits, contrasts = [], []
    for region, label, saliency in zip(regions, y.tolist(), explain(regions, grades, classifier=resnet), strict=True):
        assert shown_maps(saliency).shape == (2, 5, 32, 32) and shown_maps(saliency).min() >= 0
        if label and saliency.grade.shown == label:
            bright = region.contrasts["t2" if label == 1 else "t1"].mean(0)
            flat = shown_maps(saliency).sum((0, 1))
            hits.append((flat.argmax() // 32 < 16) == (bright.argmax() // 32 < 16))
            contrasts.append(shares(shown_maps(saliency), DOWN, 1.0)["t1"] > 0.5)
            assert contrasts[-1] == (label == 2)
    assert len(hits) >= 8 and np.mean(hits) >= 0.9
    assert any(p.requires_grad for p in resnet.net.parameters())
    assert all(p.grad is None or not p.grad.isnan().any() for p in resnet.net.parameters())


def test_shares_follow_the_tilt_of_the_disc() -> None:
    maps = np.zeros((2, 1, 64, 64), np.float32)
    maps[1, 0, 20, 45] = 1  # above the middle row, and behind
    assert shares(maps, DOWN, 1.25) == {"upper": 1.0, "lower": 0.0, "t1": 0.0}
    tilted = np.array([1.0, 1.0]) / np.sqrt(2)  # the spine runs down and back: the disc's back end is higher
    assert shares(maps, tilted, 1.25)["lower"] == 1.0
    maps[0, 0, 20, 63] = 1  # behind the box: in the canal
    assert shares(maps, DOWN, 1.25) == {"upper": 0.5, "lower": 0.0, "t1": 0.5}
    assert shares(np.zeros_like(maps), DOWN, 1.25) == {}


def test_the_spine_runs_from_the_disc_above_to_the_disc_below() -> None:
    boxes = {"L3/L4": (0.0, 0.0, 2.0, 2.0), "L4/L5": (0.0, 50.0, 2.0, 52.0), "L5/S1": (30.0, 90.0, 32.0, 92.0)}
    assert spine_direction("L4/L5", boxes, (1.0, 1.0)) == pytest.approx(np.array([30, 90]) / np.hypot(30, 90))
    assert spine_direction("L5/S1", boxes, (1.0, 1.0)) == pytest.approx([0.6, 0.8])
    assert spine_direction("L5/S1", boxes, (2.0, 1.0)) == pytest.approx(np.array([60, 40]) / np.hypot(60, 40))
    assert spine_direction("L3/L4", {"L3/L4": boxes["L3/L4"]}, (1.0, 1.0)) == pytest.approx([0, 1])


def test_the_sheets_hold_each_level_in_its_row(case: tuple[Path, dict[str, Any]]) -> None:
    regions = [
        Region(level, {"t1": np.full((5, 8, 8), t1, np.float32), "t2": np.full((5, 8, 8), t2, np.float32)})
        for level, t1, t2 in [("L1/L2", 0, 2), ("L5/S1", 1, 4)]
    ]
    sheet = regions_sheet(regions)
    assert sheet.shape == (6 * TILE, 10 * TILE)
    centres = sheet[TILE // 2 :: TILE, TILE // 2 :: TILE]
    assert centres.tolist() == [[0] * 10] * 1 + [[0] * 10] + [[0] * 10] * 3 + [[255] * 10]
    maps = np.zeros((2, 5, 8, 8), np.float32)
    maps[1, 3] = 0.2
    grade = Grade("L2/L3", (0.8, 0.1, 0.1), (0,), 0, False, ((0.8, 0.1, 0.1),) * 5)
    coloured = maps_sheet([Saliency(grade, {"t1": maps[0], "t2": maps[1]})])
    alpha = coloured[MAP_TILE // 2 :: MAP_TILE, MAP_TILE // 2 :: MAP_TILE, 3]
    assert np.argwhere(alpha).tolist() == [[LEVELS.index("L2/L3"), 8]] and alpha.max() == 255
    assert cv2.imread(str(case[0] / "maps.webp"), -1).shape == (6 * MAP_TILE, 10 * MAP_TILE, 4)


def test_tiles_are_not_clipped() -> None:
    """Marrow as bright as MC2 on T1 beside dark discs; fluid is the brightest thing on T2."""
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.normal(0, 1, (6 * 64, 64)), (0, 0), 3).reshape(6, 64, 64)
    marrow = (400 + 900 * smooth / smooth.std() / 4).astype(np.float32)
    marrow[:, :, -8:] = 2500  # fat or fluid behind the vertebra, an eighth of the tile
    stacks = [np.repeat(plane[None], 5, 0) for plane in marrow]
    regions = [Region(level, {"t1": x, "t2": x}) for level, x in zip(LEVELS, stacks, strict=True)]
    tiles = regions_sheet(regions).reshape(6, TILE, 10, TILE).transpose(0, 2, 1, 3)
    inside = tiles[..., : TILE - TILE // 8 - 2]
    assert inside.max() < 250 and inside.min() < 10


def test_a_failing_picture_costs_no_grade_and_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise MemoryError("Doe^John")

    monkeypatch.setattr(images, "explain", fails)
    nothing: Any = {"t1": None, "t2": None}
    warnings = images.draw_case(tmp_path / "s", nothing, LevelSet((), "ok", 1.0), [], [], [], None, None)  # type: ignore[arg-type]
    assert len(warnings) == 1 and warnings[0].startswith("no pictures: MemoryError") and "Doe" not in warnings[0]
    assert not (tmp_path / "s").exists()
