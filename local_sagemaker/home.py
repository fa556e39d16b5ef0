"""The data directory of one local SageMaker: its files, its locks, and the endpoint and process of its server.

Standard library only, because every command imports it and `up` must start fast.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from local_sagemaker.account import REGION
from local_sagemaker.runtime.workspace import Workspace

_CLAIM_TRIES, _CLAIM_TICK = 20, 0.05  # attempts, and seconds between them

HOME_VARIABLE = "LOCAL_SAGEMAKER_HOME"

_MARKER = "local-sagemaker"
"""The file that marks a directory as a home. `reset` deletes nothing in a directory without a marker."""

_OLDER_MARKERS = ("endpoint.json", "jobs.sqlite")  # of homes made before the marker existed
_MAY_BE_THERE = frozenset({"settings.json"})  # the user may write the settings before the first `up`
_PRIVATE = 0o700
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d{1,2}")

# All that `reset` deletes. A list, because a home may also have files of other programs. The endpoint, the region and
# the key stay, because clients are configured with them. The user's settings.json and the locks stay, too.
_DATA = (
    *("jobs", "logs", "metrics", "s3", "jobs.sqlite", "jobs.sqlite-shm", "jobs.sqlite-wal", "jobs.lock"),
    *("moto.jsonl", "roles.json", "server.log", "server.log.1", "reserve"),
)


@dataclass(frozen=True)
class Endpoint:
    """The endpoint of a home's current or last server.

    Attributes:
        endpoint: the URL; a restarted server takes the same port again.
        pid: the server's process.
        started: when the server started, in epoch seconds.
    """

    endpoint: str
    pid: int
    started: float

    @property
    def port(self) -> int:
        """The port of the URL."""
        return int(self.endpoint.rpartition(":")[2])


class NotAHome(Exception):
    """A directory is not a home, and is not empty; the text says what to do."""


class OtherRegion(Exception):
    """A home is in another region than the one asked for; the text says what to do."""


def try_lock(path: Path) -> IO[str] | None:
    """Lock a file exclusively until it is closed. Return None if another process has locked it."""
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


@dataclass(frozen=True)
class Home:
    """One data directory.

    Attributes:
        directory: its path.
    """

    directory: Path

    @classmethod
    def locate(cls, given: str | None, environ: Mapping[str, str]) -> Home:
        """Return the home of `--home`, else of `LOCAL_SAGEMAKER_HOME`, else `~/.local/share/local-sagemaker`."""
        chosen = given or environ.get(HOME_VARIABLE) or "~/.local/share/local-sagemaker"
        return cls(Path(chosen).expanduser().resolve())

    def make(self) -> None:
        """Create the home, readable by its user only whatever the umask: it has the objects and logs of jobs.

        Raises:
            NotAHome: the directory is not a home, and has other things in it.
        """
        if not self.is_home:
            self.directory.mkdir(parents=True, exist_ok=True)
            others = sorted(path.name for path in self.directory.iterdir() if path.name not in _MAY_BE_THERE)
            if others and not self.is_home:  # another process may have made it a home meanwhile
                raise NotAHome(
                    f"{self.directory} is not a data directory of the local SageMaker, and has other things in it: "
                    f"{', '.join(others[:5])}. Name an empty directory, or one that is not there."
                )
            (self.directory / _MARKER).touch()
        if self.directory.stat().st_mode & ~_PRIVATE & 0o777:
            self.directory.chmod(_PRIVATE)

    @property
    def is_home(self) -> bool:
        """Whether the directory is a home."""
        return any((self.directory / name).exists() for name in (_MARKER, *_OLDER_MARKERS))

    @property
    def region(self) -> str:
        """The region of the home; `us-east-1` by default."""
        path = self.directory / "region"
        return path.read_text().strip() if path.exists() else REGION

    def settle(self, region: str | None) -> None:
        """Set the region of the home, which can change only while the home has no data.

        Args:
            region: such as `eu-west-1`; None keeps the current one.

        Raises:
            OtherRegion: the home has data of another region, or the name is invalid.
        """
        if region is None or (region == self.region and (self.directory / "region").exists()):
            return
        if not _REGION.fullmatch(region):
            raise OtherRegion(f"{region!r} is not the name of an AWS region; write one such as eu-west-1.")
        if region != self.region and self.contents():
            raise OtherRegion(
                f"{self.directory} is in {self.region}, and {region} was asked for. A home is in one region. Name "
                f"another directory for {region}, or ask for {self.region}, or delete all that is in it with "
                "`reset --yes` first."
            )
        (self.directory / "region").write_text(region)

    @property
    def server_log(self) -> Path:
        """The server's log file."""
        return self.directory / "server.log"

    @property
    def objects(self) -> Path:
        """The directory of the object store."""
        return self.directory / "s3"

    @property
    def logs(self) -> Path:
        """The directory of log groups."""
        return self.directory / "logs"

    @property
    def metrics(self) -> Path:
        """The directory of the metrics of training jobs, for CloudWatch."""
        return self.directory / "metrics"

    @property
    def moto_journal(self) -> Path:
        """The journal of requests from which moto's state in memory is restored."""
        return self.directory / "moto.jsonl"

    def endpoint(self) -> Endpoint | None:
        """Return the endpoint of the last server; None before the first one, or if its file is damaged."""
        try:
            return Endpoint(**json.loads((self.directory / "endpoint.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def announce(self, endpoint: Endpoint) -> None:
        """Write the endpoint to its file, by rename, so that a reader never gets a partial file."""
        part = self.directory / f"endpoint.json.{os.getpid()}"
        part.write_text(json.dumps(asdict(endpoint)))
        part.replace(self.directory / "endpoint.json")

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Hold the lock that lets one process at a time start or stop the server."""
        self.make()
        with (self.directory / "start.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def claim(self) -> IO[str] | None:
        """Take the lock that a server holds while it lives, and write this process's pid into it.

        The kernel releases the lock when the process ends, however it ends.

        Returns:
            The lock; None if another process holds it.
        """
        for _ in range(_CLAIM_TRIES):
            lock = try_lock(self._server_lock)
            if lock is not None:
                lock.truncate(0)
                lock.write(str(os.getpid()))
                lock.flush()
                return lock
            time.sleep(_CLAIM_TICK)  # `server_pid` in another process holds the lock for an instant
        return None

    def server_pid(self) -> int | None:
        """Return the pid of the server that runs now; None if there is none."""
        try:
            with self._server_lock.open() as lock:
                # A shared lock, so that two processes that check at the same time do not see each other as a server.
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            pid = self._server_lock.read_text()
            return int(pid) if pid else None
        return None

    @property
    def _server_lock(self) -> Path:
        return self.directory / "server.lock"

    def workspaces(self) -> Iterator[Workspace]:
        """Yield the workspace of each job that has one."""
        for directory in (self.directory / "jobs").glob("*/*"):
            yield Workspace(self.directory, directory.parent.name, directory.name)

    def contents(self) -> list[Path]:
        """Return the files and directories that `erase` would delete."""
        present = (self.directory / name for name in _DATA)
        return [path for path in present if path.exists()]

    def erase(self) -> None:
        """Delete all jobs, objects, logs and roles. No server and no job may run in this home."""
        for workspace in self.workspaces():
            workspace.clear()  # a job may have removed its user's access to its directories
        for path in self.contents():
            # missing_ok: SQLite deletes its WAL files when the last connection closes.
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
