"""How two series of a patient differ: in time, in the words of their descriptions, or in nothing else."""

from collections.abc import Sequence

import numpy as np

from modic.records import Series
from modic.series.acquisition import hours_between, moment, reconstruction, seconds_of
from modic.series.wording import new_words

SAME_ORIENTATION = 0.02  # largest difference of any number of ImageOrientationPatient
AGENT_HOURS = 24.0  # after which an agent given for another study has left the blood and the tissue
SAME_TIMES = 0.02  # largest relative difference of TR and TE of series that are alike


def is_after_agent(series: Series, agent: Series) -> bool:
    """Whether a series was acquired after one that names an agent, or after the agent was given for that one."""
    one_study = series.study_uid == agent.study_uid
    then, given = moment(series.header), moment(agent.header)
    hours = hours_between(given, then, one_study=one_study)
    started = seconds_of(agent.header["ContrastBolusStartTime"])
    if hours is not None and started is not None and given.seconds is not None and started < given.seconds:
        hours += (given.seconds - started) / 3600
    if hours is not None:
        stuck = one_study and then.day == given.day and abs(hours) > 12  # past midnight under an old date?
        return bool(stuck or 0 < hours <= AGENT_HOURS)
    numbers = series.header["SeriesNumber"], agent.header["SeriesNumber"]
    return one_study and all(numbers) and numbers[0] > numbers[1]


def _is_later(series: Series, other: Series) -> bool:
    """Whether a series of a study was acquired after another of it; False if that is unknown."""
    hours = hours_between(moment(other.header), moment(series.header), one_study=True)
    if hours is not None:
        return hours > 0
    numbers = series.header["SeriesNumber"], other.header["SeriesNumber"]
    return all(numbers) and numbers[0] > numbers[1]


def has_new_word(series: Series, study: list[Series]) -> bool:
    """Whether a series is alike to an earlier one, and its description has a word that the other's lacks."""
    own = new_words(str(series.header["SeriesDescription"] or ""))
    return any(
        own - words and _is_later(series, other)
        for other in study
        if _are_alike(series, other) and (words := new_words(str(other.header["SeriesDescription"] or "")))
    )


def is_wordier(series: Series, study: list[Series]) -> bool:
    """Whether a series is alike to another, and its description is the other's and more."""
    own = new_words(str(series.header["SeriesDescription"] or ""))
    return any(
        words < own
        for other in study
        if _are_alike(series, other) and (words := new_words(str(other.header["SeriesDescription"] or "")))
    )


def _are_alike(series: Series, other: Series) -> bool:
    """Whether two series differ in nothing but their texts and times: contrast, place, matrix, TR and TE."""
    a, b = series.header, other.header
    if series is other or series.contrast != other.contrast or series.n_slices != other.n_slices:
        return False
    if any(a[key] != b[key] for key in ("Rows", "Columns", "MRAcquisitionType")) or not a["ImageOrientationPatient"]:
        return False
    if not nearly(a["ImageOrientationPatient"], b["ImageOrientationPatient"], SAME_ORIENTATION):
        return False
    near_times = all(
        abs((a[key] or 0) - (b[key] or 0)) <= SAME_TIMES * (a[key] or 0) for key in ("RepetitionTime", "EchoTime")
    )
    return near_times and reconstruction(a) == reconstruction(b)


def nearly(values: Sequence[float], others: Sequence[float] | None, most: float) -> bool:
    return others is not None and len(values) == len(others) and bool(np.abs(np.subtract(values, others)).max() <= most)
