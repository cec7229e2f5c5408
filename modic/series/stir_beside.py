"""The STIR beside a pair, which is measured and grades nothing."""

from modic.archive.source import Opens
from modic.config import Config
from modic.errors import Rejected
from modic.imaging.in_place import read_series
from modic.imaging.regions import Volumes
from modic.imaging.registration import Placement, moved, register
from modic.imaging.volume import CanonicalVolume
from modic.records import LevelSet, Pair
from modic.series.contrast_from_pixels import contrast_at


def stir_beside(
    pair: Pair, volumes: Volumes, levels: LevelSet, config: Config, images: Opens | None = None
) -> tuple[CanonicalVolume | None, tuple[str, ...]]:
    """The study's STIR where it agrees with T2, and warnings; None if there is none, or if it does not fit.

    It does not fit if it cannot be read, if its place is in doubt (modic/imaging/registration.py: refused, or neither
    kept nor moved clearly), or if its pixels show a T1 or T2.
    """
    if pair.stir is None or "t2" not in volumes:
        return volumes.get("stir"), ()
    graded = "stir" in volumes  # its warnings are then told with those of T1 and T2
    stir = volumes["stir"] if graded else read_series(pair.stir, config, images)
    if isinstance(stir, Rejected):
        return None, (f"STIR not measured: {stir.reason} {stir.detail}".rstrip(),)
    t2, said = volumes["t2"], [] if graded else list(map(str, (*pair.stir.warnings, *stir.warnings)))
    registration = register(stir, t2)
    placement = registration.in_one_frame(config.registration)
    kept = registration.agrees(config.registration) if pair.check_stir else placement is Placement.KEEP
    if not kept and (pair.check_stir or placement is not Placement.MOVE):
        return None, (f"STIR not measured: it does not lie where T2 does; {registration}",)
    if not kept:
        stir, said = moved(stir, t2, registration), [*said, f"moved to where it agrees with T2; {registration}"]
    found = contrast_at(stir, t2, levels)
    if found.contrast in ("t1", "t2"):
        return None, (f"STIR not measured: its pixels show {found.contrast}; {found.evidence}",)
    return stir, tuple(f"STIR: {text}" for text in said)
