"""The categories of AWS errors, and the table that finds them. Pure.

One table serves both kinds of error. A call that AWS refuses has a code and a message. A job that failed
or was stopped has a status and a `FailureReason`. The category decides whether to retry (`run/retries.py`), so that no
caller needs a list of codes of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class ErrorCategory(Enum):
    """The meaning of an error for a caller that may retry."""

    USER_ERROR = "user error"
    ACCESS_DENIED = "access denied"
    THROTTLED = "throttled"
    CAPACITY = "no capacity"
    QUOTA = "quota used up"
    SERVICE_FAULT = "service fault"
    SPOT_INTERRUPTION = "spot interruption"
    TIME_LIMIT = "time limit"
    STOPPED = "stopped by others"
    EXPIRED = "credentials expired"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Symptom:
    """The error as AWS reported it.

    Args:
        code: Error code of a call; empty for a job.
        message: Message of the error, or the whole `FailureReason` of a job.
        status: A job's status and secondary status, such as `Stopped MaxRuntimeExceeded`; empty for a call.
    """

    code: str = ""
    message: str = ""
    status: str = ""


@dataclass(frozen=True)
class ErrorRule:
    """One row of the table: the category and fix of the errors that it matches.

    Args:
        category: The category of such an error.
        fix: What the user can do.
        codes: The possible error codes; empty for any.
        message: Regular expression to search for in the message, case-insensitively; empty for any.
        status: Regular expression to search for in the status; empty for any.
    """

    category: ErrorCategory
    fix: str
    codes: frozenset[str] = frozenset()
    message: str = ""
    status: str = ""

    def fits(self, symptom: Symptom) -> bool:
        """Return whether all conditions of the row hold."""
        return (
            (not self.codes or symptom.code in self.codes)
            and re.search(self.message, symptom.message, re.IGNORECASE) is not None
            and re.search(self.status, symptom.status) is not None
        )


def _rule(category: ErrorCategory, codes: str, fix: str, *, message: str = "", status: str = "") -> ErrorRule:
    return ErrorRule(category, fix, frozenset(codes.split()), message, status)


_AGAIN = "run again: what is finished is skipped and what runs is attached to."
_STATE_IS_KEPT = "what it left in its state directory is there for the next attempt."
_MORE_TYPES = "try again later, give a list of instance types (instance_type=[…]), or let spot='fallback' go on-demand."
_ENDED = "^Failed"

# The first row that fits counts. The last row fits everything.
TABLE = (
    # -- how a job ended ---------------------------------------------------------------------------------------------
    _rule(
        ErrorCategory.TIME_LIMIT,
        "",
        f"raise max_runtime_minutes; {_STATE_IS_KEPT}",
        status="MaxRuntimeExceeded",
    ),
    _rule(
        ErrorCategory.TIME_LIMIT,
        "",
        f"raise max_wait_minutes, or do without spot; {_STATE_IS_KEPT}",
        status="MaxWaitTimeExceeded",
    ),
    _rule(ErrorCategory.SPOT_INTERRUPTION, "", f"run again; {_STATE_IS_KEPT}", status="Interrupted"),
    _rule(ErrorCategory.STOPPED, "", f"run again; {_STATE_IS_KEPT}", status="^Stopped"),
    _rule(
        ErrorCategory.CAPACITY, "", _MORE_TYPES, message="^CapacityError|unable to provision requested", status=_ENDED
    ),
    _rule(
        ErrorCategory.SERVICE_FAULT,
        "",
        "run again; if it goes on, ask AWS support with the job's ARN.",
        message="^Internal(Server|Service)?(Error|Failure)|^ServiceUnavailable",
        status=_ENDED,
    ),
    _rule(
        ErrorCategory.USER_ERROR,
        "",
        "fix the code that the last lines name, and run again: finished steps are skipped.",
        message="^(AlgorithmError|ClientError|Exception)|exit code:? *[0-9]+|ExecuteUserScriptError",
        status=_ENDED,
    ),
    _rule(
        ErrorCategory.UNKNOWN,
        "",
        "fix the code that the last lines name, and run again: finished steps are skipped.",
        status=_ENDED,
    ),
    # -- why a call was refused --------------------------------------------------------------------------------------
    _rule(
        ErrorCategory.EXPIRED,
        "ExpiredToken ExpiredTokenException RequestExpired",
        "renew the credentials (`aws sso login`, a new session token) and run again: finished steps are skipped.",
    ),
    _rule(
        ErrorCategory.ACCESS_DENIED,
        "AccessDenied AccessDeniedException UnauthorizedOperation Forbidden 403 SignatureDoesNotMatch "
        "InvalidAccessKeyId InvalidClientTokenId UnrecognizedClientException AuthorizationError NotAuthorized "
        "InvalidSignatureException IncompleteSignature MissingAuthenticationToken MissingAuthenticationTokenException",
        "give the caller the permission that AWS names, or use other credentials in the project block.",
    ),
    _rule(
        ErrorCategory.THROTTLED,
        "ThrottlingException Throttling ThrottledException TooManyRequestsException RequestLimitExceeded SlowDown "
        "ProvisionedThroughputExceededException RequestThrottled RequestThrottledException 429 503",
        _AGAIN,
    ),
    _rule(
        ErrorCategory.QUOTA,
        "ResourceLimitExceeded ResourceLimitExceededException LimitExceededException LimitExceeded "
        "ServiceQuotaExceededException",
        "ask for a higher quota in the Service Quotas console, use another instance type, or run fewer jobs at once.",
    ),
    _rule(
        ErrorCategory.CAPACITY,
        "CapacityError InsufficientCapacityError InsufficientInstanceCapacity",
        _MORE_TYPES,
    ),
    _rule(
        ErrorCategory.SERVICE_FAULT,
        "InternalServerError InternalServerException InternalFailure InternalError ServiceUnavailable "
        "ServiceUnavailableException 500 502 504 RequestTimeout RequestTimeoutException RequestAbortedException",
        _AGAIN,
    ),
    _rule(
        ErrorCategory.USER_ERROR,
        "ValidationException ValidationError InvalidParameterValue InvalidRequest InvalidArgument "
        "ResourceNotFound ResourceNotFoundException NoSuchBucket NoSuchEntity",
        "read what AWS says above; the request is the task's arguments and `overrides`.",
    ),
    _rule(ErrorCategory.UNKNOWN, "", "read what AWS says above; the request is the task's arguments and `overrides`."),
)


def rule_for(symptom: Symptom) -> ErrorRule:
    """Return the first row of the table that fits."""
    return next(row for row in TABLE if row.fits(symptom))
