"""What the other series and files of a patient tell of a stack."""

from collections import Counter, defaultdict
from collections.abc import Hashable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modic.archive.containers import full_name
from modic.archive.source import Row
from modic.config import IdentifyOptions
from modic.errors import CURES, Reason, Rejected
from modic.records import Series, SeriesWarning, WarningKind
from modic.series.geometry import leftward, normal_of
from modic.series.partial_stacks import refuse_partial_stacks
from modic.text import counted

SAME_SERIES = ("ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "RepetitionTime", "EchoTime")
MAX_SERIES_COMPARED = 64  # series of one kind that are compared with each other (I15)
MIN_ECHOES = 3  # two are a proton density and a T2, as ever
UNREADABLE = (
    Reason.FILE_UNREADABLE, Reason.FILE_FOLDER_UNREADABLE, Reason.FILE_TRUNCATED, Reason.FILE_VANISHED, *CURES,
)  # fmt: skip


def refuse_parts(stacks: list[Series], options: IdentifyOptions) -> list[Series]:
    """`stacks`, with those refused whose other slices lie in another study or series (I15)."""
    alike: dict[Hashable, list[int]] = defaultdict(list)
    for index, stack in enumerate(stacks):
        if stack.rejected is None:
            frame = stack.frame_of_reference_uid or stack.patient_id
            alike[stack.series_uid, frame].append(index)
            alike[stack.study_uid, frame, *(str(stack.header[key]) for key in SAME_SERIES)].append(index)
    for indices in alike.values():
        group = [stacks[index] for index in indices]
        if not 1 < len({(stack.study_uid, stack.series_uid) for stack in group}) <= MAX_SERIES_COMPARED:
            continue
        one_series = len({stack.series_uid for stack in group}) == 1  # two series may be one scan, run twice
        refused = refuse_partial_stacks([_rows_and_normal(stack) for stack in group], options, interleaved=one_series)
        for index, rejected in zip(indices, refused, strict=True):
            if rejected:
                detail = f"{rejected.detail} in several series or studies"
                stacks[index] = replace(stacks[index], rejected=Rejected(Reason.SERIES_MISSING_SLICE, detail))
    return stacks


def with_company(stacks: list[Series], options: IdentifyOptions) -> list[Series]:
    """`stacks`, with a warning for what only the other series of their study show.

    Series of one image each, with one kind of image, are one scan whose files have a series UID each. Stacks at the
    same places that differ in echo time alone are the echoes of one acquisition, as for a map of T2.
    """
    alike: dict[Hashable, list[int]] = defaultdict(list)
    for index, stack in enumerate(stacks):
        header = stack.header
        kind = (header[key] for key in SAME_SERIES if key != "EchoTime")
        where = tuple(map(str, stack.positions_mm[:1])) if stack.n_slices > 1 else str(header["EchoTime"])
        alike[stack.study_uid, stack.n_slices, stack.plane, where, *map(str, kind)].append(index)
    for indices in alike.values():
        if len(indices) < MIN_ECHOES:
            continue
        group = [stacks[index] for index in indices]
        series, echoes = {stack.series_uid for stack in group}, {stack.echo_time_ms for stack in group}
        warning = None
        if group[0].n_slices == 1 and len(series) >= options.min_slices:
            warning = SeriesWarning(WarningKind.SERIES_OF_ONE_IMAGE, str(len(series)))
        elif group[0].n_slices > 1 and len(echoes - {None}) >= MIN_ECHOES:
            warning = SeriesWarning(WarningKind.ONE_OF_MANY_ECHOES, str(len(echoes)))
        for index in indices if warning else ():
            stacks[index] = replace(stacks[index], warnings=(*stacks[index].warnings, warning))  # type: ignore[arg-type]
    return stacks


def with_unreadable_files(stacks: list[Series], rejected: pa.Table) -> list[Series]:
    """`stacks`, with a warning for those in whose folders lie files that cannot be read: end slices may be missing.

    `rejected`: modic.archive.crawl.Crawl.rejected.
    """
    reasons = pa.array([str(reason) for reason in UNREADABLE], pa.string())
    files = rejected.filter(pc.is_in(rejected["reason"].cast(pa.string()), reasons)).select(["path", "member"])
    if not len(files):
        return stacks
    folders = Counter(folder for file in files.to_pylist() for folder in _folders(file["path"], file["member"]))
    result = []
    for stack in stacks:
        beside = {folder for image in stack.images for folder in _folders(image.path, image.member)[:1]}
        beside |= {f"{image.path}!" for image in stack.images if image.member is not None}
        count = sum(folders[folder] for folder in beside)
        warning = SeriesWarning(WarningKind.FILES_UNREADABLE, counted(count, "file"))
        result.append(replace(stack, warnings=(*stack.warnings, warning)) if count else stack)
    return result


def _folders(path: str, member: str | None) -> list[str]:
    """The folder of a file, also in a container; for one that may itself be a container, what is inside it too."""
    folder = full_name(path, member).rpartition("/")[0]
    return [folder, f"{path}!"] if member is None else [folder]


def _rows_and_normal(stack: Series) -> tuple[list[Row], np.ndarray | None]:
    rows = [{**stack.header, "ImagePositionPatient": position} for position in stack.positions_mm]
    normal = normal_of(stack.header["ImageOrientationPatient"])
    return rows, None if normal is None else leftward(normal)
