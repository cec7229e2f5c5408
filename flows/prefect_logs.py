"""Shows the log records of `modic`, from this process and from the Dask workers, in Prefect's log of the run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run, task_run

LOGGER = "modic"


class RunLogs(APILogHandler):
    """Sends each record to this flow run, and to the task run of its shard where it has one.

    Records of workers arrive in a thread of Dask's that belongs to no run. Those about a study carry, as `shard`, the
    id of the shard that its study was planned in (modic.run.shards.Shard.planned).
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._flow_run = flow_run.id
        self.task_runs: dict[str, UUID] = {}  # id of a planned shard → its task run
        self.addFilter(self._address)

    def _address(self, record: logging.LogRecord) -> bool:
        record.flow_run_id = self._flow_run
        record.task_run_id = self.task_runs.get(getattr(record, "shard", "")) or task_run.id
        return True


@contextmanager
def shown() -> Iterator[RunLogs]:
    """Inside, records of level INFO and above are sent to Prefect."""
    logger, handler = logging.getLogger(LOGGER), RunLogs()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
