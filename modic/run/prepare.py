"""Checks all that the user gave, before anything costs time."""

import hashlib
import json
import logging
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from modic.cohort import Cohort, create_cohort
from modic.config import Config, GradingOptions, load_config
from modic.errors import ModicError, UsageError, where
from modic.grading.thresholds import published_thresholds, quantiles_at
from modic.models.card import model_id, read_card
from modic.run.shards import Job

LOG = logging.getLogger(__name__)


P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Run:
    """What one run is about, once everything in it has been checked (`prepare`)."""

    archive: Path
    cohort: Cohort
    config: Config
    device: str
    run_id: str
    started: datetime
    detector_id: str
    classifier_id: str
    models: str  # hash of everything in both cards that can change a grade
    alpha: float | None = None  # risk of the prediction sets; None: the card does not say
    thresholds: tuple[dict[str, Any], ...] = ()  # of the prediction sets by alpha (modic.grading.thresholds)

    @property
    def job(self) -> Job:
        """The part that workers and their watchers need."""
        return Job(self.cohort, self.run_id, self.device, self.config.run.study_time_limit_s)


def discreet(step: Callable[Concatenate[Run, P], R]) -> Callable[Concatenate[Run, P], R]:
    """A step whose bugs may be logged: what an exception says, maybe a path or a patient, stays in `private/`."""

    @wraps(step)
    def wrapped(run: Run, /, *args: P.args, **kwargs: P.kwargs) -> R:
        note = run.cohort.private / "last_error.txt"  # `modic status` points to it
        try:
            return step(run, *args, **kwargs)
        except ModicError as error:
            with suppress(OSError):
                note.write_text(f"{error}\n", encoding="utf-8")
            raise
        except Exception as error:  # noqa: BLE001  (raised again, without its message)
            said = f"{step.__name__}: {where(error)}"
            with suppress(OSError):  # the disk may be full
                note.write_text(traceback.format_exc(), encoding="utf-8")
                said += f"; more in {note}"
            raise ModicError(said) from None

    return wrapped


def prepare(archive: str, cohort: str, *, config: str = "", device: str = "auto") -> Run:
    """Check what the user gave and open the cohort, making it where it is new. Raises UsageError."""
    if not (archive and cohort):
        which = "cohort" if archive else "archive"
        raise UsageError(f"no {which} is given; a deployment takes MODIC_ARCHIVE and MODIC_COHORT when it is deployed")
    folder = Path(archive)
    if not folder.is_dir():
        raise UsageError(f"the archive {archive} " + ("is not a folder" if folder.exists() else "does not exist"))
    options = load_config(Path(config) if config else None)
    options = replace(options, detector=_absolute(options.detector), classifier=_absolute(options.classifier))
    cards = [read_card(options.detector, "detector")[0], read_card(options.classifier, "classifier")[0]]
    detector_id, classifier_id = map(model_id, cards)
    calibration = cards[1].get("calibration", {})
    options = with_alpha(options, calibration)
    home = create_cohort(Path(cohort), archive=folder)
    now = datetime.now(UTC)
    return Run(
        folder, home, options, device, home.new_run_id(), now, detector_id, classifier_id, _models_hash(cards),
        options.grading.alpha or calibration.get("alpha"), tuple(published_thresholds(calibration)),
    )  # fmt: skip


def with_alpha(config: Config, calibration: dict[str, Any]) -> Config:
    """The configuration, its alpha checked against the card; the card's own alpha is as good as none.

    Raises WeightsError (`modic.grading.thresholds.quantiles_at`).
    """
    alpha = config.grading.alpha
    if alpha:
        quantiles_at(calibration, alpha)
    return replace(config, grading=GradingOptions()) if alpha == calibration.get("alpha") else config


def _absolute(weights: str) -> str:
    """Workers may run in another folder; the name of shipped weights stays a name."""
    return weights if Path(weights).name == weights and "." not in weights else str(Path(weights).resolve())


def _models_hash(cards: list[dict[str, Any]]) -> str:
    """Thresholds for other risks change no grade at the card's own."""
    parts = ("sha256", "architecture", "preprocessing", "calibration")
    chosen = [{part: card.get(part) for part in parts} for card in cards]
    for one in chosen:
        if isinstance(one["calibration"], dict):
            one["calibration"] = {k: v for k, v in one["calibration"].items() if k != "thresholds"}
    text = json.dumps(chosen, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
