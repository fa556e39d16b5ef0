"""Mirrors: directories of a running job whose copies in S3 are kept up to date, checkpoints and continuous outputs.

Looking again and again, and not `inotify`: it costs less than one part in fifty of the time, works on every system, and
needs no watch for each directory that a job makes.
"""

from __future__ import annotations

import threading
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

from local_sagemaker.runtime.outputs import files, put
from local_sagemaker.runtime.runtime_spec import Place
from local_sagemaker.s3.errors import InvalidArgument, KeyTooLongError, S3Error
from local_sagemaker.s3.names import check_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from local_sagemaker.runtime.outputs import Signature
    from local_sagemaker.runtime.role_store import RoleStore

_SCAN_SECONDS = 0.5  # between two looks at a mirrored directory
_SCAN_SHARE = 50  # a look may cost one part in so many of the time: large directories are looked at less often
_GROWING_SECONDS = 5.0  # how old the copy of a file that never stands still may become


class Mirror:
    """Keeps the copy of one directory in S3 up to date; files that vanish stay in S3, as with SageMaker's checkpoints.

    A file is sent when it stood still between two looks, so that a half-written one seldom goes out, and in any case
    once in a few seconds, so that a log that never stands still is seen.

    Args:
        store: the objects.
        directory: gives the directory, or None while it is missing.
        target: the folder in S3.
        known: what is in S3 already, by name.
        tell: is told once of each file that cannot be sent.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        store: RoleStore,
        directory: Callable[[], Path | None],
        target: Place,
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
        """Send what is due, at the end all that changed; return the seconds to wait until the next look."""
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
        target = Place(self._target.bucket, self._target.below(name))
        try:
            check_key(target.key)
        except (InvalidArgument, KeyTooLongError) as error:  # the others go on
            self._left.add(name)
            self._tell(f"the file {name!r} stays behind, since S3 cannot have its name: {error.message}")
            return
        try:
            put(self._store, path, target)
        except FileNotFoundError:  # the running job removed it
            return
        self._sent[name] = signature
        self._sent_at[name] = self._clock()


class Mirroring(threading.Thread):
    """Keeps mirrors up to date beside the main loop: a checkpoint of gigabytes must not hold up the log."""

    def __init__(self, mirrors: Sequence[Mirror]) -> None:
        super().__init__(name="mirrors", daemon=True)
        self._mirrors = mirrors
        self._ended = threading.Event()

    def run(self) -> None:
        """Look and send until `stop`."""
        wait = 0.0
        try:
            while self._mirrors and not self._ended.wait(wait):
                wait = max(mirror.sync() for mirror in self._mirrors)
        except (S3Error, OSError, UnicodeError):
            # Not lost: the last sync, after the hosts have ended, meets the same trouble and fails the job.
            with suppress(OSError):  # the log may be on a disk that is full
                traceback.print_exc()

    def stop(self) -> None:
        """End after the file that is being sent."""
        self._ended.set()
        self.join()
