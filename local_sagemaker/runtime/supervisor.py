"""The supervisor: the process that runs one job from `InProgress` to its end, and may be killed at any time.

Each job has its own supervisor, in its own session, so that jobs outlive the server. The supervisor saves its progress
in the job's workspace. If it is killed, `reconcile` starts a successor, which repeats the current phase or takes over
the running hosts. After repeated crashes the job fails. A supervisor uses the table of jobs and the object store, and
never calls the server.

The command is `python -m local_sagemaker.runtime.supervisor HOME KIND NAME LOCK`. `LOCK` is the descriptor of the job's
lock. The process that starts a supervisor takes the lock and passes it on. So a supervisor that is still starting is
not taken for a lost one.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from local_sagemaker.disk import Reserve, is_full, with_space
from local_sagemaker.job_faults import JobFaults
from local_sagemaker.job_table import JobTable
from local_sagemaker.jobs import Job
from local_sagemaker.kinds import KINDS
from local_sagemaker.runtime import final_status
from local_sagemaker.runtime.host import Host
from local_sagemaker.runtime.job_runner import JobRunner
from local_sagemaker.runtime.workspace import Progress, Workspace
from local_sagemaker.s3.store import ObjectStore

_PACKAGE_ROOT = Path(__file__).parents[2]
_TAIL = 4096  # bytes of a log
_ARGUMENTS = 5  # the program, HOME, KIND, NAME, and the number of the descriptor that holds the lock

# In a row. The server calls `reconcile` every second, so a package that is being replaced has ten seconds to come back.
_MOST_CRASHES = 10


@dataclass(frozen=True)
class _Child:
    """A supervisor that this process started."""

    workspace: Workspace
    process: subprocess.Popen[bytes]


# Kept to reap the exited supervisors, which stay zombies otherwise, and to count the crashes of each job.
_children: list[_Child] = []
_crashes: Counter[Path] = Counter()
_children_lock = threading.Lock()


def start_supervisor(home: Path, kind: str, name: str) -> int | None:
    """Start the supervisor of a job, detached; return its pid, or None if the job already has one."""
    workspace = Workspace(home, kind, name)
    lock = _lock(workspace)
    if lock is None:
        return None
    try:
        return _start(workspace, kind, name, lock)
    finally:
        os.close(lock)  # the child holds the lock


def _start(workspace: Workspace, kind: str, name: str, lock: int) -> int:
    with workspace.output.open("ab") as output:
        process = subprocess.Popen(
            # -S: it needs only the standard library and this package, and `site` would take most of the start time.
            [sys.executable, "-S", "-m", __spec__.name, str(workspace.home), kind, name, str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=workspace.directory,
            # Nothing from the caller's environment, because the job's processes could read it.
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": str(_PACKAGE_ROOT)},
            start_new_session=True,
            pass_fds=(lock,),
        )
    with _children_lock:
        _children.append(_Child(workspace, process))
    return process.pid


def reconcile(home: Path) -> list[str]:
    """Start a supervisor for every live job that has lost its own; return the names of those jobs.

    It is cheap enough to be called every second: one query, and one lock for each live job.
    """
    _reap()
    with JobTable(home) as table:
        return [job.name for job in table.live("process") if _succeed(home, table, job)]


def _succeed(home: Path, table: JobTable, job: Job) -> bool:
    """Start a successor if the job has no supervisor, or fail the job; return whether a successor was started."""
    workspace = Workspace(home, job.kind, job.name)
    lock = _lock(workspace)
    if lock is None:
        return False
    try:
        # The last supervisor may have ended since the last `_reap`, and its crash must count before the decision.
        _reap(ended=workspace)
        if _crashes[workspace.directory] >= _MOST_CRASHES:
            _give_up(table, job, workspace)
            return False
        _start(workspace, job.kind, job.name, lock)
        return True
    finally:
        os.close(lock)


def _reap(ended: Workspace | None = None) -> None:
    """Reap the exited supervisors that this process started; count their crashes in a row, but not kills.

    Args:
        ended: The job whose lock this process holds. Its supervisor has released the lock, so wait until it has exited.
    """
    with _children_lock:
        for child in list(_children):
            if ended and child.workspace.directory == ended.directory:
                child.process.wait()
            if child.process.poll() is None:
                continue
            _children.remove(child)
            if child.process.returncode > 0 and child.process.returncode != os.EX_TEMPFAIL:
                _crashes[child.workspace.directory] += 1
            else:
                _crashes.pop(child.workspace.directory, None)


def _give_up(table: JobTable, job: Job, workspace: Workspace) -> None:
    """Fail a job whose supervisors keep crashing; it would run for ever. The caller holds the job's lock."""
    for directory in workspace.hosts.glob("*"):
        Host(workspace.hosts, directory.name).kill()
    crashes = _crashes.pop(workspace.directory)
    cause = f"its supervisor crashed {crashes} times, with {_last_line(workspace.output)}; see {workspace.output}"
    outcome = final_status.failed(f"{final_status.INTERNAL_ERROR} ({cause})", time.time())
    kind = KINDS[job.kind]
    progress = Progress(job.created, started=job.fields.get(kind.start_time))
    workspace.clear()
    table.update(job.kind, job.name, **kind.end(progress, outcome))


def _last_line(log: Path) -> str:
    lines = log.read_bytes()[-_TAIL:].decode(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "nothing in its log")


def _lock(workspace: Workspace) -> int | None:
    """Take the job's lock; return its descriptor, or None if another process holds the lock."""
    workspace.directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(workspace.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def supervise(home: Path, kind: str, name: str) -> None:
    """Run a job to its end, unless it has ended. This process must hold the job's lock."""
    workspace = Workspace(home, kind, name)
    reserve = Reserve(home)
    table = with_space(lambda: JobTable(home), reserve.spend)
    with table, with_space(lambda: ObjectStore(home / "s3"), reserve.spend) as store:
        job = table.get(kind, name)
        if not job.finished:
            JobRunner(job, table, store, JobFaults(table.database), workspace).run()


def main(arguments: list[str]) -> int:
    """Run one supervisor; return the exit code."""
    if len(arguments) != _ARGUMENTS or arguments[2] not in KINDS:
        sys.stderr.write(f"usage: {__spec__.name} HOME {{{'|'.join(KINDS)}}} NAME LOCK\n")
        return 2
    os.set_inheritable(int(arguments[4]), False)  # hold the lock until this process ends; its children must not
    try:
        supervise(Path(arguments[1]), arguments[2], arguments[3])
    except Exception as error:
        if not is_full(error):
            raise
        traceback.print_exc()
        return os.EX_TEMPFAIL  # not a crash: a full disk may have space later
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
