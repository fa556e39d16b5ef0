"""A job's directory `<home>/jobs/<kind>/<name>`: the paths in it, and how far its supervisor has come.

Files written by rename, and not columns of the table of jobs: they belong to one run of one job, and vanish with it.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from local_sagemaker.kinds import KINDS

if TYPE_CHECKING:
    from pathlib import Path


Phase = Literal["provisioning", "preparing", "running", "interrupted", "uploading", "ended"]
Cause = Literal["stop", "max-runtime", "max-wait", "host-failed", "interruption"]


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; None if it does not exist."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file by rename: a reader, or a successor after `kill -9`, never sees half of it."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content))
    part.replace(path)


@dataclass
class Outcome:
    """How a job ends.

    Attributes:
        status: `Completed`, `Failed` or `Stopped`.
        secondary: the secondary status of a training job.
        message: what its last transition says.
        ended: epoch seconds.
        reason: the `FailureReason`; None unless it failed.
        exit_message: the `ExitMessage` of a processing job that left one.
    """

    status: str
    secondary: str
    message: str
    ended: float
    reason: str | None = None
    exit_message: str | None = None


@dataclass
class Progress:
    """How far the supervisor of a job has come; all times are epoch seconds.

    Attributes:
        created: the job's creation: a deleted job's name may be used again.
        started: when the job had instances and began to cost (`TrainingStartTime`); None before.
        phase: what to do, or do again, after a crash.
        epoch: the number in the names of the log streams; 0 until the hosts start.
        began: when the hosts were started, or started again after an interruption.
        resumes: until when it waits for instances; None before it does.
        pause: seconds to wait for them after the interruption that is under way.
        ceased: when the hosts ended by an interruption; None while they run, or before they do.
        idle: seconds without instances after interruptions that are over.
        cause: why the hosts were told to end; None while they were not.
        told: when they were told.
        failed: the first host that failed; empty while none did.
        outcome: how the job ends, once that is known.
    """

    created: float
    started: float | None = None
    phase: Phase = "provisioning"
    epoch: int = 0
    began: float = 0.0
    resumes: float | None = None
    pause: float = 0.0
    ceased: float | None = None
    idle: float = 0.0
    cause: Cause | None = None
    told: float = 0.0
    failed: str = ""
    outcome: Outcome | None = None

    def seconds(self, now: float) -> float:
        """Return for how long the job has had instances."""
        return 0.0 if self.started is None else (self.ceased or now) - self.started - self.idle


class Workspace:
    """The files of one job.

    Args:
        home: the data directory.
        kind: the name of the job's kind.
        name: the job's name.
    """

    def __init__(self, home: Path, kind: str, name: str) -> None:
        self.home = home.resolve()
        self.kind = kind
        self.name = name
        self.directory = self.home / "jobs" / kind / name
        self.lock = self.directory / "supervisor.lock"
        self.output = self.directory / "supervisor.log"
        self.hosts = self.directory / "hosts"
        self._progress = self.directory / "progress.json"

    def stream(self, host: str, epoch: int) -> Path:
        """Return the file of a host's log stream."""
        group = quote(KINDS[self.kind].log_group, safe="")
        return self.home / "logs" / group / self.name / f"{host}-{epoch}.jsonl"

    def metrics(self, region: str) -> Path:
        """Return the directory of the job's metrics, which has a file for each log stream."""
        return self.home / "metrics" / region / self.name

    def load(self, created: float) -> Progress | None:
        """Return the progress of this very job; None if nothing has begun."""
        kept = read_json(self._progress)
        if kept is None or kept["created"] != created:
            return None
        outcome = kept.pop("outcome")
        return Progress(**kept, outcome=Outcome(**outcome) if outcome else None)

    def save(self, progress: Progress) -> None:
        """Keep the progress."""
        write_json(self._progress, asdict(progress))

    def clear(self) -> None:
        """Remove all that the hosts had."""
        try:
            shutil.rmtree(self.hosts)
        except FileNotFoundError:
            return
        except PermissionError:
            _open_up(str(self.hosts))
            shutil.rmtree(self.hosts)


def _open_up(directory: str) -> None:
    """Let us into the directories that a job closed to its user, which is ours."""
    pending = [directory]
    while pending:
        path = pending.pop()
        os.chmod(path, 0o700)  # noqa: PTH101 -- a string from scandir
        with os.scandir(path) as found:
            pending += [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]
