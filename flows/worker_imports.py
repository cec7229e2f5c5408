"""What a worker needs, imported once in the process of which this machine's workers are forked.

`flows.clusters.start_template` starts that process. What cannot be imported here is imported by a worker, which then
tells what is wrong.
"""

import gc
import signal
from contextlib import suppress
from importlib import import_module

from modic.resources import importing

MODULES = (
    "distributed.nanny", "flows.dask_worker", "modic.archive.crawl", "torch", "modic.models.detector",
    "modic.models.weights", "onnx.helper", "pandas", "safetensors.torch",
)  # fmt: skip
"""Not ONNX Runtime, which starts a thread that no fork would have."""

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches it too; the flow stops it
with suppress(Exception), importing():
    for name in MODULES:
        import_module(name)
    import_module("modic.models.quick_import").import_torchvision()
gc.freeze()  # what is never collected stays shared between the workers
