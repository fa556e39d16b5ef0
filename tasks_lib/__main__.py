"""`python -m tasks_lib`: the command line, see `cli`."""

from __future__ import annotations

import sys

from tasks_lib.cli import main

if __name__ == "__main__":
    sys.exit(main())
