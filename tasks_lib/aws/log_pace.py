"""How often the logs of an account are asked for, by all that read them in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

from blocks import SageMakerProject
from tasks_lib.aws.pace import Pace

_WHILE_THEY_RUN, _IN_ALL = 8, 20
"""Requests a second. GetLogEvents has a hard limit, 25 in most regions and 10 in some, for the account and all who look
at logs there; DescribeLogStreams has one of 25 (its API reference)."""

_HERE_WHILE_THEY_RUN, _HERE_IN_ALL = 20, 1000
"""There is no quota on this machine; hundreds of jobs that run shall leave it to the jobs."""


class LogPace:
    """How often the logs of an account are asked for: jobs that run get a part of it, jobs that ended all of it.

    Args:
        running: Requests a second for jobs that run.
        in_all: Requests a second.
        clock: Monotonic seconds.
    """

    def __init__(self, running: float, in_all: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._running = Pace(running, burst=2 * running, clock=clock)
        self._in_all = Pace(in_all, burst=in_all, clock=clock)

    def allows(self, *, urgent: bool) -> bool:
        """Take a turn if there is one; `urgent` for a job that has ended."""
        return (urgent or self._running.allows()) and self._in_all.allows()


def access_of(project: SageMakerProject) -> Hashable:
    """Return what is the same for all projects that share an account's quotas."""
    return (project.local_home, project.region, project.credentials)


_paces: dict[Hashable, LogPace] = {}
_paces_lock = threading.Lock()


def pace_of(project: SageMakerProject) -> LogPace:
    """Return the pace of a project's account; the same for all who share its quota."""
    running, in_all = (_HERE_WHILE_THEY_RUN, _HERE_IN_ALL) if project.is_local else (_WHILE_THEY_RUN, _IN_ALL)
    with _paces_lock:
        return _paces.setdefault(access_of(project), LogPace(running, in_all))
