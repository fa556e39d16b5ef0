"""From botocore's errors to ours, by the one table of what they mean (`error_categories.py`).

botocore has one exception class per client and code; matching on the code and the words is what AWS documents.
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
"""Whoever catches one means the meaning; any other is a plain `ServiceError`, which keeps it as an attribute."""


def code_of(error: ClientError) -> str:
    """Return AWS's error code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def words_of(error: ClientError) -> str:
    """Return AWS's message."""
    return str(error.response.get("Error", {}).get("Message", ""))


def is_authorisation(error: ClientError) -> bool:
    """Tell whether the caller was refused before anything could have been done."""
    return _row_of(error).category in (ErrorCategory.ACCESS_DENIED, ErrorCategory.EXPIRED)


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
    row = _row_of(error)
    return _KINDS.get(row.category, ServiceError)(
        f"Cannot {what}. AWS says {code_of(error)}: {words_of(error)}",
        operation=error.operation_name,
        code=code_of(error),
        category=row.category,
        fix=row.fix,
    )


def _row_of(error: ClientError) -> ErrorRule:
    return rule_for(Symptom(operation=error.operation_name, code=code_of(error), message=words_of(error)))


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
