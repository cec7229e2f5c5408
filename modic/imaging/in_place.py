"""A pair of series → its volumes, T1 where T2 is.

Whether both lie in one place is asked of the images (registration.py), whatever the headers say.
"""

from dataclasses import replace

from modic.archive.source import Opens
from modic.archive.sources import Opener
from modic.config import Config
from modic.errors import Reason, Rejected, WeightsError
from modic.imaging.load import load_volume
from modic.imaging.regions import Volumes, contrast_label, reference_of
from modic.imaging.registration import Placement, moved, register
from modic.imaging.volume import CanonicalVolume
from modic.records import Pair, Series


def load_volumes(
    pair: Pair, config: Config, *, wanted: tuple[str, ...] = ("t1", "t2"), images: Opens | None = None
) -> Volumes | Rejected:
    """The volumes of a pair by contrast: T1, that on which discs are found (T2), and what else is `wanted`.

    Raises WeightsError if the pair does not hold a contrast (modic.series.pair gives what it is asked for).
    """
    volumes: Volumes = {}
    for name in dict.fromkeys(("t1", reference_of(pair.contrasts), *wanted)):
        if name not in pair.contrasts:
            raise WeightsError(f"the classifier asks for contrast {name}; the pair holds {', '.join(pair.contrasts)}")
        volume = read_series(pair.contrasts[name], config, images)
        if isinstance(volume, Rejected):
            return replace(volume, detail=f"{contrast_label(name)}: {volume.detail}".rstrip(": "))
        volumes[name] = volume
    if "t2" not in volumes:
        return volumes  # modic.pipeline asks the discs
    return _shown_in_one_frame(volumes, config) if pair.check_images else placed(volumes, config)


def read_series(series: Series, config: Config, images: Opens | None) -> CanonicalVolume | Rejected:
    """The volume of a series, or why it cannot be read; `images` as in modic.pipeline.grade_study."""
    return load_volume(series, options=config.identify, source=images or Opener(config.archive))


def _shown_in_one_frame(volumes: Volumes, config: Config) -> Volumes | Rejected:
    """The same volumes, T2 with a warning, if the images show that T1 and T2 share one frame of reference."""
    registration = register(volumes["t1"], volumes["t2"])
    if not registration.agrees(config.registration):
        return Rejected(Reason.STUDY_FRAMES_DIFFER, str(registration))
    warning = f"no header vouches for one frame of reference with T1; {registration}"
    return {**volumes, "t2": replace(volumes["t2"], warnings=(*volumes["t2"].warnings, warning))}


def placed(volumes: Volumes, config: Config) -> Volumes | Rejected:
    """The volumes of one frame of reference, T1 moved if the images say so, or the reason why they do not belong."""
    registration = register(volumes["t1"], volumes["t2"])
    placement = registration.in_one_frame(config.registration)
    if placement is Placement.REFUSE:
        return Rejected(Reason.STUDY_FRAMES_DIFFER, f"one FrameOfReferenceUID, but {registration}")
    if placement is Placement.KEEP:
        return volumes
    t1, said = volumes["t1"], "the images lie apart in one frame of reference"
    if placement is Placement.MOVE:
        t1, said = moved(t1, volumes["t2"], registration), "T1 was moved to where it agrees with T2"
    return {**volumes, "t1": replace(t1, warnings=(*t1.warnings, f"{said}; {registration}"))}
