"""The hosts of one job together: started, followed while they print, told to end, killed when that does not help.

A cluster ends as a whole: a host that fails takes its peers with it, as on AWS. Why the hosts shall end otherwise is
the conductor's to say; only it imports this module.
"""

from __future__ import annotations

import select
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_sagemaker.disk import Volumes
from local_sagemaker.keys import HomeKey
from local_sagemaker.runtime import container_environment
from local_sagemaker.runtime.metrics import MetricReader, compiled
from local_sagemaker.runtime.processes import Processes, allowed
from local_sagemaker.runtime.role_store import session_of_job
from local_sagemaker.runtime.runtime_spec import JobFailure
from local_sagemaker.runtime.tail import Tail
from local_sagemaker.runtime.workspace import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from local_sagemaker.jobs import Job
    from local_sagemaker.runtime.host import Host
    from local_sagemaker.runtime.runtime_spec import RuntimeSpec
    from local_sagemaker.runtime.settings import Settings
    from local_sagemaker.runtime.workspace import Cause, Progress, Workspace

    Due = Callable[[float], Cause | None]
    Note = Callable[[Cause], None]

_SHORTEST_TICK, _LONGEST_TICK = 0.01, 0.1  # seconds between looks at a running job: a printed line is seen in 0.1 s
_BACKLOG = 1 << 16  # bytes printed and not read that leave no time to wait
_KEYS_LAST = 28 * 24 * 3600.0  # seconds, the longest job of AWS; there they are renewed on the way
_PEERS_GRACE = 5.0  # seconds from SIGTERM to SIGKILL for the hosts whose peer has failed; AWS promises them none


@dataclass
class Cluster:
    """The running hosts of one job.

    Attributes:
        job: the job.
        plan: its plan.
        hosts: its hosts, prepared.
        workspace: its files.
        settings: how long the hosts have from SIGTERM to SIGKILL, and how they are kept apart.
        progress: where it is noted that and why the hosts were told to end.
        clock: epoch seconds.
    """

    job: Job
    plan: RuntimeSpec
    hosts: Sequence[Host]
    workspace: Workspace
    settings: Settings
    progress: Progress
    clock: Callable[[], float] = time.time

    def start(self) -> None:
        """Start the command on every host where it was not started before."""
        for host in self.hosts:
            self._start(host)

    def attend(self, due: Due, note: Note) -> None:
        """Follow the hosts until the last one has ended, and all that they printed is in their streams.

        Args:
            due: says at a moment why the hosts have to end now; asked as long as they were not told.
            note: called when they are told.
        """
        tails = [self._tail(host) for host in self.hosts]
        readers = self._metric_readers()
        try:
            self._attend(tails, readers, due, note)
        finally:
            for tail in tails:
                tail.pump(final=True)
                tail.close()
            for reader in readers:
                reader.pump(final=True)
                reader.close()
            for host in self.hosts:
                host.close()

    def _start(self, host: Host) -> None:
        home = self.workspace.home
        endpoint = (read_json(home / "endpoint.json") or {}).get("endpoint")
        keys = HomeKey.of(home).temporary(session_of_job(self.job), _KEYS_LAST)
        host.start(
            self.plan.command,
            container_environment.environment(self.job, self.plan, home=str(host.home), endpoint=endpoint, keys=keys),
            hosts=self.plan.hosts,
            places=_outermost(("/opt/ml", *self.plan.directories)),
            isolation=self.settings.isolation,
            most=allowed(self.settings.max_processes),
        )

    def _tail(self, host: Host) -> Tail:
        stream = self.workspace.stream(host.name, self.progress.epoch)
        return Tail(host.output, stream, host.directory / "position.json", self.clock)

    def _metric_readers(self) -> list[MetricReader]:
        """Return what reads the metrics; the streams' files are there, since their tails have made them."""
        expressions, _ = compiled(self.plan.metrics)
        if not expressions:
            return []
        streams = [self.workspace.stream(host.name, self.progress.epoch) for host in self.hosts]
        directory = self.workspace.metrics(self.job.arn.split(":")[3])
        return [MetricReader(expressions, stream, directory / stream.name) for stream in streams]

    def _attend(self, tails: Sequence[Tail], readers: Sequence[MetricReader], due: Due, note: Note) -> None:
        living = [host for host in self.hosts if self._lives(host, note)]
        places = [(host.name, host.files) for host in self.hosts]
        volumes = Volumes(self.workspace.home, places, self.plan.volume_gb)
        processes = Processes(self.hosts, allowed(self.settings.max_processes))
        tick = _SHORTEST_TICK
        while living:
            for host, tail in zip(self.hosts, tails, strict=True):
                host.hold_back(tail.backlog)
            moved = [tail.pump() for tail in tails]
            for reader in readers:
                reader.pump()
            if complaint := volumes.complaint() or processes.complaint():
                raise JobFailure(f"ClientError: {complaint}")
            self._decide(living, due, note)
            tick = _SHORTEST_TICK if any(moved) else min(_LONGEST_TICK, tick * 1.5)
            _wait(living, 0 if any(tail.backlog > _BACKLOG for tail in tails) else tick)
            living = [host for host in living if self._lives(host, note)]

    def _lives(self, host: Host, note: Note) -> bool:
        if host.alive():
            return True
        host.clean_up()
        if host.exit_code() != 0 and self.progress.cause is None:
            self.progress.failed = host.name
            self._tell(self.hosts, "host-failed", note)
        return False

    def _decide(self, living: Sequence[Host], due: Due, note: Note) -> None:
        """Tell the hosts to end when it is time, and kill them when that did not help."""
        now = self.clock()
        cause = self.progress.cause
        if cause is None:
            cause = due(now)
            if cause is not None:
                self._tell(living, cause, note)
            return
        grace = self.settings.stop_grace_seconds
        if now - self.progress.told >= (min(grace, _PEERS_GRACE) if cause == "host-failed" else grace):
            for host in living:
                host.kill()

    def _tell(self, hosts: Sequence[Host], cause: Cause, note: Note) -> None:
        note(cause)
        for host in hosts:
            host.send(signal.SIGTERM)
        # Noted after the signal: a crash in between sends it twice, the other order might never send it.
        self.progress.cause = cause
        self.progress.told = self.clock()
        self.workspace.save(self.progress)


def _outermost(paths: Sequence[str]) -> list[str]:
    """Return the paths that lie in no other of them."""
    outermost: list[str] = []
    for path in sorted(set(paths)):
        if not any(path.startswith(other + "/") for other in outermost):
            outermost.append(path)
    return outermost


def _wait(hosts: Sequence[Host], seconds: float) -> None:
    """Wait until a host ends, at most `seconds`."""
    descriptors = [number for host in hosts if (number := host.fileno()) is not None]
    if not descriptors or sys.platform == "win32":
        time.sleep(seconds)
        return
    poll = select.poll()
    for number in descriptors:
        poll.register(number, select.POLLIN)
    poll.poll(seconds * 1000)
