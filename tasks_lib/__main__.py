"""Entry point of `python -m tasks_lib`: the command line in `tasks_lib.cli`."""

from __future__ import annotations

import sys

from tasks_lib.cli import main

if __name__ == "__main__":
    sys.exit(main())
