"""The user's settings of one home: `<home>/settings.json`.

The settings are in a file, not in environment variables, because a later server with another environment may start the
successor of a supervisor. Each supervisor reads them once, when it starts. The server reads them whenever it needs the
quotas, so that they can be changed while it runs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Isolation = Literal["auto", "directory"]


@dataclass(frozen=True)
class Settings:
    """The settings of the job runtime, and the quotas.

    Attributes:
        stop_grace_seconds: seconds from SIGTERM to SIGKILL; default 120, as on AWS (API reference, `StopTrainingJob`).
        isolation: `auto` (the default) gives each host its own namespaces if the machine allows it. `directory` does
            not; the container paths then lie below `LOCAL_SAGEMAKER_ROOT`.
        max_processes: limit of processes and threads for each host; default 4096, and at most half of what the machine
            allows.
        quotas: number of instances that may run at a time, by the quota's name at AWS, such as `ml.m5.large for
            training job usage`; default none. A usage without an entry is not limited.
    """

    stop_grace_seconds: float = 120.0
    isolation: Isolation = "auto"
    max_processes: int = 4096
    quotas: Mapping[str, int] = field(default_factory=dict)


def read_settings(home: Path) -> Settings:
    """Return the settings of a home, with defaults for those that its file does not set.

    Raises:
        ValueError: the file is not JSON, or has unknown names or invalid values.
    """
    path = home / "settings.json"
    if not path.exists():
        return Settings()
    given = json.loads(path.read_text())
    unknown = set(given) - {known.name for known in fields(Settings)}
    if unknown:
        raise ValueError(f"{path} sets {', '.join(sorted(unknown))}, which nothing reads; remove it.")
    settings = Settings(**given)
    if settings.isolation not in get_args(Isolation) or settings.stop_grace_seconds < 0:
        raise ValueError(f"{path}: isolation is one of {get_args(Isolation)}, stop_grace_seconds is not negative.")
    if type(settings.max_processes) is not int or settings.max_processes < 1:
        raise ValueError(f"{path}: max_processes is a whole number above 0.")
    if not _are_quotas(settings.quotas):
        raise ValueError(f'{path}: quotas are whole numbers by name: {{"ml.m5.large for training job usage": 2}}.')
    return settings


def _are_quotas(given: Any) -> bool:
    return isinstance(given, dict) and all(type(value) is int and value >= 0 for value in given.values())
