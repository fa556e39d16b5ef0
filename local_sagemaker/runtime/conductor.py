"""The phases of one job: preparing, running, uploading, ended. Each can be begun again after `kill -9`.

Only the supervisor imports it; what it decides with is in `plan`, `contract`, `inputs` and `verdict`.
"""

from __future__ import annotations

import select
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from local_sagemaker.runtime import contract, verdict
from local_sagemaker.runtime.host import Host
from local_sagemaker.runtime.inputs import fetch, pieces_of, share
from local_sagemaker.runtime.mirror import Mirror, Mirroring
from local_sagemaker.runtime.outputs import directory_inside, files, put_archive, put_tree, read_inside
from local_sagemaker.runtime.plan import MODEL, OUTPUT_DATA, JobFailure, plan
from local_sagemaker.runtime.settings import read_settings
from local_sagemaker.runtime.tail import Tail
from local_sagemaker.runtime.workspace import Progress, read_json, write_json
from local_sagemaker.s3.errors import S3Error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from local_sagemaker.jobs import Job, JobTable
    from local_sagemaker.runtime.plan import Input, Output
    from local_sagemaker.runtime.settings import Settings
    from local_sagemaker.runtime.workspace import Cause, Outcome, Phase, Workspace
    from local_sagemaker.s3.store import ObjectStore

_SHORTEST_TICK, _LONGEST_TICK = 0.01, 0.1  # seconds between looks at a running job: a printed line is seen in 0.1 s
_BACKLOG = 1 << 16  # bytes printed and not read that leave no time to wait
_PEERS_GRACE = 5.0  # seconds from SIGTERM to SIGKILL for the hosts whose peer has failed; AWS promises them none
_STOP_LOOK = 0.1  # seconds between looks for a stop request while inputs are copied


class _Stopped(Exception):
    """A stop was requested before the hosts ran."""


class Conductor:
    """Carries one job from where it stands to its end.

    Args:
        job: the job.
        table: where its status is kept.
        store: the objects.
        workspace: its files.
        clock: epoch seconds.
    """

    def __init__(
        self,
        job: Job,
        table: JobTable,
        store: ObjectStore,
        workspace: Workspace,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._job = job
        self._table = table
        self._store = store
        self._workspace = workspace
        self._clock = clock
        self._hosts: list[Host] = []
        self._progress = workspace.load(job.created) or Progress(job.created, started=clock())

    def run(self) -> None:
        """Do what is left of the job."""
        try:
            self._do_phases()
        except JobFailure as failure:
            self._kill_hosts()
            self._end(verdict.failed(str(failure), self._clock()))
        except _Stopped:
            self._end(verdict.stopped("stop", self._clock()))
        except Exception as error:  # noqa: BLE001 -- else a successor would meet the same error, for ever
            traceback.print_exc()
            self._kill_hosts()
            self._end(verdict.failed(f"{verdict.INTERNAL_ERROR} ({error!r})", self._clock()))
        self._conclude()

    def _do_phases(self) -> None:
        if self._progress.phase == "ended":
            return
        self._plan = plan(self._job)
        self._hosts = [Host(self._workspace.hosts, name) for name in self._plan.hosts]
        self._settings = _settings_of(self._workspace.home)
        if self._progress.phase == "preparing":
            self._prepare()
        if self._progress.phase == "running":
            self._watch()
        if self._progress.phase == "uploading":
            self._upload()

    # -- preparing ------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._workspace.clear()
        self._workspace.save(self._progress)
        self._show("Downloading", "Downloading input data", **self._opening_fields())
        for host in self._hosts:
            host.prepare(self._plan.directories, contract.configuration(self._job, self._plan, host.name))
        for source in self._plan.inputs:
            self._download(source)
        for host in self._hosts:
            known = {one.path: _signatures(host, one) for one in self._mirrored()}
            write_json(host.directory / "known.json", known)
        self._leave_if_stopped()
        self._progress.epoch = self._free_epoch()
        self._go_on("running")

    def _opening_fields(self) -> dict[str, Any]:
        if self._plan.archives is None:
            return {"ProcessingStartTime": self._progress.started}
        artifacts = {"S3ModelArtifacts": str(self._plan.archives.model)}
        return {"TrainingStartTime": self._progress.started, "ModelArtifacts": artifacts}

    def _download(self, source: Input) -> None:
        region = self._job.arn.split(":")[3]
        pieces = pieces_of(self._store, source, region=region, role=self._job.request.get("RoleArn", ""))
        receivers = self._plan.receivers(source)
        looked = self._clock()
        for index, name in enumerate(receivers):
            directory = Host(self._workspace.hosts, name).path(source.path)
            for piece in share(pieces, index, len(receivers)) if source.sharded else pieces:
                if self._clock() - looked > _STOP_LOOK:
                    looked = self._clock()
                    self._leave_if_stopped()
                fetch(self._store, piece, directory)

    def _leave_if_stopped(self) -> None:
        if self._table.get(self._job.kind, self._job.name).stop_requested:
            raise _Stopped

    def _free_epoch(self) -> int:
        """Return a number for the log streams; a job of the same name, now deleted, may have had this second's."""
        epoch = int(self._clock())
        while self._workspace.stream(self._hosts[0].name, epoch).exists():
            epoch += 1
        return epoch

    # -- running --------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        for host in self._hosts if self._progress.cause is None else ():
            self._start(host)
        self._show("Training", "Training image download completed. Training in progress.")
        tails = [self._tail(host) for host in self._hosts]
        mirroring = Mirroring(self._mirrors())
        mirroring.start()
        try:
            self._attend(tails)
        finally:
            mirroring.stop()
            for tail in tails:
                tail.pump(final=True)
                tail.close()
            for host in self._hosts:
                host.close()
        self._progress.outcome = self._judge()
        self._go_on("uploading")

    def _start(self, host: Host) -> None:
        endpoint = (read_json(self._workspace.home / "endpoint.json") or {}).get("endpoint")
        host.start(
            self._plan.command,
            contract.environment(self._job, self._plan, home=str(host.home), endpoint=endpoint),
            hosts=self._plan.hosts,
            places=_outermost(("/opt/ml", *self._plan.directories)),
            isolation=self._settings.isolation,
        )

    def _tail(self, host: Host) -> Tail:
        stream = self._workspace.stream(host.name, self._progress.epoch)
        return Tail(host.output, stream, host.directory / "position.json", self._clock)

    def _attend(self, tails: Sequence[Tail]) -> None:
        """Follow the hosts until the last one has ended."""
        living = [host for host in self._hosts if self._lives(host)]
        tick = _SHORTEST_TICK
        while living:
            for host, tail in zip(self._hosts, tails, strict=True):
                host.hold_back(tail.backlog)
            moved = [tail.pump() for tail in tails]
            self._decide(living)
            tick = _SHORTEST_TICK if any(moved) else min(_LONGEST_TICK, tick * 1.5)
            _wait(living, 0 if any(tail.backlog > _BACKLOG for tail in tails) else tick)
            living = [host for host in living if self._lives(host)]

    def _lives(self, host: Host) -> bool:
        if host.alive():
            return True
        host.clean_up()
        if host.exit_code() != 0 and self._progress.cause is None:
            self._progress.failed = host.name
            self._tell(self._hosts, "host-failed")
        return False

    def _decide(self, living: Sequence[Host]) -> None:
        """Tell the hosts to end when it is time, and kill them when that did not help."""
        now = self._clock()
        cause = self._progress.cause
        if cause is None:
            due = self._due(now)
            if due is not None:
                self._tell(living, due)
            return
        grace = self._settings.stop_grace_seconds
        if now - self._progress.told >= (min(grace, _PEERS_GRACE) if cause == "host-failed" else grace):
            for host in living:
                host.kill()

    def _due(self, now: float) -> Cause | None:
        if self._table.get(self._job.kind, self._job.name).stop_requested:
            return "stop"
        if now - self._progress.started >= self._plan.max_runtime:
            return "max-runtime"
        if self._plan.max_wait is not None and now - self._job.created >= self._plan.max_wait:
            return "max-wait"
        return None

    def _tell(self, hosts: Sequence[Host], cause: Cause) -> None:
        if cause != "host-failed":
            self._show("Stopping", "Stopping the training job", status="Stopping")
        for host in hosts:
            host.send(signal.SIGTERM)
        # Noted after the signal: a crash in between sends it twice, the other order might never send it.
        self._progress.cause = cause
        self._progress.told = self._clock()
        self._workspace.save(self._progress)

    def _judge(self) -> Outcome:
        now = self._clock()
        outcome = self._judge_hosts(now)
        if self._plan.archives is not None:
            return outcome
        parts = [
            read_inside(host.files, "/opt/ml/output/message", verdict.MAX_EXIT_MESSAGE + 1) for host in self._hosts
        ]
        written = [part for part in parts if part is not None]
        try:
            outcome.exit_message = verdict.exit_message(written) if written else None
        except UnicodeDecodeError as error:
            return verdict.failed(f"ClientError: /opt/ml/output/message is not encoded in UTF-8: {error}", now)
        return outcome

    def _judge_hosts(self, now: float) -> Outcome:
        cause = self._progress.cause
        if cause is None:
            return verdict.completed(now)
        if cause != "host-failed":
            return verdict.stopped(cause, now)
        host = Host(self._workspace.hosts, self._progress.failed)
        text = read_inside(host.files, "/opt/ml/output/failure", 4 * verdict.MAX_REASON) or b""
        return verdict.host_failed(self._job.kind, host.name, host.exit_code(), text.decode("utf-8", "replace"), now)

    # -- uploading ------------------------------------------------------------------------------------------------

    def _upload(self) -> None:
        self._show("Uploading", "Uploading generated training model")
        outcome = self._progress.outcome
        assert outcome is not None
        try:
            self._upload_all(outcome)
        except (S3Error, OSError, UnicodeError) as error:
            traceback.print_exc()
            reason = f"ClientError: Artifact upload failed: {error}"
            outcome = outcome if outcome.reason else verdict.failed(reason, self._clock())
        if outcome.status != "Failed":
            outcome.ended = self._clock()
        self._end(outcome)

    def _upload_all(self, outcome: Outcome) -> None:
        for mirror in self._mirrors():
            mirror.sync(final=True)
        if self._plan.archives is not None:
            self._upload_archives()
        # "EndOfJob: after the job completes" (API reference, `ProcessingS3Output`): what failed leaves nothing.
        for one in self._plan.outputs if outcome.status == "Completed" else ():
            for directory in _directories(self._hosts, one.path) if not one.continuous else ():
                put_tree(self._store, directory, one.target)

    def _upload_archives(self) -> None:
        archives = self._plan.archives
        assert archives is not None
        # The model of all hosts is merged; of the output only the main host's is kept.
        for path, hosts, target in (
            (MODEL, self._hosts, archives.model),
            (OUTPUT_DATA, self._hosts[:1], archives.output),
        ):
            directories = _directories(hosts, path)
            if archives.compressed:
                put_archive(self._store, directories, target)
                continue
            for directory in directories:
                put_tree(self._store, directory, target)

    def _mirrored(self) -> list[Output]:
        return [one for one in self._plan.outputs if one.continuous]

    def _mirrors(self) -> list[Mirror]:
        return [self._mirror(host, one) for host in self._hosts for one in self._mirrored()]

    def _mirror(self, host: Host, output: Output) -> Mirror:
        kept = read_json(host.directory / "known.json")[output.path]
        known = {name: (mtime, size, inode) for name, (mtime, size, inode) in kept.items()}
        return Mirror(self._store, lambda: directory_inside(host.files, output.path), output.target, known)

    # -- the end --------------------------------------------------------------------------------------------------

    def _kill_hosts(self) -> None:
        for host in self._hosts:
            if host.directory.exists():
                host.kill()

    def _end(self, outcome: Outcome) -> None:
        self._progress.outcome = outcome
        self._go_on("ended")

    def _conclude(self) -> None:
        outcome = self._progress.outcome
        assert outcome is not None
        self._workspace.clear()
        self._table.update(
            self._job.kind,
            self._job.name,
            status=outcome.status,
            secondary=outcome.secondary,
            message=outcome.message,
            **verdict.closing_fields(self._job.kind, self._progress, outcome),
        )

    def _go_on(self, phase: Phase) -> None:
        self._progress.phase = phase
        self._workspace.save(self._progress)

    def _show(self, secondary: str, message: str, *, status: str | None = None, **fields: Any) -> None:
        self._table.update(
            self._job.kind, self._job.name, status=status, secondary=secondary, message=message, **fields
        )


def _settings_of(home: Path) -> Settings:
    try:
        return read_settings(home)
    except (ValueError, TypeError) as error:
        raise JobFailure(f"ClientError: the settings of this local SageMaker cannot be read: {error}") from error


def _signatures(host: Host, output: Output) -> dict[str, Any]:
    return {name: signature for name, _, signature in files(host.path(output.path))}


def _directories(hosts: Sequence[Host], path: str) -> list[Path]:
    found = [directory_inside(host.files, path) for host in hosts]
    return [directory for directory in found if directory is not None]


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
