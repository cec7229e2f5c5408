"""`python -m modic`."""

import sys

from modic.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
