"""The limit on the processes and threads of a job's hosts, as a protection against fork bombs.

In namespaces the kernel enforces a limit too (`init.py`): for root since Linux 6.14, for other users on every version.
The check here gives the failure reason of the job, and is the only limit where the kernel has none.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from local_sagemaker.runtime.host import Host

_LONGEST = 5.0  # seconds at most between counts, for machines without `/proc/loadavg`
_PART = 16  # at least limit / 16 new pids between two counts: a host may be over its limit by so many
_OF_THE_MACHINE = 2  # a host gets at most 1 / 2 of what the machine allows
_LIMITS = ("/proc/sys/kernel/pid_max", "/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max")


def allowed(wanted: int) -> int:
    """Return how many processes and threads a host may have.

    The result is at most half of what the kernel, the user's limits and the container allow, so that the server can
    always start its own processes.

    Args:
        wanted: `max_processes` of the settings.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    known = [soft] if soft != resource.RLIM_INFINITY else []
    for name in _LIMITS:
        path = Path(name)
        text = path.read_text().strip() if path.exists() else ""
        if text.isdigit():  # a cgroup without a limit says `max`
            known.append(int(text))
    return max(1, min([wanted, *(limit // _OF_THE_MACHINE for limit in known)]))


def last_pid() -> int:
    """Return the last pid that the kernel gave out; 0 on a machine without `/proc/loadavg`."""
    path = Path("/proc/loadavg")
    return int(path.read_text().split()[-1]) if path.exists() else 0


class Processes:
    """Counts the processes and threads of a job's hosts and compares them with the limit.

    A count reads every process of the machine. The next count therefore happens only when so many pids were given out
    that a host could be over its limit, or after 5 seconds.

    Args:
        hosts: the hosts.
        most: the limit of processes and threads for each host.
        newest: returns the last pid that the kernel gave out.
        clock: returns monotonic seconds.
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
        self._seen, self._room, self._due = newest(), 0, clock()  # count at once: a successor may find many

    def violation(self) -> str | None:
        """Return an error message if a host is over the limit, else None."""
        newest, now = self._newest(), self._clock()
        # Pids start over after the largest one. If the newest pid is smaller than the last one seen, count again.
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
