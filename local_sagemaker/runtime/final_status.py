"""The final status of a job as SageMaker reports it: statuses, `FailureReason`, messages, end time.

Pure functions.
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

# The cause of the stop -> the secondary status and the status message of the stopped training job.
_STOPPED: dict[Cause, tuple[str, str]] = {
    "stop": ("Stopped", "Training job stopped"),
    "max-runtime": ("MaxRuntimeExceeded", "Training job runtime exceeded MaxRuntimeInSeconds provided"),
    "max-wait": ("MaxWaitTimeExceeded", "Training job exceeded MaxWaitTimeInSeconds provided"),
}


def completed(now: float) -> Outcome:
    """Return the outcome of a job whose hosts all exited with code 0."""
    return Outcome("Completed", "Completed", "Training job completed", now)


def stopped(cause: Cause, now: float) -> Outcome:
    """Return the outcome of a job that was stopped by a request or by a time limit."""
    secondary, message = _STOPPED[cause]
    return Outcome("Stopped", secondary, message, now)


def failed(reason: str, now: float, *, detail: str = "") -> Outcome:
    """Return the outcome of a failed job; `detail` is appended to the message of its last status transition."""
    message = f"Training job failed: {detail}" if detail else "Training job failed"
    return Outcome("Failed", "Failed", message, now, reason=reason[:MAX_REASON])


def host_failed(kind: JobKind, host: str, code: int | None, text: str, now: float) -> Outcome:
    """Return the outcome of a job of which a host exited with a code other than 0, or without an exit code.

    Args:
        kind: the job's kind.
        host: the host's name.
        code: its exit code; None if its first process died and left none.
        text: the content of its `/opt/ml/output/failure`.
        now: the end time in epoch seconds.
    """
    if code is None:
        return failed(f"{INTERNAL_ERROR} ({host} died and left no exit code.)", now, detail=f"{host} died")
    text = kind.failure(text)
    end = f", exit code: {code}"
    begin = "AlgorithmError: "
    room = MAX_REASON - len(begin) - len(end)
    return failed(f"{begin}{text[:room]}{end}", now, detail=f"{host} exited with code {code}")


def exit_message(parts: Sequence[bytes]) -> str:
    """Join the `/opt/ml/output/message` files of a processing job's hosts, cut to 1 KB.

    Raises:
        UnicodeDecodeError: the text is not UTF-8; the job then fails.
    """
    joined = b"".join(parts)
    whole = len(joined) <= MAX_EXIT_MESSAGE and all(len(part) <= MAX_EXIT_MESSAGE for part in parts)
    # A character that the limit cuts in two is dropped; it does not raise.
    return codecs.getincrementaldecoder("utf-8")().decode(joined[:MAX_EXIT_MESSAGE], final=whole)
