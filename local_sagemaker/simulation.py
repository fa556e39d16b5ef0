"""Jobs that only take their time: the image `local/simulated`, for tests of hundreds of jobs on a laptop.

Such a job has no process. Two variables of its `Environment` say what becomes of it:

- `SIMULATED_SECONDS`: how long it runs (default 1).
- `SIMULATED_STATUS`: how it ends, `Completed` (the default) or `Failed`.

Pure. The API reads it to refuse what cannot be, `runtime.simulator` to do it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

IMAGE = "local/simulated"
_LONGEST = 28 * 86_400.0  # seconds, as MaxRuntimeInSeconds


@dataclass(frozen=True)
class Simulation:
    """What a simulated job does.

    Attributes:
        seconds: how long it runs.
        fails: whether it ends `Failed`.
    """

    seconds: float
    fails: bool


def is_simulated(image: str) -> bool:
    """Whether an image is the one of simulated jobs; a tag or digest after its name does not matter."""
    return image.partition("@")[0].partition(":")[0] == IMAGE


def read_simulation(request: Mapping[str, Any]) -> Simulation:
    """Read what a simulated job shall do.

    Raises:
        ValueError: its variables say something else; the text tells what.
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
