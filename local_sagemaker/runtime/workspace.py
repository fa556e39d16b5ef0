"""A job's workspace `<home>/jobs/<kind>/<name>`: its paths, and the saved progress of its supervisor.

The progress is a file, not columns of the table of jobs, because it belongs to one run of one job and is deleted with
it.
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
    """Write a JSON file by rename, so that a reader or a successor after `kill -9` never sees a partial file."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content))
    part.replace(path)


@dataclass
class Outcome:
    """The final status of a job.

    Attributes:
        status: `Completed`, `Failed` or `Stopped`.
        secondary: the secondary status of a training job.
        message: the status message of its last transition.
        ended: the end time in epoch seconds.
        reason: the `FailureReason`; None unless the job failed.
        exit_message: the `ExitMessage` of a processing job; None if its hosts wrote none.
    """

    status: str
    secondary: str
    message: str
    ended: float
    reason: str | None = None
    exit_message: str | None = None


@dataclass
class Progress:
    """The progress of a job's supervisor; all times are epoch seconds.

    Attributes:
        created: the creation time of the job, which tells it from a deleted job of the same name.
        started: when the job got instances and became billable (`TrainingStartTime`); None before.
        phase: the phase that runs, or that a successor repeats after a crash.
        epoch: the number in the names of the log streams; 0 until the hosts start.
        began: when the hosts were last started, or restarted after an interruption.
        resumes: when the wait for instances ends; None until the first wait begins.
        pause: seconds to wait for instances after the current interruption.
        ceased: when the hosts ended by the current interruption; None if there is none.
        idle: seconds without instances in earlier interruptions.
        cause: why the hosts were told to stop; None if they were not.
        told: when the hosts were told to stop.
        failed: the name of the first host that failed; empty if none has.
        outcome: the final status of the job; None until it is known.
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
        """Return how many seconds the job has had instances."""
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
        """Return the saved progress of the job that was created at `created`; None if there is none."""
        kept = read_json(self._progress)
        if kept is None or kept["created"] != created:
            return None
        outcome = kept.pop("outcome")
        return Progress(**kept, outcome=Outcome(**outcome) if outcome else None)

    def save(self, progress: Progress) -> None:
        """Save the progress."""
        write_json(self._progress, asdict(progress))

    def clear(self) -> None:
        """Delete all files of the hosts."""
        try:
            shutil.rmtree(self.hosts)
        except FileNotFoundError:
            return
        except PermissionError:
            _open_up(str(self.hosts))
            shutil.rmtree(self.hosts)


def _open_up(directory: str) -> None:
    """Make all directories below `directory` accessible, because a job may have removed the permissions."""
    pending = [directory]
    while pending:
        path = pending.pop()
        os.chmod(path, 0o700)  # noqa: PTH101 -- a string from scandir
        with os.scandir(path) as found:
            pending += [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]
