"""Runs one job through its phases: provisioning, preparing, running, uploading, ended.

A successor can repeat each phase after `kill -9`. An interrupted spot job goes from running to interrupted and back to
preparing.
"""

from __future__ import annotations

import sys
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from local_sagemaker.disk import LEAST, Reserve, free, is_full, used_up, with_space
from local_sagemaker.kinds import KINDS
from local_sagemaker.runtime import final_status, training_toolkit
from local_sagemaker.runtime.cluster import Cluster
from local_sagemaker.runtime.host import Host
from local_sagemaker.runtime.inputs import fetch, objects_of, share
from local_sagemaker.runtime.metrics import compiled, final_metrics
from local_sagemaker.runtime.mirror import MirrorThread
from local_sagemaker.runtime.outputs import read_inside
from local_sagemaker.runtime.provisioning import INTERRUPTED, LAUNCHING, NO_CAPACITY, Provisioner
from local_sagemaker.runtime.role_store import store_of_job
from local_sagemaker.runtime.runtime_spec import JobFailure
from local_sagemaker.runtime.settings import read_settings
from local_sagemaker.runtime.uploads import JobUploads
from local_sagemaker.runtime.workspace import Progress
from local_sagemaker.s3.errors import S3Error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from local_sagemaker.job_faults import JobFaults
    from local_sagemaker.job_table import JobTable
    from local_sagemaker.jobs import Job
    from local_sagemaker.runtime.runtime_spec import Input
    from local_sagemaker.runtime.settings import Settings
    from local_sagemaker.runtime.workspace import Cause, Outcome, Phase, Workspace
    from local_sagemaker.s3.store import ObjectStore

_LOOK = 0.1  # seconds between checks for a stop request while no host runs, and for an interruption while hosts run


class _Ended(Exception):
    """The job has to stop while no host runs."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause = cause


class JobRunner:
    """Runs one job from its saved phase to its end.

    Args:
        job: the job.
        table: the table of jobs, which holds its status.
        store: the object store.
        faults: the fault rules.
        workspace: the job's files.
        clock: returns epoch seconds.
    """

    def __init__(
        self,
        job: Job,
        table: JobTable,
        store: ObjectStore,
        faults: JobFaults,
        workspace: Workspace,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._job, self._kind = job, KINDS[job.kind]
        self._table = table
        self._store = store_of_job(job, workspace.home, store)
        self._faults = faults
        self._workspace = workspace
        self._clock = clock
        self._hosts: list[Host] = []
        self._looked = 0.0
        self._reserve = Reserve(workspace.home)
        self._progress = workspace.load(job.created) or Progress(job.created)

    def run(self) -> None:
        """Run the remaining phases, and write the final status to the table of jobs."""
        try:
            self._do_phases()
        except JobFailure as failure:
            self._kill_hosts()
            self._end(final_status.failed(str(failure), self._clock()))
        except _Ended as ended:
            self._end(final_status.stopped(ended.cause, self._clock()))
        except Exception as error:  # noqa: BLE001 -- else every successor would fail with the same error, for ever
            _note(error)
            self._kill_hosts()
            text = f"{final_status.INTERNAL_ERROR} ({error!r})"
            if is_full(error):
                text = f"ClientError: {used_up(self._workspace.home)}"
            self._end(final_status.failed(text, self._clock()))
        self._write_final_status()

    def _do_phases(self) -> None:
        phases: dict[Phase, Callable[[], None]] = {
            "provisioning": self._provision,
            "preparing": self._prepare,
            "running": self._watch,
            "interrupted": self._restart,
            "uploading": self._upload,
        }
        if self._progress.phase == "ended":
            return
        self._settings = _settings_of(self._workspace.home)
        self._read_plan()
        while (do := phases.get(self._progress.phase)) is not None:
            do()

    def _read_plan(self) -> None:
        self._plan = self._kind.plan(self._job)
        self._hosts = [Host(self._workspace.hosts, name) for name in self._plan.hosts]
        self._uploads = JobUploads(self._store, self._plan, self._hosts)
        self._cluster = Cluster(
            self._job, self._plan, self._hosts, self._workspace, self._settings, self._progress, self._clock
        )

    # -- provisioning ---------------------------------------------------------------------------------------------

    def _provision(self) -> None:
        provisioner = Provisioner(self._job, self._faults)
        if self._progress.resumes is None:
            self._progress.resumes = self._clock() + provisioner.delay()
            self._workspace.save(self._progress)
        self._wait_until(self._progress.resumes, "Pending", LAUNCHING)
        chosen = provisioner.choose()
        if chosen is None:
            raise JobFailure(NO_CAPACITY)
        selected = self._kind.selection(self._job.request, chosen)
        if selected:
            self._job = self._table.update(self._job.kind, self._job.name, **selected)
        self._progress.started = self._clock()
        self._read_plan()
        self._go_on("preparing")

    def _wait_until(self, moment: float, secondary: str, message: str) -> None:
        """Wait for instances until `moment`; a stop request or the end of the maximum wait time ends the job."""
        if self._clock() < moment:
            self._show(secondary, message)
        while self._clock() < moment:
            self._leave_if_due()
            time.sleep(min(_LOOK, max(0.0, moment - self._clock())))

    # -- preparing ------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        training_toolkit.check(self._plan.command)
        self._workspace.clear()
        self._workspace.save(self._progress)
        self._show("Downloading", "Downloading input data", **self._opening_fields())
        for host in self._hosts:
            host.prepare(self._plan.directories, self._kind.configuration(self._job, self._plan, host.name))
        for complaint in compiled(self._plan.metrics)[1]:
            self._hosts[0].say(complaint)
        for source in self._plan.inputs:
            self._download(source)
        self._uploads.remember()
        self._leave_if_due()
        self._progress.epoch = self._free_epoch()
        self._progress.began = self._clock()
        self._go_on("running")

    def _opening_fields(self) -> dict[str, Any]:
        started = {self._kind.start_time: self._progress.started}
        if self._plan.archives is None:
            return started
        return {**started, "ModelArtifacts": {"S3ModelArtifacts": str(self._plan.archives.model)}}

    def _download(self, source: Input) -> None:
        region = self._job.arn.split(":")[3]
        pieces = objects_of(self._store, source, region=region, role=self._kind.role_of(self._job.request))
        receivers = self._plan.receivers(source)
        looked = self._clock()
        for index, name in enumerate(receivers):
            directory = Host(self._workspace.hosts, name).path(source.path)
            for piece in share(pieces, index, len(receivers)) if source.sharded else pieces:
                if self._clock() - looked > _LOOK:
                    looked = self._clock()
                    self._leave_if_due()
                fetch(self._store, piece, directory)

    def _leave_if_due(self) -> None:
        cause = self._due(self._clock())
        if cause in {"stop", "max-wait"}:
            raise _Ended(cause)

    def _free_epoch(self) -> int:
        """Return an unused number for the log streams; a deleted job of the same name may have used this second's."""
        epoch = int(self._clock())
        while self._workspace.stream(self._hosts[0].name, epoch).exists():
            epoch += 1
        return epoch

    # -- running --------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._progress.cause is None:
            self._cluster.start()
            self._show("Training", "Training image download completed. Training in progress.")
        mirroring = MirrorThread(self._uploads.mirrors())
        mirroring.start()
        try:
            self._cluster.follow(self._stop_cause, self._note)
        finally:
            mirroring.stop()
        if self._progress.cause == "interruption":
            self._uploads.sync()
            self._go_on("interrupted")
            return
        self._progress.outcome = self._final_outcome()
        self._go_on("uploading")

    def _due(self, now: float) -> Cause | None:
        if self._table.get(self._job.kind, self._job.name).stop_requested:
            return "stop"
        if self._progress.seconds(now) >= self._plan.max_runtime:
            return "max-runtime"
        if self._plan.max_wait is not None and now - self._job.created >= self._plan.max_wait:
            return "max-wait"
        return None

    def _stop_cause(self, now: float) -> Cause | None:
        return self._due(now) or self._interrupted(now)

    def _note(self, cause: Cause) -> None:
        """Write to the table of jobs that the hosts are told to stop."""
        if cause == "interruption":
            self._show("Interrupted", INTERRUPTED)
        elif cause != "host-failed":
            self._show("Stopping", "Stopping the training job", status="Stopping")

    def _interrupted(self, now: float) -> Cause | None:
        if now - self._looked < _LOOK:
            return None
        self._looked = now
        rule = Provisioner(self._job, self._faults).interruption(now - self._progress.began)
        if rule is None:
            return None
        self._progress.pause = rule.seconds
        return "interruption"

    def _final_outcome(self) -> Outcome:
        now = self._clock()
        outcome = self._hosts_outcome(now)
        if self._plan.archives is not None:
            return outcome
        parts = [
            read_inside(host.files, "/opt/ml/output/message", final_status.MAX_EXIT_MESSAGE + 1) for host in self._hosts
        ]
        written = [part for part in parts if part is not None]
        try:
            outcome.exit_message = final_status.exit_message(written) if written else None
        except UnicodeDecodeError as error:
            return final_status.failed(f"ClientError: /opt/ml/output/message is not encoded in UTF-8: {error}", now)
        return outcome

    def _hosts_outcome(self, now: float) -> Outcome:
        cause = self._progress.cause
        if cause is None:
            return final_status.completed(now)
        if cause != "host-failed":
            return final_status.stopped(cause, now)
        host = Host(self._workspace.hosts, self._progress.failed)
        if host.exit_code() is None and free(self._workspace.home) < LEAST:
            return final_status.failed(f"ClientError: {used_up(self._workspace.home)}", now)
        text = read_inside(host.files, "/opt/ml/output/failure", 4 * final_status.MAX_REASON) or b""
        return final_status.host_failed(self._kind, host.name, host.exit_code(), text.decode("utf-8", "replace"), now)

    # -- interrupted ----------------------------------------------------------------------------------------------

    def _restart(self) -> None:
        """Wait for new spot instances, then start over; only the checkpoints are kept."""
        progress = self._progress
        if progress.ceased is None:
            progress.ceased = self._clock()
            progress.resumes = progress.ceased + progress.pause
            self._workspace.save(progress)
        assert progress.resumes is not None
        self._wait_until(progress.resumes, "Interrupted", INTERRUPTED)
        progress.idle += self._clock() - progress.ceased
        progress.ceased = progress.cause = None
        self._show("Starting", LAUNCHING)
        self._go_on("preparing")

    # -- uploading ------------------------------------------------------------------------------------------------

    def _upload(self) -> None:
        self._show("Uploading", "Uploading generated training model")
        outcome = self._progress.outcome
        assert outcome is not None
        try:
            self._uploads.send_all(completed=outcome.status == "Completed")
        except (S3Error, OSError, UnicodeError) as error:
            _note(error)
            reason = f"ClientError: Artifact upload failed: {error}"
            outcome = outcome if outcome.reason else final_status.failed(reason, self._clock())
        if outcome.status != "Failed":
            outcome.ended = self._clock()
        self._end(outcome)

    # -- the end --------------------------------------------------------------------------------------------------

    def _kill_hosts(self) -> None:
        for host in self._hosts:
            if host.directory.exists():
                host.kill()

    def _end(self, outcome: Outcome) -> None:
        self._progress.outcome = outcome
        # If the disk is full, delete the hosts' files first: they take the space, and an ended job does not need them.
        with_space(lambda: self._go_on("ended"), self._workspace.clear, self._reserve.spend)

    def _write_final_status(self) -> None:
        outcome = self._progress.outcome
        assert outcome is not None
        self._workspace.clear()
        changes = {**self._kind.end(self._progress, outcome), **self._final_metrics()}

        def write() -> None:
            self._table.update(self._job.kind, self._job.name, **changes)

        with_space(write, self._reserve.spend)
        self._reserve.keep()

    def _final_metrics(self) -> dict[str, Any]:
        directory = self._workspace.metrics(self._job.arn.split(":")[3])
        found = final_metrics(sorted(directory.glob("*.jsonl")), self._job.created)
        return {"FinalMetricDataList": found} if found else {}

    def _go_on(self, phase: Phase) -> None:
        self._progress.phase = phase
        self._workspace.save(self._progress)

    def _show(self, secondary: str, message: str, *, status: str | None = None, **fields: Any) -> None:
        self._table.update(
            self._job.kind, self._job.name, status=status, secondary=secondary, message=message, **fields
        )


def _note(error: BaseException) -> None:
    """Print a traceback to the supervisor's log, unless the log is on the full disk."""
    with suppress(OSError):
        traceback.print_exception(error)
        sys.stderr.flush()


def _settings_of(home: Path) -> Settings:
    try:
        return read_settings(home)
    except (ValueError, TypeError) as error:
        raise JobFailure(f"ClientError: the settings of this local SageMaker cannot be read: {error}") from error
