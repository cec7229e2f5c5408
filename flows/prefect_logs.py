"""Shows the log records of `modic`, from this process and from the Dask workers, in Prefect's log of the run, and keeps
them in a file of the cohort, for runs whose Prefect server is gone.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run, task_run

from modic.errors import ModicError
from modic.files import make_folder
from modic.text import one_line

LOGGER, FLOW = "modic", "prefect.flow_runs"


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
def shown(path: Path) -> Iterator[RunLogs]:
    """Inside, records of level INFO and above are sent to Prefect and appended to the file at `path`.

    The file also gets what the flow itself says, and why the run failed if it does.
    """
    logger, handler, file = logging.getLogger(LOGGER), RunLogs(), _file(path)
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    for name in (LOGGER, FLOW):
        logging.getLogger(name).addHandler(file)
    try:
        yield handler
    except BaseException as error:
        why = one_line(str(error)) if isinstance(error, ModicError) else type(error).__name__
        file.handle(logging.makeLogRecord({"levelno": logging.ERROR, "levelname": "ERROR", "msg": "the run ended: %s",
                                           "args": (why,)}))  # fmt: skip
        raise
    finally:
        for name in (LOGGER, FLOW):
            logging.getLogger(name).removeHandler(file)
        file.close()
        logger.removeHandler(handler)
        logger.setLevel(before)


def _file(path: Path) -> logging.Handler:
    """A disk that is full, or away, must not stop a run: logging itself says so on standard error and goes on."""
    make_folder(path.parent)
    file = logging.FileHandler(path, encoding="utf-8")
    file.setLevel(logging.INFO)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return file
