"""The process that carries one job from `InProgress` to its end, and can be killed at any moment.

Each job has a supervisor of its own, in a session of its own, and not a thread of the server, so that jobs outlive the
server. It keeps how far it came in the job's workspace; `reconcile` starts a successor for each job that lost its
supervisor, which does the present phase again or adopts the running hosts. A job whose supervisors crash one after the
other fails. It stands on the standard library, the table of jobs and the object store, and never talks to the server.

A job's lock says that it has one. Whoever starts a supervisor takes the lock and hands it down, so that one that is
still starting is never taken for lost. The server imports `start_supervisor` and `reconcile`; the process is
`python -m local_sagemaker.runtime.supervisor HOME KIND NAME LOCK`.
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
from local_sagemaker.faults.table import FaultTable
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

_MOST_CRASHES = 10  # in a row; `reconcile` is called every second, and a package that is just being replaced comes back


@dataclass(frozen=True)
class _Child:
    """A supervisor that this process started."""

    workspace: Workspace
    process: subprocess.Popen[bytes]


# Kept to be reaped, since an exited child stays a zombie until somebody asks, and to count the crashes of a job's.
_children: list[_Child] = []
_crashes: Counter[Path] = Counter()
_children_lock = threading.Lock()


def start_supervisor(home: Path, kind: str, name: str) -> int | None:
    """Start the supervisor of a job, detached; return its pid, or None where the job has one."""
    workspace = Workspace(home, kind, name)
    lock = _lock(workspace)
    if lock is None:
        return None
    try:
        return _start(workspace, kind, name, lock)
    finally:
        os.close(lock)  # the child has it


def _start(workspace: Workspace, kind: str, name: str, lock: int) -> int:
    with workspace.output.open("ab") as output:
        process = subprocess.Popen(
            # -S: what it needs is the standard library and this package; site-packages cost more than all of it.
            [sys.executable, "-S", "-m", __spec__.name, str(workspace.home), kind, name, str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=workspace.directory,
            # Nothing of the caller's: the job's processes could read it.
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": str(_PACKAGE_ROOT)},
            start_new_session=True,
            pass_fds=(lock,),
        )
    with _children_lock:
        _children.append(_Child(workspace, process))
    return process.pid


def reconcile(home: Path) -> list[str]:
    """Start a supervisor for every live job that should have one and has none; return the names of those jobs.

    Cheap enough to be called every second: a query, and a lock for each live job.
    """
    _reap()
    with JobTable(home) as table:
        return [job.name for job in table.live("process") if _succeed(home, table, job)]


def _succeed(home: Path, table: JobTable, job: Job) -> bool:
    """Start the successor of a supervisor that is gone, or fail the job; tell whether one was started."""
    workspace = Workspace(home, job.kind, job.name)
    lock = _lock(workspace)
    if lock is None:
        return False
    try:
        # It may have ended since we last looked, and how it ended decides whether there is a successor.
        _reap(ended=workspace)
        if _crashes[workspace.directory] >= _MOST_CRASHES:
            _give_up(table, job, workspace)
            return False
        _start(workspace, job.kind, job.name, lock)
        return True
    finally:
        os.close(lock)


def _reap(ended: Workspace | None = None) -> None:
    """Ask after the supervisors that this process started; a crash counts, and a kill does not.

    Args:
        ended: Whose lock we hold: a supervisor of this job has let it go, and is waited for until it has gone itself.
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
    """Fail a job that no supervisor can carry, and whose lock we hold: it would run, or wait, for ever."""
    for directory in workspace.hosts.glob("*"):
        Host(workspace.hosts, directory.name).kill()
    crashes = _crashes.pop(workspace.directory)
    cause = f"its supervisor crashed {crashes} times, with {_last_line(workspace.output)}; see {workspace.output}"
    outcome = final_status.failed(f"{final_status.INTERNAL_ERROR} ({cause})", time.time())
    kind = KINDS[job.kind]
    progress = Progress(job.created, started=job.fields.get(kind.start_time))
    fields = kind.closing_fields(progress, outcome)
    workspace.clear()
    table.update(
        job.kind, job.name, status=outcome.status, secondary=outcome.secondary, message=outcome.message, **fields
    )


def _last_line(log: Path) -> str:
    lines = log.read_bytes()[-_TAIL:].decode(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "nothing in its log")


def _lock(workspace: Workspace) -> int | None:
    """Take the job's lock; return its descriptor, or None if another process holds it."""
    workspace.directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(workspace.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def supervise(home: Path, kind: str, name: str) -> None:
    """Carry a job to its end, unless it has ended; this process holds its lock."""
    workspace = Workspace(home, kind, name)
    reserve = Reserve(home)
    table = with_space(lambda: JobTable(home), reserve.spend)
    with table, with_space(lambda: ObjectStore(home / "s3"), reserve.spend) as store:
        job = table.get(kind, name)
        if not job.finished:
            JobRunner(job, table, store, FaultTable(table.database), workspace).run()


def main(arguments: list[str]) -> int:
    """Run one supervisor; return the exit code."""
    if len(arguments) != _ARGUMENTS or arguments[2] not in KINDS:
        sys.stderr.write(f"usage: {__spec__.name} HOME {{{'|'.join(KINDS)}}} NAME LOCK\n")
        return 2
    os.set_inheritable(int(arguments[4]), False)  # held until this process ends, and not by what it starts
    try:
        supervise(Path(arguments[1]), arguments[2], arguments[3])
    except Exception as error:
        if not is_full(error):
            raise
        traceback.print_exc()
        return os.EX_TEMPFAIL  # a disk that is full now may have room later
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
