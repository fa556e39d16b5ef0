"""Runs the hosts of one job: starts them, relays their output, stops them with SIGTERM and then SIGKILL.

A cluster ends as a whole. When one host fails, the other hosts are stopped too, as on AWS. All other reasons to stop
come from the job runner.
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

_SHORTEST_TICK, _LONGEST_TICK = 0.01, 0.1  # seconds between polls of a running job: a line is read within 0.1 s
_BACKLOG = 1 << 16  # unread bytes above which the next poll follows at once
_KEYS_LAST = 28 * 24 * 3600.0  # seconds, AWS's longest job; AWS refreshes the credentials of a running job instead
_PEERS_GRACE = 5.0  # seconds at most from SIGTERM to SIGKILL for the peers of a failed host; AWS grants none


@dataclass
class Cluster:
    """The running hosts of one job.

    Attributes:
        job: the job.
        plan: its runtime spec.
        hosts: its hosts, prepared.
        workspace: its files.
        settings: the grace period from SIGTERM to SIGKILL, the isolation of the hosts, and their process limit.
        progress: the saved progress, which records whether and why the hosts were told to stop.
        clock: returns epoch seconds.
    """

    job: Job
    plan: RuntimeSpec
    hosts: Sequence[Host]
    workspace: Workspace
    settings: Settings
    progress: Progress
    clock: Callable[[], float] = time.time

    def start(self) -> None:
        """Start the command on every host that has not started it yet."""
        for host in self.hosts:
            self._start(host)

    def follow(self, due: Due, note: Note) -> None:
        """Follow the hosts until all have ended and all of their output is in the log streams.

        Args:
            due: returns why the hosts have to stop at a given time, or None; called until they are told to stop.
            note: called with the cause when the hosts are told to stop.

        Raises:
            JobFailure: the hosts exceed the disk space or the number of processes that the job may use.
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
        """Return a metric reader for each log stream; the tails have created the files of the streams before."""
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
                host.throttle(tail.backlog)
            moved = [tail.pump() for tail in tails]
            for reader in readers:
                reader.pump()
            if complaint := volumes.violation() or processes.violation():
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
        """Tell the hosts to stop when a cause is due, and kill them when the grace period is over."""
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
        # Save the cause after the signal. A crash in between then sends the signal twice; in the other order the
        # signal might never be sent.
        self.progress.cause = cause
        self.progress.told = self.clock()
        self.workspace.save(self.progress)


def _outermost(paths: Sequence[str]) -> list[str]:
    """Return the paths that do not lie below another of the paths."""
    outermost: list[str] = []
    for path in sorted(set(paths)):
        if not any(path.startswith(other + "/") for other in outermost):
            outermost.append(path)
    return outermost


def _wait(hosts: Sequence[Host], seconds: float) -> None:
    """Wait until a host ends, for at most `seconds`."""
    descriptors = [number for host in hosts if (number := host.fileno()) is not None]
    if not descriptors or sys.platform == "win32":
        time.sleep(seconds)
        return
    poll = select.poll()
    for number in descriptors:
        poll.register(number, select.POLLIN)
    poll.poll(seconds * 1000)
