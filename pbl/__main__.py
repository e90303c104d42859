"""`python -m pbl`."""

import sys

from pbl.cli import app, main

__all__ = ["app", "main"]

if __name__ == "__main__":
    sys.exit(main())
