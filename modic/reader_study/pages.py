"""The pages on which readers read, and the images beside them: one folder that may be sent.

    reader-1.html …           a page for each reader, with the discs in another order
    <study_key>.t1.webp …     the whole stacks of a study (modic/reader_study/stacks.py)
    <study_key>.webp          the tiles of a study whose images are no longer in the archive

Nothing in it names a patient or holds an answer of the model. Pages with links to a viewer of the site name studies by
their UIDs: they are written to the cohort's private folder alone.
"""

import random
import re
import string
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from modic.cases.viewer import as_json, viewer
from modic.cohort import Cohort
from modic.errors import UsageError
from modic.files import make_folder, write_whole
from modic.reader_study.stacks import CONTRASTS, Archive, place
from modic.reader_study.weights import RANDOM
from modic.records import LEVELS
from modic.templates.render import template

Disc = dict[str, Any]
"""A row of `levels` with the columns of its study, its case.json as `case`, and how it was drawn as `drawn`."""

PAGE = Path(__file__).with_name("reading")
FIELDS = ("StudyInstanceUID", "SeriesInstanceUID", "PatientID")
"""What the address of a viewer may name: UIDs of the study and of its T2 series, and the patient's id."""

NOT_A_VIEWER = frozenset({"javascript", "data", "vbscript", "file", "blob"})
CHOSEN = "chosen"
"""How a disc was drawn if not at random, as a page and its CSV say it: the reason would be an answer of the model."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the discs of a sample are read."""

    sample_id: str
    readers: tuple[str, ...]
    endplates: bool = False  # each disc begins with its endplates
    repeats: int = 0  # discs that each reader reads again, unannounced
    viewer_url: str = ""  # address of the site's own viewer, with FIELDS in braces
    seed: int = 0
    arbitration: bool = False


def pages_folder(cohort_root: Path, out: Path | None, name: str, viewer_url: str) -> Path:
    """Where the pages go: `out`, or with links to a viewer a folder of the cohort's private one.

    Raises UsageError if `out` is not new or empty, is missing, or would hold links.
    """
    if viewer_url:
        check_viewer_url(viewer_url)
        if out is not None:
            raise UsageError("pages with --viewer-url name patients and stay in COHORT/private: leave out --out")
        return Cohort(cohort_root).private / "reading" / name
    if out is None:
        raise UsageError("name a new folder for the readers' pages: --out DIR")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not an empty folder; name a new one for the readers' pages")
    return out


def write_pages(
    cohort_root: Path, out: Path, drawn: list[Disc], reading: Reading,
    given: dict[tuple[str, str], list[dict[str, Any]]] | None = None,
) -> list[Path]:  # fmt: skip
    """Write the images and a page for each reader; returns the pages.

    `given`: what readers gave of a disc (study_key, level), to be shown for arbitration.
    """
    make_folder(out)
    archive = Archive(cohort_root, {disc["study_key"] for disc in drawn})
    of_study: dict[str, list[Disc]] = {}
    for disc in drawn:
        of_study.setdefault(disc["study_key"], []).append(disc)
    studies, items = {}, []
    with ThreadPoolExecutor(len(CONTRASTS)) as pool:
        for key, discs in of_study.items():
            studies[key], places = _write_study(cohort_root, out, archive, discs, pool)
            items += [_item(disc, place) for disc, place in zip(discs, places, strict=True)]
    if reading.viewer_url:
        links = {key: link(reading.viewer_url, archive.identifiers(key)) for key in of_study}
        items = [item | {"link": links[item["key"]]} for item in items]
    if given:
        items = [item | {"given": given[item["key"], LEVELS[item["level"]]]} for item in items]
    return [_write_page(out, reader, studies, items, reading) for reader in reading.readers]


def _write_study(
    cohort_root: Path, out: Path, archive: Archive, discs: list[Disc], pool: ThreadPoolExecutor
) -> tuple[Disc, list[list[Disc]]]:
    """The images of a study; what the page needs of them, and of each disc.

    `pool` encodes the contrasts at once; they are read here, since reading hides warnings of the whole process.
    """
    key = discs[0]["study_key"]
    stacks = archive.stacks(key)
    if stacks is not None:
        files = [f"{key}.{name}.webp" for name in CONTRASTS]
        written = pool.map(lambda name, file: stacks[name].write(out / file), CONTRASTS, files)
        images = [about | {"file": file} for about, file in zip(written, files, strict=True)]
        return {"images": images, "whole": True}, [place(stacks, disc) for disc in discs]
    data = (Cohort(cohort_root).pictures(discs[0]["run_id"], key) / "regions.webp").read_bytes()
    write_whole(out / f"{key}.webp", data)
    n, side = discs[0]["case"]["slices"], _width(data) // (2 * discs[0]["case"]["slices"])
    image = {"file": f"{key}.webp", "across": 2 * n, "size": [side, side], "n": n, "spacing": [1, 1]}
    return {"images": [image, image], "whole": False}, [_tiles(disc, n, side) for disc in discs]


def _tiles(disc: Disc, n: int, side: int) -> list[Disc]:
    """Where the tiles of a disc lie, in the form of `modic.reader_study.stacks.place`."""
    row, (left, right) = LEVELS.index(disc["level"]) * 2 * n, (side * 0.25, side * 0.75)
    shared = {"box": [left, left, right, right], "first": -(n // 2), "step": 1, "window": [0, 1]}
    return [shared | {"from": row + contrast * n} for contrast in range(len(CONTRASTS))]


def _width(webp: bytes) -> int:
    import cv2
    import numpy as np

    image = cv2.imdecode(np.frombuffer(webp, np.uint8), cv2.IMREAD_GRAYSCALE)
    return 0 if image is None else int(image.shape[1])


def _item(disc: Disc, places: list[Disc]) -> Disc:
    """One disc as a reader's page holds it: nothing of the model's answer."""
    drawn = RANDOM if disc.get("drawn", RANDOM) == RANDOM else CHOSEN
    own = {"sample": disc["sample_id"]} if "sample_id" in disc else {}
    return {"key": disc["study_key"], "level": LEVELS.index(disc["level"]), "drawn": drawn, "places": places, **own}


def _write_page(out: Path, reader: str, studies: Disc, items: list[Disc], reading: Reading) -> Path:
    ordered = in_order(items, reading, reader)
    data = {
        "mode": "arbitration" if reading.arbitration else "reading", "levels": LEVELS, "reader": reader,
        "sample": reading.sample_id, "endplates": reading.endplates, "studies": studies, "items": ordered,
    }  # fmt: skip
    parts = viewer(as_json(data), PAGE)
    text = template("reading.html").render(reader=reader, private=bool(reading.viewer_url), **parts)
    return write_whole(out / f"{reader}.html", text)


def in_order(items: list[Disc], reading: Reading, reader: str) -> list[Disc]:
    """The discs in a reader's own order; those to be read again come in the second half, not soon after the first."""
    chance = random.Random(f"{reading.seed} {reading.sample_id} {reader}")
    ordered = sorted(items, key=lambda item: (item["key"], item["level"]))
    again = random.Random(f"{reading.seed} {reading.sample_id}").sample(ordered, min(reading.repeats, len(ordered)))
    chance.shuffle(ordered)
    named = {(item["key"], item["level"]) for item in again}
    first = [item for item in ordered if (item["key"], item["level"]) in named]
    ordered = first + [item for item in ordered if (item["key"], item["level"]) not in named]
    half = ordered[: (len(ordered) + 1) // 2]
    chance.shuffle(half)  # those that come again are all in the first half
    rest = ordered[len(half) :] + [item | {"repeat": 1} for item in again]
    chance.shuffle(rest)
    return half + rest


def link(template_: str, identifiers: dict[str, str]) -> str:
    """The address of one study in the site's viewer."""
    return template_.format(**{name: quote(value, safe="") for name, value in identifiers.items()})


def check_viewer_url(url: str) -> None:
    """Raise UsageError unless `url` is an address with at least one of FIELDS in braces."""
    try:
        named = {name for _, name, _, _ in string.Formatter().parse(url) if name is not None}
    except ValueError:
        named = {"?"}
    scheme = re.match(r"([a-z][a-z0-9+.-]*):", url)
    if not named or named - set(FIELDS) or scheme is None or scheme[1] in NOT_A_VIEWER:
        fields = ", ".join(f"{{{name}}}" for name in FIELDS)
        raise UsageError(
            f"--viewer-url {url}: give an address such as https://pacs.example/?study={{StudyInstanceUID}}, with one"
            f" or more of {fields}"
        )
