"""Counts of this host's hardware: the processors that the process may use, and NVIDIA GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

_PATIENCE = 20
"""Timeout of `nvidia-smi`, in seconds. With a broken driver it can hang forever."""


def count_cpus() -> int:
    """Return the number of processors that this process may use; in a container it may be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS has no affinity


def count_gpus() -> int:
    """Return the number of GPUs that `nvidia-smi -L` lists; 0 if the program is missing or does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    try:
        listed = subprocess.run(
            [program, "-L"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"ssm: nvidia-smi did not answer within {_PATIENCE} s, so SM_NUM_GPUS is 0\n")
        return 0
    return sum(line.startswith(b"GPU ") for line in listed.stdout.splitlines())
