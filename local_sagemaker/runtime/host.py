"""The supervisor's handle on one host of a job: starts it once, finds it again after a crash, signals and kills it.

A host is alive as long as its first process holds the lock file in its directory. The supervisor cannot rely on a child
process, because it may be a successor that did not start the host. It cannot rely on a pid, because pids are reused.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_sagemaker.runtime.workspace import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_INIT = Path(__file__).with_name("init.py")
_MOST_BACKLOG, _LEAST_BACKLOG = 32 << 20, 4 << 20  # unread bytes at which a host is stopped, and continued
_EXECUTING = 0.05  # seconds that an `exec` takes on a busy machine
_STARTING = 0.002  # seconds between polls while a host makes its namespaces, which takes tens of milliseconds


class Host:
    """One host and its directory.

    Attributes:
        name: the host's name: `algo-1`, `algo-2` and so on.
        directory: its directory in the job's workspace.
        files: the directory that holds the container paths, such as `<files>/opt/ml`.
        output: the file with the output of its command.
        home: the directory for the command's `HOME`.
    """

    def __init__(self, hosts: Path, name: str) -> None:
        self.name = name
        self.directory = hosts / name
        self.files = self.directory / "files"
        self.output = self.directory / "output.log"
        self.home = self.directory / "home"
        self._held = self.directory / "held"
        self._lock = self.directory / "init.lock"
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd: int | None = None

    def prepare(self, directories: Iterable[str], configuration: Mapping[str, Any]) -> None:
        """Make the directories and the JSON configuration files that the command expects, by container path."""
        self.home.mkdir(parents=True)
        (self.directory / "root").mkdir()
        for path in directories:
            self.path(path).mkdir(parents=True, exist_ok=True)
        for path, content in configuration.items():
            file = self.path(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(content, indent=2))
        self.output.touch()

    def say(self, text: str) -> None:
        """Append a line of the local SageMaker to the host's output, and so to the job's log."""
        with self.output.open("ab") as output:
            output.write(f"local_sagemaker: {text}\n".encode("utf-8", "backslashreplace"))

    def path(self, container_path: str) -> Path:
        """Return the path on this machine of a container path."""
        return self.files / container_path.lstrip("/")

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        hosts: Sequence[str],
        places: Sequence[str],
        isolation: str,
        most: int,
    ) -> None:
        """Start the command unless it was started before; return when the host can be signalled.

        Args:
            command: the container's command.
            environment: the whole environment of the command.
            hosts: the names of all hosts, for `/etc/hosts`.
            places: the container paths that are bound to directories of this host.
            isolation: the isolation from the settings.
            most: the limit of processes and threads; the kernel enforces it where it can.
        """
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if self._take(lock) and not self._was_started():
                spec = self._spec(command, environment, hosts, places)
                write_json(self.directory / "spec.json", {**spec, "isolation": isolation, "most": most, "lock": lock})
                self._spawn(lock)
        finally:
            os.close(lock)
        while self.alive() and not self._was_started():
            time.sleep(_STARTING)
        self._open_pidfd()

    def _spec(
        self, command: Sequence[str], environment: Mapping[str, str], hosts: Sequence[str], places: Sequence[str]
    ) -> dict[str, Any]:
        names = Path("/etc/hosts")
        hosts_file = self.directory / "hosts"
        hosts_file.write_text(f"{names.read_text() if names.exists() else ''}\n127.0.0.1 {' '.join(hosts)}\n")
        return {
            "host": self.name,
            "command": list(command),
            "environment": dict(environment),
            "root": str(self.files),
            "mountpoint": str(self.directory / "root"),
            "binds": {place: str(self.path(place)) for place in places},
            "hosts_file": str(hosts_file),
            "python": str(Path(sys.executable).parent.resolve().parent),
            "layer": str(self.directory / "python"),
        }

    def _spawn(self, lock: int) -> None:
        # Open for reading too: before the init appends a line, it reads whether the output ends with a line feed.
        output = os.open(self.output, os.O_RDWR | os.O_APPEND)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_INIT), str(self.directory / "spec.json")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"LANG": "C.UTF-8"},  # the command's own environment could break the init
                pass_fds=[lock],
                start_new_session=True,
            )
        finally:
            os.close(output)

    def _was_started(self) -> bool:
        return (self.directory / "host.json").exists()

    @staticmethod
    def _take(lock: int) -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def alive(self) -> bool:
        """Return whether the host's first process is running or starting."""
        if self._process is not None:
            self._process.poll()
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            return not self._take(lock)
        finally:
            os.close(lock)

    def exit_code(self) -> int | None:
        """Return the command's exit code; None if it is running or if the host died without one."""
        ended = read_json(self.directory / "exit.json")
        return int(ended["code"]) if ended else None

    def _open_pidfd(self) -> None:
        if sys.platform == "linux" and self._was_started():
            try:
                self._pidfd = os.pidfd_open(self._record()["pid"])
            except OSError:  # the host ended, or the kernel is older than 5.3; `alive` and the pid are used instead
                return
            # If the host is alive now, the descriptor refers to the host and not to a later process with its pid.
            if not self.alive():
                self.close()

    def fileno(self) -> int | None:
        """Return a descriptor that becomes readable when the host ends; None if the system has no pidfd for it."""
        return self._pidfd

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the host's first process if it is running."""
        try:
            if self._pidfd is not None and sys.platform == "linux":
                signal.pidfd_send_signal(self._pidfd, number)
            elif self.alive() and self._was_started():
                os.kill(self._record()["pid"], number)
        except ProcessLookupError:  # it ended a moment ago
            return

    def kill(self) -> None:
        """Kill the host and all processes that it started; return when its first process is gone."""
        while self.alive():
            self.send(signal.SIGKILL)
            time.sleep(_STARTING)
        self.clean_up()

    def throttle(self, backlog: int) -> None:
        """Stop a host that prints faster than its log is written; continue it when the log has caught up.

        A pipe would block the writer by itself. The output is a file, which survives its reader but would fill the
        disk.

        Args:
            backlog: the number of bytes that were printed and not yet read.
        """
        if backlog > _MOST_BACKLOG and self.alive():
            self._held.touch()
            self._signal_all(signal.SIGSTOP)
        elif backlog < _LEAST_BACKLOG and self._held.exists():
            self._signal_all(signal.SIGCONT)
            self._held.unlink()

    def count(self) -> int:
        """Return the number of processes and threads of the host, without its first process."""
        if not self.alive() or not self._was_started():
            return 0
        return sum(map(_threads, self._processes()))

    def _signal_all(self, number: signal.Signals, after: float = 0.0) -> bool:
        """Send a signal to all processes of the host after `after` seconds; return whether there were any."""
        time.sleep(after)
        found = self._processes()
        for pid in found:
            _kill(pid, number)
        return bool(found)

    def _processes(self) -> list[int]:
        """Return the pids of the host's processes, without its first process."""
        record = self._record()
        if record["isolation"] == "namespaces":
            return [pid for pid in _of_namespace(record["pid"]) if pid != record["pid"]]
        return _of_root(self.files)

    def clean_up(self) -> None:
        """Kill the processes that a killed init left behind; with a pid namespace the kernel has done so."""
        record = read_json(self.directory / "host.json")
        if record is None or record["isolation"] == "namespaces":
            return
        # Look twice: a process in the middle of an `exec` shows no environment.
        while self._signal_all(signal.SIGKILL) or self._signal_all(signal.SIGKILL, after=_EXECUTING):
            time.sleep(_STARTING)

    def _record(self) -> dict[str, Any]:
        record: dict[str, Any] = read_json(self.directory / "host.json")
        return record

    def close(self) -> None:
        """Close the pidfd."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:  # it ended a moment ago
        return


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208 -- of thousands
    except (FileNotFoundError, ProcessLookupError):  # it ended a moment ago
        return 0


def _of_root(root: Path) -> list[int]:
    """Return the pids of the processes with this `LOCAL_SAGEMAKER_ROOT` in their environment."""
    mark = b"LOCAL_SAGEMAKER_ROOT=" + os.fsencode(root)
    return _those(lambda process: mark in (process / "environ").read_bytes().split(b"\0"))


def _of_namespace(first: int) -> list[int]:
    """Return the pids of the processes in the pid namespace of `first`."""
    try:
        namespace, ours = (os.readlink(f"/proc/{pid}/ns/pid") for pid in (first, "self"))  # noqa: PTH115 -- no path
    except (FileNotFoundError, PermissionError, ProcessLookupError):  # it has ended or is ending, with its namespace
        return []
    if namespace == ours:  # it ended and its pid was reused: every process of the machine would match
        return []
    return _those(lambda process: os.readlink(process / "ns" / "pid") == namespace)  # noqa: PTH115 -- no path


def _those(belongs: Callable[[Path], bool]) -> list[int]:
    """Return the pids of the processes that `belongs` accepts; none on a system without `/proc`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if belongs(process):
                found.append(int(process.name))
        except (PermissionError, FileNotFoundError, ProcessLookupError):  # noqa: PERF203 -- another user's, or gone
            continue
    return found
