"""The process that carries one job from `InProgress` to its end, and can be killed at any moment.

Each job has a supervisor of its own, in a session of its own, and not a thread of the server, so that jobs outlive the
server. It keeps how far it came in the job's workspace; `reconcile` starts a successor for each job that lost its
supervisor, which does the present phase again or adopts the running hosts. It stands on the standard library, the table
of jobs and the object store, and never talks to the server.

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
from pathlib import Path
from typing import get_args

from local_sagemaker.disk import Reserve, with_space
from local_sagemaker.faults.table import FaultTable
from local_sagemaker.job_table import JobTable
from local_sagemaker.jobs import Kind
from local_sagemaker.runtime.conductor import Conductor
from local_sagemaker.runtime.workspace import Workspace
from local_sagemaker.s3.store import ObjectStore

_PACKAGE_ROOT = Path(__file__).parents[2]
_ARGUMENTS = 5  # the program, HOME, KIND, NAME, and the number of the descriptor that holds the lock

# Supervisors that this process started: kept to be reaped, since an exited child stays a zombie until somebody asks.
_children: list[subprocess.Popen[bytes]] = []
_children_lock = threading.Lock()


def start_supervisor(home: Path, kind: Kind, name: str) -> int | None:
    """Start the supervisor of a job, detached; return its pid, or None where the job has one."""
    workspace = Workspace(home, kind, name)
    lock = _lock(workspace)
    if lock is None:
        return None
    try:
        child = _start(workspace, kind, name, lock)
    finally:
        os.close(lock)  # the child has it
    with _children_lock:
        _children[:] = [one for one in _children if one.poll() is None]
        _children.append(child)
    return child.pid


def _start(workspace: Workspace, kind: Kind, name: str, lock: int) -> subprocess.Popen[bytes]:
    with workspace.output.open("ab") as output:
        return subprocess.Popen(
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


def reconcile(home: Path) -> list[str]:
    """Start a supervisor for every live job that should have one and has none; return the names of those jobs.

    Cheap enough to be called every second: a query, and a lock for each live job.
    """
    with _children_lock:
        _children[:] = [one for one in _children if one.poll() is None]
    with JobTable(home) as table:
        live = table.live("process")
    return [job.name for job in live if start_supervisor(home, job.kind, job.name)]


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


def supervise(home: Path, kind: Kind, name: str) -> None:
    """Carry a job to its end, unless it has ended; this process holds its lock."""
    workspace = Workspace(home, kind, name)
    reserve = Reserve(home)
    table = with_space(lambda: JobTable(home), reserve.spend)
    with table, with_space(lambda: ObjectStore(home / "s3"), reserve.spend) as store:
        job = table.get(kind, name)
        if not job.finished:
            Conductor(job, table, store, FaultTable(table.database), workspace).run()


def main(arguments: list[str]) -> int:
    """Run one supervisor; return the exit code."""
    if len(arguments) != _ARGUMENTS or arguments[2] not in get_args(Kind):
        sys.stderr.write(f"usage: {__spec__.name} HOME {{{'|'.join(get_args(Kind))}}} NAME LOCK\n")
        return 2
    kind: Kind = "training-job" if arguments[2] == "training-job" else "processing-job"
    os.set_inheritable(int(arguments[4]), False)  # held until this process ends, and not by what it starts
    supervise(Path(arguments[1]), kind, arguments[3])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
