"""What the user may set for one home: `<home>/settings.json`.

A file and not environment variables, because a supervisor may be started again by another server than the first, with
another environment. Read once by each supervisor when it starts, and by the server whenever it needs the quotas, so
that they can be changed while it runs. Inside `local_sagemaker` anybody may import it.
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
    """How jobs are run, and how many of them.

    Attributes:
        stop_grace_seconds: from SIGTERM to SIGKILL; 120 as on AWS (API reference, `StopTrainingJob`).
        isolation: `auto` gives each host namespaces of its own where the machine allows it; `directory` never does, and
            the contract's paths lie under `LOCAL_SAGEMAKER_ROOT`.
        max_processes: processes and threads that a host of a job may have; at most half of what the machine allows.
        quotas: instances that may run at a time, by the quota's name at AWS, such as `ml.m5.large for training job
            usage`; what is not named has no quota.
    """

    stop_grace_seconds: float = 120.0
    isolation: Isolation = "auto"
    max_processes: int = 4096
    quotas: Mapping[str, int] = field(default_factory=dict)


def read_settings(home: Path) -> Settings:
    """Return the settings of a home; what its file does not name has its default.

    Raises:
        ValueError: the file holds something else than an object with known names and possible values.
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
