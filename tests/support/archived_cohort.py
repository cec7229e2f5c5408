"""A published cohort whose archive is there: made DICOM series, the crawl's index, and links, without any grading."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import dicoms
from made_cohort import RUN, as_tables, key, make_rows
from modic.archive.crawl import crawl
from modic.config import IdentifyOptions
from modic.run.memory import LINKS
from modic.series.identify import identify
from modic.tables.store import publish

ROWS, COLUMNS, SPACING = 300, 240, (0.9, 0.9)
STACKS = {"t1": {"n": 9, "gap": 4.5}, "t2": {"n": 12, "gap": 4.0}}


def archived_cohort(root: Path, graded: int = 4) -> Path:
    """The cohort `root/cohort` of the archive `root/archive`; returns the cohort."""
    archive, cohort = root / "archive", root / "cohort"
    for number in range(graded):
        for contrast, stack in STACKS.items():
            dicoms.write(_series(number, contrast, stack), archive / str(number) / contrast)
    (cohort / "private").mkdir(parents=True)
    (cohort / "private" / "cohort.json").write_text('{"layout": 1}')
    found = identify(
        crawl(archive, index=cohort / "private" / "header_index.parquet").headers, options=IdentifyOptions()
    )
    rows = make_rows(graded=graded)
    links = []
    for number in range(graded):
        study = rows["studies"][number]
        for contrast in STACKS:
            series = next(s for s in found if s.patient_id == f"patient-{number}" and s.contrast == contrast)
            links.append(
                {"study_key": study["study_key"], "patient_key": study["patient_key"], "stack": series.stack}
                | {"series_key": study[f"{contrast}_series_key"], "PatientID": series.patient_id}
                | {"StudyInstanceUID": series.study_uid, "SeriesInstanceUID": series.series_uid}
            )
    for level in rows["levels"]:
        if level["status"] == "graded":
            level |= boxes_of(level["level"], rows)
    publish(cohort, as_tables(rows), RUN)
    pq.write_table(pa.Table.from_pylist(links, schema=LINKS), cohort / "private" / "links.parquet")
    return cohort


def boxes_of(level: str, rows: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """A box in the middle of both contrasts, lower for lower levels."""
    from modic.records import LEVELS

    top = 30.0 + 40 * LEVELS.index(level)
    box = {"x0": 100.0, "y0": top, "x1": 145.0, "y1": top + 18}
    return {f"{contrast}_{edge}": value for contrast in STACKS for edge, value in box.items()} | {
        "t1_slice": 4, "t2_slice": 6,
    }  # fmt: skip


def _series(number: int, contrast: str, stack: dict[str, Any]) -> list[Any]:
    """Slices of smooth noise with a bright band at the front, as bright as belly fat."""
    rng = np.random.default_rng([number, contrast == "t1"])
    values = dicoms.t1() if contrast == "t1" else dicoms.t2()
    slices = dicoms.series(
        values,
        name=contrast,
        study=number,
        patient=f"patient-{number}",
        rows=ROWS,
        columns=COLUMNS,
        spacing=SPACING,
        **stack,
    )
    for index, slice_ in enumerate(slices):
        noise = cv2.GaussianBlur(rng.normal(0, 1, (ROWS, COLUMNS)), (0, 0), 4)
        pixels = 300 + 20 * index + 60 * noise / noise.std()
        pixels[:, :20] = 1500
        dicoms.set_pixels(slice_, np.clip(pixels, 0, 4000).astype(np.uint16))
    return slices


def study_of(number: int) -> str:
    """The key of a study."""
    return key("s", number)
