"""Translates botocore's errors to this package's, by the table in `error_categories.py`.

botocore has one exception class per client and code. AWS documents matching on the code and the message.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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

from tasks_lib.error_categories import ErrorCategory, ErrorRule, Symptom, rule_for
from tasks_lib.errors import (
    AccessDenied,
    BucketMissing,
    CapacityUnavailable,
    CredentialsExpired,
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


_KINDS: dict[ErrorCategory, type[ServiceError]] = {
    ErrorCategory.ACCESS_DENIED: AccessDenied,
    ErrorCategory.EXPIRED: CredentialsExpired,
    ErrorCategory.THROTTLED: Throttled,
    ErrorCategory.QUOTA: QuotaExceeded,
    ErrorCategory.CAPACITY: CapacityUnavailable,
    ErrorCategory.SERVICE_FAULT: ServiceFault,
}
"""The exception class of each error category. Any other category is a plain `ServiceError` with it as an attribute."""


def code_of(error: ClientError) -> str:
    """Return AWS's error code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def words_of(error: ClientError) -> str:
    """Return AWS's error message."""
    return str(error.response.get("Error", {}).get("Message", ""))


def is_authorisation(error: ClientError) -> bool:
    """Return whether AWS refused the caller's credentials or permissions, so that nothing was done."""
    return _rule_of(error).category in (ErrorCategory.ACCESS_DENIED, ErrorCategory.EXPIRED)


def translated(error: Exception, what: str) -> PrefectSageMakerError:
    """Return this package's error for one of botocore's.

    Args:
        error: What botocore raised.
        what: The operation that failed, such as `create job fit-… of task "fit"`.
    """
    error = _cause_of(error)
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
            fix="correct the project block or the AWS configuration that it uses.",
        )
    return ServiceFault(
        f"Cannot {what}: {type(error).__name__}: {str(error).rstrip('.')}.",
        fix="check the network and the endpoint; run again: finished steps are skipped.",
    )


def _cause_of(error: Exception) -> Exception:
    """Return the botocore error behind another one, or the error itself if there is none.

    boto3's file transfers raise an error of their own and keep S3's answer only in its context.
    """
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
    row = _rule_of(error)
    return _KINDS.get(row.category, ServiceError)(
        f"Cannot {what}. AWS says {code_of(error)}: {words_of(error)}",
        operation=error.operation_name,
        code=code_of(error),
        category=row.category,
        fix=row.fix,
    )


def _rule_of(error: ClientError) -> ErrorRule:
    return rule_for(Symptom(code=code_of(error), message=words_of(error)))


@contextmanager
def translating(what: str) -> Iterator[None]:
    """Translate botocore's errors that a block raises.

    Args:
        what: The operation, as in `translated`.
    """
    try:
        yield
    except (ClientError, BotoCoreError, Boto3Error) as error:
        raise translated(error, what) from error


def is_missing(error: Any) -> bool:
    """Return whether S3 says that an object does not exist."""
    return isinstance(error, ClientError) and code_of(error) in {"NoSuchKey", "404", "NotFound"}


def is_conflict(error: Any) -> bool:
    """Return whether S3 refused a conditional write (412), or two writes conflicted (409)."""
    return isinstance(error, ClientError) and code_of(error) in {
        "PreconditionFailed",
        "412",
        "ConditionalRequestConflict",
        "409",
    }
