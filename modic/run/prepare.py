"""Checks everything that the user gave, before anything costs time."""

import hashlib
import json
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from modic import versions
from modic.archive.sources import check_archive
from modic.cohort import Cohort, create_cohort
from modic.config import Config, GradingOptions, load_config
from modic.errors import ModicError, UsageError, where
from modic.files import write_whole
from modic.grading.measured import measured_of
from modic.grading.site_correction import site_correction_of
from modic.grading.thresholds import published_thresholds, quantiles_at
from modic.models.card import DESIGNS, SEGMENTER, STEPS, is_path, model_id, parse_architecture, read_card, weights_path
from modic.models.detector import DetectorArchitecture
from modic.models.endplate_net import check_segmenter
from modic.models.step_classifier import check_step_classifier
from modic.models.weights import load_classifier, load_detector
from modic.run.configuration import NOTHING, Given, check_configuration
from modic.run.filesystem import try_file_system
from modic.run.selection import EVERYTHING, Selection
from modic.run.shards import Grader, Job
from modic.run.wholeness import check_whole
from modic.text import is_utf8, printable

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that a run needs to know, checked (`prepare`)."""

    archive: str  # a folder, or what modic.archive.sources knows
    cohort: Cohort
    config: Config
    device: str
    run_id: str
    started: datetime
    detector_id: str
    classifier_id: str
    grader: Grader
    encoder: str = ""  # hash of all in the networks that decides what is kept of a level (modic/run/regrade.py)
    alpha: float | None = None  # risk of the prediction sets; None: the card does not say
    thresholds: tuple[dict[str, Any], ...] = ()  # of the prediction sets by alpha (modic.grading.thresholds)
    selection: Selection = EVERYTHING
    given: Given = NOTHING  # the files that the user named

    @property
    def models(self) -> str:
        """Hash of everything in the cards that can change a grade."""
        return self.grader.models

    @property
    def weights(self) -> dict[str, str]:
        """Id of each network that the configuration names, of the classifier also its card: a site's own is another."""
        return {"detector": self.detector_id, "classifier": f"{self.classifier_id} {self.grader.models[:12]}"}

    @property
    def job(self) -> Job:
        """What workers, and whoever watches them, need of it."""
        return Job(self.cohort, self.run_id, self.device, self.config.run.study_time_limit_s, self.grader)


def discreet(step: Callable[Concatenate[Run, P], R]) -> Callable[Concatenate[Run, P], R]:
    """Make a bug safe for a log: its exception, which may name a path or a patient, is written to `private/` alone."""

    @wraps(step)
    def wrapped(run: Run, /, *args: P.args, **kwargs: P.kwargs) -> R:
        note = run.cohort.last_error
        try:
            return step(run, *args, **kwargs)
        except ModicError as error:
            with suppress(OSError):
                write_whole(note, f"{error}\n")
            raise
        except Exception as error:  # noqa: BLE001  (raised again, without its message)
            message = f"{step.__name__}: {where(error)}"
            with suppress(OSError):  # the disk may be full
                write_whole(note, traceback.format_exc())
                message += f"; more in {note}"
            raise ModicError(message) from None

    return wrapped


def prepare(
    archive: str,
    cohort: str,
    *,
    config: str = "",
    models: str = "",
    device: str = "auto",
    selection: Selection = EVERYTHING,
    regrade: bool = False,
) -> Run:
    """Check what the user gave, and open the cohort, which is made if it is new. Raises UsageError.

    `regrade`: it is meant that options or weights are not those the cohort was graded with. `models`: a folder with
    weights of detector, classifier or both, or the name of a design, in place of those of the configuration.
    """
    if not (archive and cohort):
        which = "cohort" if archive else "archive"
        raise UsageError(
            f"no {which} is given; a deployment takes them from MODIC_ARCHIVE and MODIC_COHORT when it is deployed"
        )
    for name in (cohort, config, models):
        if not is_utf8(name):
            raise UsageError(f"{printable(name)}: the path holds bytes that are not UTF-8; rename it")
    folder = check_archive(archive)
    options = load_config(Path(config) if config else None)
    found = _in_folder(models) if models else {}
    options = replace(
        options,
        detector=found.get("detector") or _absolute(options.detector),
        classifier=found.get("classifier") or _absolute(options.classifier),
    )
    networks = (
        ("detector", options.detector), ("classifier", options.classifier), ("segmenter", SEGMENTER), ("steps", STEPS)
    )  # fmt: skip
    cards = [read_card(name, kind)[0] for kind, name in networks]
    check_networks(options, *cards)
    detector_id, classifier_id, *_ = map(model_id, cards)
    calibration = cards[1].get("calibration", {})
    options = with_alpha(options, calibration)
    home = create_cohort(Path(cohort), archive=folder)
    cached = replace(options.archive, cache=options.archive.cache or str(home.cache))
    options = replace(options, archive=cached)
    check_whole(home)
    try_file_system(home)
    now, grader = datetime.now(UTC), _grader(options, cards)
    given = Given(str(Path(config).resolve()) if config else "", next(iter(found.values()), ""))
    run = Run(
        archive, home, options, device, home.new_run_id(), now, detector_id, classifier_id, grader,
        _encoder(cards), options.grading.alpha or calibration.get("alpha"), tuple(published_thresholds(cards[1])),
        selection, given,
    )  # fmt: skip
    if not regrade:
        check_configuration(home, options, run.weights, given)
    return run


def _in_folder(models: str) -> dict[str, str]:
    """Network → the folder, or the design by name, for each that it holds a card of.

    Raises UsageError for a folder without any, and for a design whose weights are not there.
    """
    networks = ("detector", "classifier")
    if models in DESIGNS and not is_path(models):
        return {kind: models for kind in networks if read_card(models, kind)}
    name = str(Path(models).resolve())
    found = {kind: name for kind in networks if weights_path(name, kind).with_suffix(".json").is_file()}
    if not found:
        raise UsageError(
            f"--models {models}: there is no classifier.json or detector.json; `modic adapt` writes none if the shipped"
            " grader is better left alone"
        )
    return found


def check_networks(
    config: Config,
    detector: dict[str, Any],
    classifier: dict[str, Any],
    segmenter: dict[str, Any],
    steps: dict[str, Any],
) -> None:
    """Raises WeightsError for weights that do not fit their cards. Shipped ones do; others are loaded to know it."""
    measured_of(classifier["calibration"])
    site_correction_of(classifier["calibration"])
    check_segmenter(segmenter)
    check_step_classifier(steps)
    parse_architecture(DetectorArchitecture, detector["architecture"])
    if is_path(config.detector):
        load_detector(config.detector)
    if is_path(config.classifier):
        load_classifier(config.classifier)


def with_alpha(config: Config, calibration: dict[str, Any]) -> Config:
    """The configuration, its alpha checked against the card; the card's own alpha is as good as none.

    Raises WeightsError (`modic.grading.thresholds.quantiles_at`).
    """
    alpha = config.grading.alpha
    if alpha:
        quantiles_at(calibration, alpha)
    return replace(config, grading=GradingOptions()) if alpha == calibration.get("alpha") else config


def _grader(config: Config, cards: list[dict[str, Any]]) -> Grader:
    """`cards`: as `check_networks` takes them. Any change in them, also of a calibration, is another grader."""
    version = versions.GRADING_VERSION
    text = json.dumps([version, *cards], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    grader_id = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Grader(version, config.grading_hash(), _models_hash(cards), grader_id)


def _encoder(cards: list[dict[str, Any]]) -> str:
    """`_models_hash` without the classifier's calibration."""
    return _models_hash([cards[0], {**cards[1], "calibration": None}, *cards[2:]])


def _absolute(weights: str) -> str:
    """Workers may run in another folder; the name of shipped weights stays a name."""
    return str(Path(weights).resolve()) if is_path(weights) else weights


def _models_hash(cards: list[dict[str, Any]]) -> str:
    """Thresholds for other risks change no grade at the card's own."""
    parts = ("sha256", "architecture", "preprocessing", "calibration")
    chosen = [{part: card.get(part) for part in parts} for card in cards]
    for card in chosen:
        if isinstance(card["calibration"], dict):
            card["calibration"] = {k: v for k, v in card["calibration"].items() if k != "thresholds"}
    text = json.dumps(chosen, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
