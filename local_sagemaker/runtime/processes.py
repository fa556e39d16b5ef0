"""How many processes and threads the hosts of a job have, and how many they may have.

A fork bomb would starve the machine. The kernel bounds it where it can (`init.py`): for root since Linux 6.14, for
others always. The limit here is told in the job's failure, and holds where the kernel has none.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from local_sagemaker.runtime.host import Host

_LONGEST = 5.0  # seconds between counts, for machines that do not tell how many processes were made
_PART = 16  # a host may be over the limit by this part of it before it is counted again
_OF_THE_MACHINE = 2  # a host gets at most one of so many parts of what the machine allows
_LIMITS = ("/proc/sys/kernel/pid_max", "/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max")


def allowed(wanted: int) -> int:
    """Return how many processes and threads a host may have.

    Args:
        wanted: `max_processes` of the settings. Half of what the kernel, the user's limits and the container allow
            is the most, so that the server can always start what it needs.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    known = [soft] if soft != resource.RLIM_INFINITY else []
    for name in _LIMITS:
        path = Path(name)
        text = path.read_text().strip() if path.exists() else ""
        if text.isdigit():  # else `max`
            known.append(int(text))
    return max(1, min([wanted, *(limit // _OF_THE_MACHINE for limit in known)]))


def last_pid() -> int:
    """Return the pid that the machine gave out last; 0 where it does not tell."""
    path = Path("/proc/loadavg")
    return int(path.read_text().split()[-1]) if path.exists() else 0


class Processes:
    """The processes of a job's hosts.

    Counting looks at each process of the machine. So it is done again only after as many pids were given out as would
    bring a host over its limit.

    Args:
        hosts: the hosts.
        most: how many processes and threads each may have.
        newest: tells the pid that was given out last.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        most: int,
        newest: Callable[[], int] = last_pid,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hosts, self._most = hosts, most
        self._newest, self._clock = newest, clock
        self._seen, self._room, self._due = newest(), 0, clock()  # a successor may find many

    def complaint(self) -> str | None:
        """Return what is wrong with the number of processes; None while they are few."""
        newest, now = self._newest(), self._clock()
        # Pids begin anew after the last one: a smaller one than before counts as many.
        if 0 <= newest - self._seen < self._room and now < self._due:
            return None
        counts = [(host.count(), host.name) for host in self._hosts]
        greatest, name = max(counts)
        self._seen, self._due = newest, now + _LONGEST
        self._room = max(self._most - greatest, self._most // _PART)
        if greatest <= self._most:
            return None
        return (
            f"{name} had {greatest} processes and threads, and a host may have {self._most}: "
            "start fewer, or raise max_processes in settings.json."
        )
