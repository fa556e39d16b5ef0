"""The data directory of one local SageMaker: what lies where in it, who serves it, and at which endpoint.

Standard library only: every command of the command line reads it, and `up` shall be light. Server and command line
import it.
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

_CLAIM_TRIES, _CLAIM_TICK = 20, 0.05  # seconds

HOME_VARIABLE = "LOCAL_SAGEMAKER_HOME"

_MARKER = "local-sagemaker"
"""The file that makes a directory a home: without it nothing is deleted there."""

_OLDER_MARKERS = ("endpoint.json", "jobs.sqlite")  # of homes from before there was a marker
_MAY_BE_THERE = frozenset({"settings.json"})  # a home's settings may be written before its first `up`
_PRIVATE = 0o700
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d{1,2}")

# All that `reset` deletes: other things may have come into a home. The endpoint and the region stay, since clients are
# configured with them, and so do the user's own settings.json and the locks.
_DATA = (
    *("jobs", "logs", "metrics", "s3", "jobs.sqlite", "jobs.sqlite-shm", "jobs.sqlite-wal", "jobs.lock"),
    *("moto.jsonl", "roles.json", "server.log", "server.log.1", "reserve"),
)


@dataclass(frozen=True)
class Endpoint:
    """Where a home is, or was last, served.

    Attributes:
        endpoint: the URL; its port is taken again after a restart.
        pid: the server's process.
        started: epoch seconds.
    """

    endpoint: str
    pid: int
    started: float

    @property
    def port(self) -> int:
        """The port of the URL."""
        return int(self.endpoint.rpartition(":")[2])


class NotAHome(Exception):
    """A directory is no home, and has other things in it; the text says what to do."""


class OtherRegion(Exception):
    """A home is in another region than the one asked for; the text says what to do."""


def try_lock(path: Path) -> IO[str] | None:
    """Take an exclusive lock on a file until it is closed; None if another process has it."""
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


@dataclass(frozen=True)
class Home:
    """One data directory."""

    directory: Path

    @classmethod
    def locate(cls, given: str | None, environ: Mapping[str, str]) -> Home:
        """Return the home that was named, or else the one of the environment, or else the user's."""
        chosen = given or environ.get(HOME_VARIABLE) or "~/.local/share/local-sagemaker"
        return cls(Path(chosen).expanduser().resolve())

    def make(self) -> None:
        """Make the directory, for its user alone, whatever the umask: the objects and logs of jobs lie in it.

        Raises:
            NotAHome: there is such a directory with other things in it.
        """
        if not self.is_home:
            self.directory.mkdir(parents=True, exist_ok=True)
            others = sorted(path.name for path in self.directory.iterdir() if path.name not in _MAY_BE_THERE)
            if others and not self.is_home:  # unless another process has made it meanwhile
                raise NotAHome(
                    f"{self.directory} is no data directory of the local SageMaker, and has other things in it: "
                    f"{', '.join(others[:5])}. Name an empty directory, or one that is not there."
                )
            (self.directory / _MARKER).touch()
        if self.directory.stat().st_mode & ~_PRIVATE & 0o777:
            self.directory.chmod(_PRIVATE)

    @property
    def is_home(self) -> bool:
        """Whether the directory has been made a home."""
        return any((self.directory / name).exists() for name in (_MARKER, *_OLDER_MARKERS))

    @property
    def region(self) -> str:
        """The region of all that is in the home."""
        path = self.directory / "region"
        return path.read_text().strip() if path.exists() else REGION

    def settle(self, region: str | None) -> None:
        """Put the home into a region, at its first use or while nothing is in it; None keeps the one that it has.

        Args:
            region: such as `eu-west-1`.

        Raises:
            OtherRegion: there are data of another region in it, or this is no name of a region.
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
        """What the server says."""
        return self.directory / "server.log"

    @property
    def objects(self) -> Path:
        """The object store."""
        return self.directory / "s3"

    @property
    def logs(self) -> Path:
        """The log groups."""
        return self.directory / "logs"

    @property
    def metrics(self) -> Path:
        """The metrics of training jobs, for CloudWatch."""
        return self.directory / "metrics"

    @property
    def moto_journal(self) -> Path:
        """The requests that made what moto holds in memory."""
        return self.directory / "moto.jsonl"

    def endpoint(self) -> Endpoint | None:
        """Return the endpoint of the last server; None before the first one, and where its file is damaged."""
        try:
            return Endpoint(**json.loads((self.directory / "endpoint.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def announce(self, endpoint: Endpoint) -> None:
        """Keep the endpoint; by rename, so that nobody reads half of it."""
        part = self.directory / f"endpoint.json.{os.getpid()}"
        part.write_text(json.dumps(asdict(endpoint)))
        part.replace(self.directory / "endpoint.json")

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Hold the lock under which one process at a time starts or stops the server."""
        self.make()
        with (self.directory / "start.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def claim(self) -> IO[str] | None:
        """Take the lock that a server holds for its life, and leave our pid in it; None if another process has it.

        The kernel frees it when the process dies, however it dies.
        """
        for _ in range(_CLAIM_TRIES):
            lock = try_lock(self._server_lock)
            if lock is not None:
                lock.truncate(0)
                lock.write(str(os.getpid()))
                lock.flush()
                return lock
            time.sleep(_CLAIM_TICK)  # `server_pid` of another process has the lock for an instant
        return None

    def server_pid(self) -> int | None:
        """Return the pid of the process that serves this home now; None if nobody does."""
        try:
            with self._server_lock.open() as lock:
                # Shared: of two that look at once, neither takes the other for a server.
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
        """Yield the directory of each job that there has been."""
        for directory in (self.directory / "jobs").glob("*/*"):
            yield Workspace(self.directory, directory.parent.name, directory.name)

    def contents(self) -> list[Path]:
        """Return what `erase` would delete."""
        present = (self.directory / name for name in _DATA)
        return [path for path in present if path.exists()]

    def erase(self) -> None:
        """Delete all jobs, objects, logs and roles; nothing may run in this home."""
        for workspace in self.workspaces():
            workspace.clear()  # a job may have closed its directories
        for path in self.contents():
            # SQLite itself deletes its journal when the last one closes it.
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
