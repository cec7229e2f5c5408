"""Small studies and shards for tests of grading, with models that hold no network."""

from pathlib import Path

from fake_worker import MODEL
from modic.archive.crawl import crawl
from modic.config import Config, IdentifyOptions, PairOptions
from modic.models import weights
from modic.records import Pair
from modic.run import shards
from modic.run.shards import Grader, Job, Shard, Work
from modic.series.identify import identify
from modic.series.pair import pair

MODELS = weights.Models(MODEL, MODEL)  # type: ignore[arg-type]
GRADER = Grader(version=1, configuration="c0ffee123456", models="m0de15", id="0123456789ab")
SHARD = Shard("00000", 1)


def pairs_of(archive: Path) -> list[Pair]:
    """The pairs of T1 and T2 in an archive."""
    series = identify(crawl(archive, index=None).headers, options=IdentifyOptions())
    studies = pair(series, options=PairOptions())
    return [study for study in studies if isinstance(study, Pair)]


def write_shard(job: Job, work: list[Work], config: Config) -> Shard:
    return shards.write_input(job, Shard("00000", len(work)), work, config)
