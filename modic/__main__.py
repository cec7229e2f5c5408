"""`python -m modic`."""

import sys
from pathlib import Path

from modic.cli.main import main

if __name__ == "__main__":
    if not sys.flags.safe_path and Path(sys.path[0]) != Path(__file__).parents[1]:
        sys.path.pop(0)  # the working folder, whose own `flows` would be taken for ours
    sys.exit(main())
