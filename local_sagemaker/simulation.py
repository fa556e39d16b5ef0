"""Simulated jobs: the image `local/simulated`, for tests with hundreds of jobs on a laptop.

A simulated job has no process. Two variables of its `Environment` control it:

- `SIMULATED_SECONDS`: how long it runs (default 1).
- `SIMULATED_STATUS`: how it ends, `Completed` (the default) or `Failed`.

Pure. The Create operation validates the variables, and `runtime.simulator` runs the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

IMAGE = "local/simulated"
_LONGEST = 28 * 86_400.0  # seconds, as MaxRuntimeInSeconds


@dataclass(frozen=True)
class Simulation:
    """The behavior of a simulated job.

    Attributes:
        seconds: how long it runs.
        fails: whether it ends `Failed`.
    """

    seconds: float
    fails: bool


def is_simulated(image: str) -> bool:
    """Tell whether an image is that of simulated jobs. Ignore its tag and digest."""
    return image.partition("@")[0].partition(":")[0] == IMAGE


def read_simulation(request: Mapping[str, Any]) -> Simulation:
    """Read the behavior of a simulated job from its definition.

    Raises:
        ValueError: a variable is invalid; the text says which.
    """
    variables = request.get("Environment", {})
    seconds, status = variables.get("SIMULATED_SECONDS", "1"), variables.get("SIMULATED_STATUS", "Completed")
    try:
        number = float(seconds)
    except ValueError:
        number = -1.0
    if not 0 <= number <= _LONGEST:
        raise ValueError(f"SIMULATED_SECONDS is {seconds!r}; give seconds from 0 to {_LONGEST:.0f}.")
    if status not in {"Completed", "Failed"}:
        raise ValueError(f"SIMULATED_STATUS is {status!r}; give Completed or Failed.")
    return Simulation(number, status == "Failed")
