"""`python -m pathfit` is the command `pathfit`."""

import sys

from pathfit.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
