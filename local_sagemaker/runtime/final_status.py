"""How a job ends, in SageMaker's words: statuses, `FailureReason`, messages, times.

Pure.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from local_sagemaker.runtime.workspace import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local_sagemaker.kind import JobKind
    from local_sagemaker.runtime.workspace import Cause

MAX_REASON = 1024  # characters; API reference, `FailureReason`
MAX_EXIT_MESSAGE = 1024  # bytes; Developer Guide, "Save and Access Metadata Information About Your Processing Job"
INTERNAL_ERROR = "InternalServerError: We encountered an internal error. Please try again."

# Why the hosts were told to end -> the secondary status and the message of a training job that was stopped so.
_STOPPED: dict[Cause, tuple[str, str]] = {
    "stop": ("Stopped", "Training job stopped"),
    "max-runtime": ("MaxRuntimeExceeded", "Training job runtime exceeded MaxRuntimeInSeconds provided"),
    "max-wait": ("MaxWaitTimeExceeded", "Training job exceeded MaxWaitTimeInSeconds provided"),
}


def completed(now: float) -> Outcome:
    """All hosts ended with 0."""
    return Outcome("Completed", "Completed", "Training job completed", now)


def stopped(cause: Cause, now: float) -> Outcome:
    """The hosts were told to end, on demand or for the time they took."""
    secondary, message = _STOPPED[cause]
    return Outcome("Stopped", secondary, message, now)


def failed(reason: str, now: float, *, detail: str = "") -> Outcome:
    """The job failed; `detail` follows in the message of its last transition."""
    message = f"Training job failed: {detail}" if detail else "Training job failed"
    return Outcome("Failed", "Failed", message, now, reason=reason[:MAX_REASON])


def host_failed(kind: JobKind, host: str, code: int | None, text: str, now: float) -> Outcome:
    """A host ended with another code than 0, or without one.

    Args:
        kind: the job's kind.
        host: the host.
        code: its exit code; None if its first process died.
        text: what it wrote to `/opt/ml/output/failure`.
        now: epoch seconds.
    """
    if code is None:
        return failed(f"{INTERNAL_ERROR} ({host} died and left no exit code.)", now, detail=f"{host} died")
    text = kind.failure(text)
    end = f", exit code: {code}"
    begin = "AlgorithmError: "
    room = MAX_REASON - len(begin) - len(end)
    return failed(f"{begin}{text[:room]}{end}", now, detail=f"{host} exited with code {code}")


def exit_message(parts: Sequence[bytes]) -> str:
    """Join what the hosts of a processing job wrote to `/opt/ml/output/message`, cut to 1 KB.

    Raises:
        UnicodeDecodeError: it is not UTF-8, which fails the job.
    """
    joined = b"".join(parts)
    whole = len(joined) <= MAX_EXIT_MESSAGE and all(len(part) <= MAX_EXIT_MESSAGE for part in parts)
    # A character that the limit cuts in two is dropped, and no error.
    return codecs.getincrementaldecoder("utf-8")().decode(joined[:MAX_EXIT_MESSAGE], final=whole)
