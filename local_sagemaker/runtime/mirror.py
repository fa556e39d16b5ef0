"""Mirrors the directories of a running job to S3: checkpoints and continuous outputs.

The directories are polled instead of watched with `inotify`. Polling takes less than a fiftieth of the time, works on
every system, and needs no watch for each directory that a job makes.
"""

from __future__ import annotations

import threading
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

from local_sagemaker.runtime.outputs import files, put
from local_sagemaker.runtime.runtime_spec import S3Location
from local_sagemaker.s3.errors import InvalidArgument, KeyTooLongError, S3Error
from local_sagemaker.s3.names import check_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from local_sagemaker.runtime.outputs import Signature
    from local_sagemaker.runtime.role_store import RoleStore

_SCAN_SECONDS = 0.5  # at least, between two scans of the mirrored directories
_SCAN_SHARE = 50  # the wait after a scan is this multiple of its duration: large directories are scanned less often
_GROWING_SECONDS = 5.0  # after this time a file is uploaded even if it still changes


class Mirror:
    """Keeps the copy of one directory in S3 up to date.

    Deleted files stay in S3, as with SageMaker's checkpoints. A file is uploaded when it did not change between two
    scans, so that a half-written file is seldom uploaded. A file that keeps changing, such as a log, is uploaded every
    few seconds.

    Args:
        store: the object store, accessed with the job's role.
        directory: returns the directory, or None while it does not exist.
        target: the folder in S3.
        known: the signatures of the files that are already in S3, by name.
        tell: called once for each file that cannot be uploaded.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        store: RoleStore,
        directory: Callable[[], Path | None],
        target: S3Location,
        known: Mapping[str, Signature],
        *,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._directory = directory
        self._target = target
        self._sent: dict[str, Signature] = dict(known)
        self._sent_at: dict[str, float] = {}
        self._seen: dict[str, Signature] = {}
        self._left: set[str] = set()
        self._tell = tell
        self._clock = clock

    def sync(self, *, final: bool = False) -> float:
        """Upload the files that are due, or with `final` all changed files; return the seconds until the next scan."""
        begun = self._clock()
        directory = self._directory()
        changed = [one for one in files(directory) if self._sent.get(one[0]) != one[2]] if directory else []
        for name, path, signature in changed:
            if name not in self._left and (final or self._is_due(name, signature, begun)):
                self._send(name, path, signature)
        self._seen = {name: signature for name, _, signature in changed}
        return max(_SCAN_SECONDS, _SCAN_SHARE * (self._clock() - begun))

    def _is_due(self, name: str, signature: Signature, now: float) -> bool:
        return self._seen.get(name) == signature or now - self._sent_at.setdefault(name, now) >= _GROWING_SECONDS

    def _send(self, name: str, path: str, signature: Signature) -> None:
        target = S3Location(self._target.bucket, self._target.below(name))
        try:
            check_key(target.key)
        except (InvalidArgument, KeyTooLongError) as error:  # does not stop the other files
            self._left.add(name)
            self._tell(f"the file {name!r} stays behind, since S3 cannot have its name: {error.message}")
            return
        try:
            put(self._store, path, target)
        except FileNotFoundError:  # the running job removed it
            return
        self._sent[name] = signature
        self._sent_at[name] = self._clock()


class MirrorThread(threading.Thread):
    """Updates mirrors in a thread of its own, so that a checkpoint of gigabytes does not delay the log."""

    def __init__(self, mirrors: Sequence[Mirror]) -> None:
        super().__init__(name="mirrors", daemon=True)
        self._mirrors = mirrors
        self._ended = threading.Event()

    def run(self) -> None:
        """Scan and upload until `stop` is called or an upload fails."""
        wait = 0.0
        try:
            while self._mirrors and not self._ended.wait(wait):
                wait = max(mirror.sync() for mirror in self._mirrors)
        except (S3Error, OSError, UnicodeError):
            # The final sync after the hosts have ended will raise the same error, and then fail the job.
            with suppress(OSError):  # the log may be on a full disk
                traceback.print_exc()

    def stop(self) -> None:
        """Stop after the current scan, and wait for the thread to end."""
        self._ended.set()
        self.join()
