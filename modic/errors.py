"""Every reason why a file, a series, a study or a level is not graded, and the exceptions that modic raises.

Expected trouble is a value, `Rejected(reason, detail)`, and ends as a row. Only bugs, and input that makes the whole
run impossible, are raised. Each table has a closed list of reasons, by which analysts may group.
"""

import logging
import os
import traceback
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Reason(StrEnum):
    """The closed list. The part before the dot says what was refused: a file, a series, a study or a level."""

    # files (crawl)
    FILE_NOT_DICOM = "file.not_dicom"
    FILE_UNREADABLE = "file.unreadable"
    FILE_FOLDER_UNREADABLE = "file.folder_unreadable"
    FILE_TRUNCATED = "file.truncated"
    FILE_MISSING_UID = "file.missing_uid"
    FILE_NOT_MR = "file.not_mr"
    FILE_NO_PIXELS = "file.no_pixels"
    FILE_ABSURD_SIZE = "file.absurd_size"
    FILE_SIZE_MISMATCH = "file.size_mismatch"
    FILE_DUPLICATE = "file.duplicate"
    FILE_VANISHED = "file.vanished"
    FILE_CONTAINER_DAMAGED = "file.container_damaged"
    FILE_CONTAINER_OVER_LIMIT = "file.container_over_limit"
    FILE_CONTAINER_UNSUPPORTED = "file.container_unsupported"
    FILE_ENCRYPTED = "file.encrypted"
    # series (identify, geometry)
    SERIES_NOT_SAGITTAL = "series.not_sagittal"
    SERIES_NOT_T1_OR_T2 = "series.not_t1_or_t2"
    SERIES_ROLE_UNSURE = "series.role_unsure"
    SERIES_TOO_FEW_SLICES = "series.too_few_slices"
    SERIES_NO_POSITION = "series.no_position"
    SERIES_NO_SPACING = "series.no_spacing"
    SERIES_MIXED_MATRIX = "series.mixed_matrix"
    SERIES_MIXED_ORIENTATION = "series.mixed_orientation"
    SERIES_MIXED_CONTRAST = "series.mixed_contrast"
    SERIES_MIXED_FRAME_OF_REFERENCE = "series.mixed_frame_of_reference"
    SERIES_MISSING_SLICE = "series.missing_slice"
    SERIES_UNEVEN_SPACING = "series.uneven_spacing"
    SERIES_CONFLICTING_SLICES = "series.conflicting_slices"
    SERIES_NOT_GREYSCALE = "series.not_greyscale"
    SERIES_NOT_CHOSEN = "series.not_chosen"
    # studies, by rule: excluded
    STUDY_NO_MR = "study.no_mr"
    STUDY_NO_SAGITTAL_T1 = "study.no_sagittal_t1"
    STUDY_NO_SAGITTAL_T2 = "study.no_sagittal_t2"
    STUDY_NO_SAGITTAL_T1_NOR_T2 = "study.no_sagittal_t1_nor_t2"
    STUDY_NO_OTHER_CONTRAST = "study.no_other_contrast"
    STUDY_FRAMES_DIFFER = "study.frames_of_reference_differ"
    STUDY_LITTLE_OVERLAP = "study.little_overlap"
    STUDY_PATIENT_CONFLICT = "study.patient_conflict"
    STUDY_NO_LEVELS = "study.no_levels_found"
    STUDY_NOT_LUMBAR = "study.not_lumbar"
    # studies, by trouble: failed (the next run tries those of `TRANSIENT` again)
    STUDY_PIXELS_UNREADABLE = "study.pixels_unreadable"
    STUDY_FILES_CHANGED = "study.files_changed"
    STUDY_WORKER_DIED = "study.worker_died"
    STUDY_TIME_LIMIT = "study.time_limit"
    STUDY_OUT_OF_MEMORY = "study.out_of_memory"
    STUDY_INTERNAL_ERROR = "study.internal_error"
    # levels
    LEVEL_NOT_DETECTED = "level.not_detected"
    LEVEL_OUTSIDE_T1 = "level.outside_t1"
    LEVEL_OUTSIDE_CONTRAST = "level.outside_contrast"
    LEVEL_TOO_SMALL = "level.too_small"


CURES = {
    Reason.FILE_CONTAINER_DAMAGED: "damaged or cut off: copy it again from where it came from",
    Reason.FILE_CONTAINER_OVER_LIMIT: (
        "more inside than is unpacked unseen (modic/archive/README.md): if you trust it, unpack it into a folder"
    ),
    Reason.FILE_CONTAINER_UNSUPPORTED: "packed in a way that modic cannot read: unpack it into a folder",
    Reason.FILE_ENCRYPTED: "encrypted: unpack it with its password into a folder",
}
"""What to do about a container, or a member of one, that is not read."""

FAILED = frozenset(
    {
        Reason.STUDY_PIXELS_UNREADABLE,
        Reason.STUDY_FILES_CHANGED,
        Reason.STUDY_WORKER_DIED,
        Reason.STUDY_TIME_LIMIT,
        Reason.STUDY_OUT_OF_MEMORY,
        Reason.STUDY_INTERNAL_ERROR,
    }
)
"""Reasons that make a study `failed` (exit code 3); every other study reason makes it `excluded`."""

TRANSIENT = FAILED - {Reason.STUDY_PIXELS_UNREADABLE}
"""Failures that the next run tries again. Unreadable pixels stay unreadable until the file changes."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file, series, study or level that is not graded, and why.

    `detail` is for readers of the tables. It holds numbers and DICOM keywords, and never a value that could identify a
    patient (no name, id, date, UID or path).
    """

    reason: Reason
    detail: str = ""

    @property
    def study_status(self) -> str:
        """`failed` or `excluded`, for a study refused with this reason."""
        return "failed" if self.reason in FAILED else "excluded"


class ModicError(Exception):
    """The base of everything `modic` raises on purpose."""


class UsageError(ModicError):
    """Wrong arguments or configuration. The command line prints it as one line and exits with 2."""


class DeviceLost(ModicError):
    """This process cannot use the GPU any more: a CUDA error, unlike a lack of memory, stays until the process ends."""


class WeightsError(UsageError):
    """Weights that are missing, or whose hash or preprocessing does not match their card."""


LOG = logging.getLogger(__name__)


def where(error: Exception) -> str:
    """The place of an error for a table or log, such as `ValueError in find.py:120`.

    Gives the class, the operating system's message if there is one, and the innermost line of modic; never the error's
    own message, which may hold values of a patient.
    """
    here = Path(__file__).parent
    system = f" ({os.strerror(error.errno)})" if isinstance(error, OSError) and error.errno else ""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(here)]
    place = f" in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{system}{place}"
