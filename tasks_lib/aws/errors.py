"""One table from AWS's errors to ours: (operation, code, beginning of the message) -> what it means for the caller.

botocore has one exception class per client and code; matching on the code and the words is what AWS documents. The
first row that fits counts, and the last fits all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    CredentialRetrievalError,
    EndpointProviderError,
    InvalidConfigError,
    NoAuthTokenError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from tasks_lib.errors import (
    AccessDenied,
    BucketMissing,
    CapacityUnavailable,
    NoCredentials,
    PrefectSageMakerError,
    ProjectError,
    QuotaExceeded,
    ServiceError,
    ServiceFault,
    Throttled,
)

_WITHOUT_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    SSOError,
    TokenRetrievalError,
    NoAuthTokenError,
)
_MISCONFIGURED = (
    NoRegionError,
    ProfileNotFound,
    ParamValidationError,
    ConfigParseError,
    InvalidConfigError,
    EndpointProviderError,
)


@dataclass(frozen=True)
class Rule:
    """One row: which errors it is about, what they are, and what to do."""

    kind: type[ServiceError]
    codes: frozenset[str]
    fix: str
    words: str = ""


def _rule(kind: type[ServiceError], codes: str, fix: str, words: str = "") -> Rule:
    return Rule(kind, frozenset(codes.split()), fix, words)


RULES = (
    _rule(
        AccessDenied,
        "AccessDenied AccessDeniedException UnauthorizedOperation Forbidden 403 SignatureDoesNotMatch "
        "InvalidAccessKeyId InvalidClientTokenId UnrecognizedClientException AuthorizationError NotAuthorized "
        "InvalidSignatureException IncompleteSignature MissingAuthenticationToken MissingAuthenticationTokenException",
        "give the caller the permission that AWS names, or use other credentials in the project block.",
    ),
    _rule(
        AccessDenied,
        "ExpiredToken ExpiredTokenException RequestExpired",
        "renew the credentials (`aws sso login`, a new session token) and run again: finished steps are skipped.",
    ),
    _rule(
        Throttled,
        "ThrottlingException Throttling ThrottledException TooManyRequestsException RequestLimitExceeded SlowDown "
        "ProvisionedThroughputExceededException RequestThrottled RequestThrottledException 429 503",
        "run again: what is finished is skipped and what runs is attached to.",
    ),
    _rule(
        QuotaExceeded,
        "ResourceLimitExceeded ResourceLimitExceededException LimitExceededException LimitExceeded "
        "ServiceQuotaExceededException",
        "ask for a higher quota in the Service Quotas console, use another instance type, or run fewer jobs at once.",
    ),
    _rule(
        CapacityUnavailable,
        "CapacityError InsufficientCapacityError InsufficientInstanceCapacity",
        "try again later, or name another instance type.",
    ),
    _rule(
        ServiceFault,
        "InternalServerError InternalServerException InternalFailure InternalError ServiceUnavailable "
        "ServiceUnavailableException 500 502 504 RequestTimeout RequestTimeoutException RequestAbortedException",
        "run again: what is finished is skipped and what runs is attached to.",
    ),
    _rule(ServiceError, "", "read what AWS says above; the request is the task's arguments and `overrides`."),
)


def code_of(error: ClientError) -> str:
    """Return AWS's error code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def words_of(error: ClientError) -> str:
    """Return AWS's message."""
    return str(error.response.get("Error", {}).get("Message", ""))


def is_authorisation(error: ClientError) -> bool:
    """Tell whether the caller was refused before anything could have been done."""
    return _matching(error).kind is AccessDenied


def translated(error: Exception, what: str) -> PrefectSageMakerError:
    """Return our error for one of botocore's.

    Args:
        error: What botocore raised.
        what: What was being done, such as `create job fit-… of task "fit"`.
    """
    error = _behind(error)
    if isinstance(error, _WITHOUT_CREDENTIALS):
        return NoCredentials(
            f"Cannot {what}: there are no AWS credentials to use ({error}).",
            fix="run `aws configure` or `aws sso login`, fill in the credentials of the project block, "
            "or name the project 'local' to stay on this machine.",
        )
    if isinstance(error, ClientError):
        return _from_client_error(error, what)
    if isinstance(error, _MISCONFIGURED):
        return ProjectError(
            f"Cannot {what}: {type(error).__name__}: {str(error).rstrip('.')}.",
            fix="mend the project block or the AWS configuration that it stands on.",
        )
    return ServiceFault(
        f"Cannot {what}: {type(error).__name__}: {str(error).rstrip('.')}.",
        fix="check the network and the endpoint; run again: finished steps are skipped.",
    )


def _behind(error: Exception) -> Exception:
    """Return what S3 said, which boto3's transfers of files hide in the context of an error of their own."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, (ClientError, BotoCoreError)):
        found = found.__context__
    return found if isinstance(found, (ClientError, BotoCoreError)) else error


def _from_client_error(error: ClientError, what: str) -> PrefectSageMakerError:
    if code_of(error) == "NoSuchBucket":
        return BucketMissing(
            f"Cannot {what}: the bucket does not exist ({words_of(error)}).",
            fix="create it, or name another one in the project block.",
        )
    rule = _matching(error)
    return rule.kind(
        f"Cannot {what}. AWS says {code_of(error)}: {words_of(error)}",
        operation=error.operation_name,
        code=code_of(error),
        fix=rule.fix,
    )


def _matching(error: ClientError) -> Rule:
    return next(rule for rule in RULES if not rule.codes or code_of(error) in rule.codes)


@contextmanager
def translating(what: str) -> Iterator[None]:
    """Let botocore's errors out of a block as ours.

    Args:
        what: What is being done, as in `translated`.
    """
    try:
        yield
    except (ClientError, BotoCoreError, Boto3Error) as error:
        raise translated(error, what) from error


def is_missing(error: Any) -> bool:
    """Tell whether S3 says that an object is not there."""
    return isinstance(error, ClientError) and code_of(error) in {"NoSuchKey", "404", "NotFound"}


def is_conflict(error: Any) -> bool:
    """Tell whether S3 refused a conditional write (412), or two met (409)."""
    return isinstance(error, ClientError) and code_of(error) in {
        "PreconditionFailed",
        "412",
        "ConditionalRequestConflict",
        "409",
    }
