"""The folder of a study: regions are read, checked and divided into folds once, before anything is trained.

STUDY/
  folds.parquet  out_of_fold.parquet  comparisons.parquet  report.html  report.md  …     written at the end
  shards/<fold>.parquet     finished folds, immutable, each appears whole; a killed study is resumed from them
  private/   mode 0700: images of the discs, the design with its paths, the names of the patients, checkpoints
"""

import csv
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from modic.cohort import Cohort
from modic.errors import UsageError
from modic.experiment.design import Design, Fold, as_plain, design_from
from modic.experiment.split import Split, split_patients
from modic.files import read_json, write_json
from modic.grades import GRADES
from modic.text import counted
from modic.train.data import KINDS
from modic.train.data.discs import Disc, load_discs, save_discs

MAY_CHANGE = frozenset({"out", "device"})
"""Options that may differ when a study is resumed."""
SPLIT = "dealt.npz"
"""The file of the folds, in `private/`."""


@dataclass(frozen=True, eq=False)
class Study:
    """A study that is ready to be trained."""

    design: Design
    discs: list[Disc]  # the regions; `patient` is a number within the study
    split: Split

    @property
    def labels(self) -> np.ndarray:
        """The Modic types, int (n,)."""
        return np.array([disc.label for disc in self.discs])

    @property
    def classes(self) -> tuple[int, ...]:
        """The Modic types that occur."""
        return tuple(np.unique(self.labels).tolist())

    @property
    def patients(self) -> int:
        """The number of patients."""
        return len({disc.patient for disc in self.discs})

    def line(self) -> str:
        """The data and the design in one line for the terminal."""
        counts = ", ".join(f"{GRADES[k]} {int((self.labels == k).sum())}" for k in self.classes)
        design = self.design
        return (
            f"{len(self.discs)} discs of {self.patients} patients ({counts}); {len(design.normalizations)} "
            f"normalizations × {counted(design.repeats, 'repeat')} × {counted(design.folds, 'fold')}"
        )


def fold_path(out: Path, fold: Fold) -> Path:
    """The file of a finished fold."""
    return out / "shards" / f"{fold.id}.parquet"


def unfinished(design: Design) -> list[Fold]:
    """The folds that have no file yet."""
    return [fold for fold in design.every_fold if not fold_path(design.out, fold).is_file()]


def prepare(design: Design, *, say: Callable[[str], None] = print) -> Study:
    """Read and check the data and divide the patients, unless an earlier call with the same options did so.

    `say` prints a line. Raises UsageError for data that cannot be studied, and if `design.out` holds another study or
    other files.
    """
    private = design.out / "private"
    check_out(design)
    if (private / "design.json").is_file():
        return open_study(design.out)
    private.mkdir(parents=True, exist_ok=True, mode=0o700)
    discs = read_discs(design, say)
    labels, names = np.array([disc.label for disc in discs]), np.array([_name(disc) for disc in discs])
    split = split_patients(labels, names, repeats=design.repeats, folds=design.folds, seed=design.seed)
    save_discs(private / "discs.npz", _numbered(discs, private / "patients.csv"))
    np.savez(private / SPLIT, test_fold=split.test_fold, stop=split.stop)
    write_json(private / "design.json", _record(design))  # last: from now on the study is prepared
    open_study.cache_clear()
    return open_study(design.out)


def check_out(design: Design) -> None:
    """Raise UsageError if the study's folder holds other files, or a study with other options."""
    earlier = design.out / "private" / "design.json"
    if earlier.is_file():
        _refuse_other(_read_record(earlier), _record(design), design.out)
    elif design.out.exists() and (not design.out.is_dir() or any(x.name != "private" for x in design.out.iterdir())):
        raise UsageError(f"{design.out} is not empty and not a study; name a new folder")


def _read_record(path: Path) -> dict[str, Any]:
    record = read_json(path)
    if record is None:
        raise UsageError(f"{path} is damaged; restore it from a backup, or name a new folder")
    return record


@lru_cache(maxsize=1)
def open_study(out: Path) -> Study:
    """The prepared study in `out`, read once in each process. Raises UsageError if there is none."""
    private = out / "private"
    if not (private / "design.json").is_file():
        raise UsageError(f"{out} holds no study; run `modic study normalization --out {out}` first")
    record = _read_record(private / "design.json")
    record.pop("labels_sha256", None)
    with np.load(private / SPLIT) as file:
        split = Split(file["test_fold"], file["stop"])
    return Study(design_from(record | {"out": str(out)}), load_discs(private / "discs.npz"), split)


def read_discs(design: Design, say: Callable[[str], None]) -> list[Disc]:
    """The discs of all sources in `design.data`. Raises UsageError for a source that is unknown or cannot be read."""
    from modic.train.classifier import read_sources

    synthetic = [source for source in design.data if source.startswith("synthetic=")]
    others = tuple(source for source in design.data if source not in synthetic)
    discs = [disc for source in synthetic for disc in _synthetic(source, design, say)]
    if others:
        options = design.training(Fold("none", 0, 0), classes=(), n_train=1, out=design.out / "private")
        if any(source.split("=")[0] in KINDS for source in others):
            say("reading images …")
        discs += read_sources(replace(options, data=others, labels=design.labels, detector=design.detector))
    if not discs:
        raise UsageError("--data: name at least one source, such as synthetic=912")
    return discs


def _synthetic(source: str, design: Design, say: Callable[[str], None]) -> list[Disc]:
    from modic.experiment.synthetic import synthetic_discs

    value = source.partition("=")[2]
    if not value.isdigit() or int(value) < 1:
        raise UsageError(f"--data {source}: give a number of patients, such as synthetic=912")

    def tell(done: int) -> None:
        if done % 100 == 0:
            say(f"{done} of {value} synthetic patients imaged")

    return synthetic_discs(int(value), design.preprocessing, lesion_depth=design.lesion_depth, tell=tell)


def _name(disc: Disc) -> str:
    """Source and patient: two sources may use the same name for two patients."""
    return f"{disc.source} {disc.patient}"


def _numbered(discs: list[Disc], key: Path) -> list[Disc]:
    """The discs with numbers instead of names of patients; the file `key` keeps the names."""
    numbers = {name: f"{i + 1:04}" for i, name in enumerate(dict.fromkeys(map(_name, discs)))}
    with key.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "source_and_patient_id"])
        writer.writerows((number, name) for name, number in numbers.items())
    return [replace(disc, patient=numbers[_name(disc)]) for disc in discs]


def _record(design: Design) -> dict[str, Any]:
    """What must be the same for a study to be resumed. Raises UsageError if the labels cannot be read."""
    sha256 = None
    if design.labels:
        try:
            sha256 = hashlib.sha256(design.labels.read_bytes()).hexdigest()
        except OSError as error:
            raise UsageError(f"--labels {design.labels} cannot be read: {error.strerror}") from error
    return as_plain(design) | {"labels_sha256": sha256}


def _refuse_other(theirs: dict[str, Any], ours: dict[str, Any], out: Path) -> None:
    """Raise UsageError if the records of the study in `out` and of this call differ."""
    differ = sorted(key for key in (ours.keys() | theirs.keys()) - MAY_CHANGE if ours.get(key) != theirs.get(key))
    if differ == ["labels_sha256"]:
        raise UsageError(f"the labels have changed since {out} was begun; give another --out")
    if differ:
        changes = "; ".join(f"{key} was {theirs.get(key)}, now {ours.get(key)}" for key in differ)
        raise UsageError(f"{out} holds a study with other options ({changes}); repeat them, or give another --out")


@contextmanager
def locked(design: Design) -> Iterator[None]:
    """Lock the folder: one run at a time may write it. Raises UsageError as `check_out`, or if it is locked."""
    check_out(design)
    (design.out / "private").mkdir(parents=True, exist_ok=True, mode=0o700)
    with Cohort(design.out).lock():
        yield
