"""Entry point of `python -m local_sagemaker`; see `cli`."""

from __future__ import annotations

import sys

from local_sagemaker.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
