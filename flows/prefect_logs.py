"""What the loggers of `modic` say, here and in the Dask workers, into Prefect's log of the run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run, task_run

LOGGER = "modic"


class RunLogs(APILogHandler):
    """Sends each record to this flow run, and to the task run of its shard where it has one.

    Records of workers arrive in a thread of Dask's, which knows no run; those of a shard carry its name.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._flow_run = flow_run.id
        self.task_runs: dict[str, UUID] = {}  # of every shard
        self.addFilter(self._address)

    def _address(self, record: logging.LogRecord) -> bool:
        shard = getattr(record, "shard", "").rstrip("abr")  # modic.run.isolate.isolate names its parts so
        record.flow_run_id = self._flow_run
        record.task_run_id = self.task_runs.get(shard) or task_run.id
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
