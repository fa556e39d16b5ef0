"""Start, find and end the server of a home.

The server is a detached process that is found through its home. It is not a unit of a service manager, because it must
work for any user, in a container and in a test.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from local_sagemaker.account import ACCOUNT
from local_sagemaker.disk import Reserve
from local_sagemaker.home import Endpoint, Home, OtherRegion, try_lock
from local_sagemaker.job_table import JobTable
from local_sagemaker.jobs import Job, JobFinished
from local_sagemaker.keys import HomeKey
from local_sagemaker.runtime.settings import read_settings
from local_sagemaker.runtime.simulator import Simulator
from local_sagemaker.runtime.supervisor import reconcile
from local_sagemaker.s3.store import ObjectStore

STATUS_PATH = "/_local/status"

_ANSWER_TIMEOUT = 10.0  # seconds for one answer of a running server
_PATIENCE = 120.0  # seconds that `up` waits for a running or a new server; on an idle machine a start takes 1 s
_SAY_AFTER = 5.0  # seconds after which `up` prints that it waits
_EXIT_TIMEOUT = 10.0  # seconds for the server to end, with the requests that it has
_TICK = 0.05  # seconds between polls of another process, its lock or its job
_LOG_TAIL = 20  # lines
_LARGEST_LOG = 10 << 20  # bytes

_SERVE = (sys.executable, "-m", "local_sagemaker", "serve")

Say = Callable[[str], None]


class LifecycleError(Exception):
    """The server could not be started, asked or ended; the text says what to do."""


class NoAnswer(LifecycleError):
    """A server runs but does not answer: it hangs, or the machine is very busy."""


def status(home: Home, timeout: float = _ANSWER_TIMEOUT) -> dict[str, Any]:
    """Return the status of a home's server, with `running`. If it is down, return what the home's files tell.

    Args:
        home: the data directory.
        timeout: seconds to wait for the answer of a running server.

    Raises:
        NoAnswer: a server runs and does not answer in time.
    """
    known = home.endpoint()
    if known is not None and home.server_pid() is not None:
        answer = _ask(home, known, timeout)
        if answer is not None:
            return {**answer, "running": True}
    return {
        "endpoint": known.endpoint if known else None,
        "pid": None,
        "home": str(home.directory),
        "region": home.region,
        "account": ACCOUNT,
        "requests": {},
        "sequence": 0,
        "running": False,
    }


def up(
    home: Home, port: int | None = None, region: str | None = None, *, say: Say, patience: float = _PATIENCE
) -> tuple[dict[str, Any], bool]:
    """Start the server of a home unless it runs. Return its status, and whether this call started it.

    Several processes may call it at once: one starts the server, and all get the same status.

    Args:
        home: the data directory; created if it is missing.
        port: the port to use; None takes the last one again, or a free one the first time.
        region: the region of a new home; None keeps the home's, which is us-east-1 for a new one.
        say: prints a message if the call takes long.
        patience: seconds to wait for a server that runs and does not answer.

    Raises:
        NoAnswer: a server runs and does not answer in time.
        LifecycleError: the server does not start, or runs at a port other than `port`.
        OtherRegion: the home is in another region, or the name is invalid.
    """
    Reserve(home.directory).release_if_low()
    found = _found(home, patience, say)
    started = False
    if not found["running"]:
        with home.starting():
            found = _found(home, patience, say)
            if not found["running"]:
                home.settle(region)
                _start(home, port)
                found, started = _found(home, patience, say), True
    if not found["running"]:
        raise LifecycleError(f"The server ended right after its start. Its log says:\n{_log_tail(home)}")
    if port is not None and not str(found["endpoint"]).endswith(f":{port}"):
        raise LifecycleError(f"The server runs at {found['endpoint']}. To move it: `down`, then `up --port {port}`.")
    if region not in (None, found["region"]):
        raise OtherRegion(
            f"The server of {home.directory} runs in {found['region']}, and {region} was asked for. Name another "
            f"directory for {region}, or ask for {found['region']}."
        )
    return found, started


def down(home: Home, *, keep_jobs: bool, say: Say) -> tuple[bool, int]:
    """End the server of a home and its jobs. Return whether a server ran, and how many jobs were stopped.

    Jobs are stopped as by `StopTrainingJob`: SIGTERM, and SIGKILL after the grace period of `settings.json`.

    Args:
        home: the data directory.
        keep_jobs: leave the jobs to their supervisors, which run them to their end without the server.
        say: prints a message if the call takes long.

    Raises:
        LifecycleError: the server or a job does not end in time.
    """
    if not home.is_home:
        return False, 0
    Reserve(home.directory).release_if_low()
    with home.starting():
        was_running = _end_server(home)
        return was_running, 0 if keep_jobs else _end_jobs(home, say)


def reset(home: Home, *, say: Say) -> tuple[bool, int]:
    """End the server and its jobs, then delete all data. No other process can start the server in between.

    Raises:
        LifecycleError: the directory is not a home, or the server or a job does not end in time.
    """
    if not home.is_home:
        raise LifecycleError(f"{home.directory} is not a data directory of the local SageMaker; nothing was deleted.")
    Reserve(home.directory).release_if_low()
    with home.starting():
        ended = _end_server(home), _end_jobs(home, say)
        home.erase()
    return ended


def _found(home: Home, patience: float, say: Say) -> dict[str, Any]:
    """Return the status as soon as the server answers or no server runs."""
    deadline = time.monotonic() + patience
    first = min(_SAY_AFTER, patience)
    try:
        found = _settled(home, first, time.monotonic() + first)
    except NoAnswer:
        left = deadline - time.monotonic()
        if left <= 0:
            raise
        say(f"The server (pid {home.server_pid()}) lives but does not answer; waiting for it up to {left:.0f} s …")
        found = _settled(home, left, deadline)
    return found


def _settled(home: Home, timeout: float, deadline: float) -> dict[str, Any]:
    """Return the status. Poll until a deadline while a server runs that does not listen yet or any more."""
    while True:
        found = status(home, timeout)
        pid = home.server_pid()
        if found["running"] or pid is None:
            return found
        if time.monotonic() > deadline:
            raise _no_answer(home, pid, timeout)
        time.sleep(_TICK)


def _no_answer(home: Home, pid: int | None, seconds: float) -> NoAnswer:
    return NoAnswer(
        f"The server (pid {pid}) has not answered for {seconds:.0f} s. It lives, and its jobs go on; it may only be "
        f"slow. Try again when this machine is less busy, and look into {home.server_log}."
    )


def _ask(home: Home, known: Endpoint, timeout: float) -> dict[str, Any] | None:
    """Ask the server for its status. Return None if it does not listen, or another program has its old port."""
    connection = http.client.HTTPConnection("127.0.0.1", known.port, timeout=timeout)
    try:
        key = HomeKey.of(home.directory).control
        connection.request("GET", STATUS_PATH, headers={"Authorization": f"Bearer {key}"})
        answer = json.loads(connection.getresponse().read())
    except TimeoutError as error:
        raise _no_answer(home, known.pid, timeout) from error
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    ours = isinstance(answer, dict) and answer.get("home") == str(home.directory)
    return answer if ours else None


def _start(home: Home, port: int | None) -> None:
    """Start a detached server and wait until it listens."""
    ready, announce = os.pipe()
    arguments = [] if port is None else ["--port", str(port)]
    _rotate(home.server_log)
    with home.server_log.open("ab") as log, os.fdopen(ready, "rb", buffering=0) as pipe:
        try:
            server = subprocess.Popen(
                [*_SERVE, "--home", str(home.directory), "--ready-fd", str(announce), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=home.directory,
                # The server and its jobs must not reach AWS with the user's credentials or profile.
                env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
                pass_fds=(announce,),
                start_new_session=True,
            )
        finally:
            os.close(announce)
        _await_ready(home, server, pipe.fileno())


def _rotate(path: Path) -> None:
    """Rename a log of more than 10 MB to `<name>.1`, so that a new one begins."""
    if path.exists() and path.stat().st_size > _LARGEST_LOG:
        path.replace(path.with_name(f"{path.name}.1"))


def _await_ready(home: Home, server: subprocess.Popen[bytes], pipe: int) -> None:
    """Wait until a new server writes to the pipe. The end of the pipe without a byte means that it ended."""
    readable, _, _ = select.select([pipe], [], [], _PATIENCE)
    if readable and os.read(pipe, 1):
        return
    if not readable:
        server.kill()
    code = server.wait()
    what = f"ended with code {code}" if readable else f"did not listen after {_PATIENCE:.0f} s"
    raise LifecycleError(f"The server {what}. Its log, {home.server_log}, ends with:\n{_log_tail(home)}")


def _end_server(home: Home) -> bool:
    """End the server by SIGTERM, or by SIGKILL if that takes too long. Return whether there was one."""
    pid = home.server_pid()
    if pid is None:
        return False
    try:
        _signal(pid, signal.SIGTERM)
        _wait_until(lambda: home.server_pid() is None, _EXIT_TIMEOUT, "The server does not end", home)
    except LifecycleError:
        _signal(pid, signal.SIGKILL)
        _wait_until(lambda: home.server_pid() is None, _EXIT_TIMEOUT, "The server does not end", home)
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    """Signal a server that held its lock a moment ago, so the pid is still its own."""
    with suppress(ProcessLookupError):  # it has ended meanwhile, as intended
        os.kill(pid, number)


def _end_jobs(home: Home, say: Say) -> int:
    """Stop all live jobs and wait for their supervisors. Return how many there were."""
    with JobTable(home.directory) as table:
        live = table.live()
        for job in live:
            _request_stop(table, job)
        grace = read_settings(home.directory).stop_grace_seconds
        if live:
            names = ", ".join(job.name for job in live[:5]) + (", …" if len(live) > 5 else "")  # noqa: PLR2004 -- a line
            leaves = "Ctrl-C leaves them to their supervisors"
            say(f"Stopping {len(live)} job(s): {names} (up to {grace:.0f} s; {leaves}) …")
            with ObjectStore(home.objects) as store:
                Simulator(home.directory, table, store).stop_all()

        def ended() -> bool:
            reconcile(home.directory)  # a job whose supervisor was killed needs a new one to end it
            return not table.live() and not _has_supervisors(home)

        _wait_until(ended, grace + 60, "Some jobs do not end", home)
    return len(live)


def _request_stop(table: JobTable, job: Job) -> None:
    try:
        table.request_stop(job.kind, job.name)
    except JobFinished:
        return  # it has ended meanwhile, as intended


def _has_supervisors(home: Home) -> bool:
    """Tell whether any supervisor runs. It outlives the end of its job by about 100 ms."""
    return any(_is_held(workspace.lock) for workspace in home.workspaces() if workspace.lock.exists())


def _is_held(path: Path) -> bool:
    lock = try_lock(path)
    if lock is not None:
        lock.close()
    return lock is None


def _wait_until(condition: Callable[[], bool], seconds: float, complaint: str, home: Home) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pid = home.server_pid()
            who = f" (pid {pid})" if pid else ""
            raise LifecycleError(f"{complaint} after {seconds:.0f} s{who}. Look into {home.server_log}.")
        time.sleep(_TICK)


def _log_tail(home: Home) -> str:
    lines = home.server_log.read_text(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_LOG_TAIL:])
