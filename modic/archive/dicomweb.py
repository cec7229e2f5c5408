"""Images of a DICOMweb server: `dicomweb+https://HOST/PATH?StudyDate=20200101-20261231&BodyPartExamined=LSPINE`.

| what                 | asks                            | asked again                                              |
|----------------------|---------------------------------|----------------------------------------------------------|
| the list of studies  | QIDO-RS /studies                | in every run                                             |
| the images of one    | QIDO-RS its series, WADO-RS     | if its numbers of series and images, or the filter, have |
|                      | /metadata of each               | changed                                                  |
| pixels               | WADO-RS the instance, as stored | for pairs that are graded, unless the cache holds them   |

A study is a container, an image a member of it, `<series UID>/<SOP UID>`. Metadata stay in the cache too, so that a run
that was killed goes on where it was. The query may hold the attributes of `OF_STUDY` and `OF_SERIES`; those by which a
patient could be asked for are not among them, because the archive's address is stored and shown.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import BinaryIO
from urllib.parse import parse_qsl

from pydicom.dataset import Dataset

from modic.archive.cache import Cache
from modic.archive.dicomweb_metadata import Json, asking, client_of, hash_of, images_of, listed, state_of, value
from modic.archive.headers import read_metadata
from modic.archive.http_session import check_address, trouble_of
from modic.archive.source import UNKNOWN_TIME, File, Row
from modic.errors import Reason, UsageError

OF_STUDY = ("StudyDate", "StudyDescription", "ModalitiesInStudy", "InstitutionName")
OF_SERIES = ("Modality", "BodyPartExamined", "SeriesDescription", "ProtocolName")
SERIES_AT_ONCE = 4  # of one study
FAILURES = 5  # studies in a row that the server fails to list: then it is down
N_SERIES, N_IMAGES, SERIES_UID, STUDY_UID = "00201206", "00201208", "0020000E", "0020000D"
_failed: dict[str, int] = {}  # server → studies in a row


@dataclass(frozen=True, slots=True)
class DicomWebSource:
    """The MR images of a server at `base`, of the studies and series that fit `query`."""

    base: str
    query: tuple[tuple[str, str], ...]
    cache: Cache

    @classmethod
    def of(cls, url: str, cache: Cache) -> "DicomWebSource":
        """The source that the user, or a path of a study of it, names. Raises UsageError."""
        address, _, query = url.partition("+")[2].partition("?")
        check_address(address)
        pairs = tuple(parse_qsl(query, keep_blank_values=True))
        if unknown := [name for name, _ in pairs if name not in OF_STUDY + OF_SERIES]:
            known = ", ".join(OF_STUDY + OF_SERIES)
            raise UsageError(f"{unknown[0]} is no attribute that images can be asked for by; those are {known}")
        return cls(address.partition("/studies/")[0].rstrip("/"), pairs, cache)

    @property
    def name(self) -> str:
        """Its address without the query."""
        return f"dicomweb+{self.base}"

    def files(self) -> Iterator[File]:
        """Every study. Raises UsageError if the server does not list them."""
        filters = {"ModalitiesInStudy": "MR", **self._filters(OF_STUDY)}
        numbers = ["NumberOfStudyRelatedInstances", "NumberOfStudyRelatedSeries"]
        try:
            search = client_of(self.base).search_for_studies
            studies = listed(search, tag=STUDY_UID, search_filters=filters, fields=numbers)
        except OSError as error:
            raise UsageError(f"{self.name} {trouble_of(error)}") from None
        _failed[self.base] = 0
        for uid, study in sorted(studies.items()):
            counts = value(study, N_IMAGES), value(study, N_SERIES)
            state = UNKNOWN_TIME if None in counts else hash_of([counts, self.query])
            yield File(f"{self.name}/studies/{uid}", int(counts[0] or 0), state, container=True)

    def members(self, container: File) -> Iterator[File]:
        """Every image of a study's MR series. Raises OSError; UsageError if the server is down."""
        study = container.path.rpartition("/")[2]
        filters = {"Modality": "MR", **self._filters(OF_SERIES)}
        try:
            search = client_of(self.base).search_for_series
            series = sorted(listed(search, study, tag=SERIES_UID, search_filters=filters))
            read = partial(images_of, self.cache, self.base, study, known=container.mtime_ns)
            with ThreadPoolExecutor(SERIES_AT_ONCE) as pool:
                images = list(pool.map(read, series))
        except OSError:
            _failed[self.base] = _failed.get(self.base, 0) + 1
            if _failed[self.base] >= FAILURES:
                raise UsageError(f"{self.name} no longer answers; the next run goes on from what it sent") from None
            raise
        _failed[self.base] = 0
        _images.cache_clear()
        for uid, of_series in zip(series, images, strict=True):
            for sop, image in of_series.items():
                yield File(container.path, *state_of(image), member=f"{uid}/{sop}")

    def read_rows(self, path: str, member: str | None) -> list[Row] | Reason:
        """Header rows of an image from its metadata. Raises OSError."""
        image = self._image(path, member)
        try:
            return read_metadata(Dataset.from_json(image, lambda *_: b""))
        except Exception:  # noqa: BLE001  (what pydicom meets in JSON that is no DICOM)
            return Reason.FILE_UNREADABLE

    def state(self, path: str, member: str | None) -> tuple[int, int]:
        """Size of the pixels and hash of the metadata. Raises OSError."""
        return state_of(self._image(path, member))

    def open(self, path: str, member: str | None) -> BinaryIO:
        """The image as the server stores it, from the cache or the server. Raises OSError."""
        _, state = self.state(path, member)

        def fetch(file: BinaryIO) -> None:
            study, (series, _, sop) = path.rpartition("/")[2], (member or "").partition("/")
            with asking():
                client_of(self.base).retrieve_instance(
                    study, series, sop, media_types=(("application/dicom", "*"),)
                ).save_as(file)

        return self.cache.open(f"{path}/{member}/{state}", fetch)

    def _filters(self, names: tuple[str, ...]) -> dict[str, str]:
        return {name: value for name, value in self.query if name in names}

    def _image(self, path: str, member: str | None) -> Json:
        series, _, sop = (member or "").partition("/")
        images = _images(self, path.rpartition("/")[2], series)
        if sop not in images:
            raise FileNotFoundError("no such image")
        return images[sop]


@lru_cache(maxsize=16)  # of the study that is graded and those that are read ahead
def _images(source: DicomWebSource, study: str, series: str) -> dict[str, Json]:
    return images_of(source.cache, source.base, study, series)
