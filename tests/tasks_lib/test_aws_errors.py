"""The table from AWS's errors to those of this package: it is complete, and every error has a type and a fix."""

import ast
import re
from pathlib import Path

import botocore.exceptions
import botocore.loaders
import botocore.model
import pytest
from aws_doubles import client_error
from boto3.exceptions import Boto3Error, RetriesExceededError, S3UploadFailedError
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker
from hypothesis import given
from hypothesis import strategies as st

import tasks_lib
from tasks_lib.aws.errors import (
    is_authorisation,
    is_conflict,
    is_missing,
    translated,
    translating,
)
from tasks_lib.error_categories import TABLE
from tasks_lib.errors import (
    AccessDenied,
    BucketMissing,
    CapacityUnavailable,
    CredentialsExpired,
    NoCredentials,
    PrefectSageMakerError,
    QuotaExceeded,
    ServiceError,
    ServiceFault,
    Throttled,
)

OPERATIONS = {
    "sagemaker": [
        *(f"{verb}{kind}Job" for verb in ("Create", "Describe", "Stop") for kind in ("Training", "Processing")),
        *("ListTrainingJobs", "ListProcessingJobs"),
    ],
    "s3": [
        *("GetObject", "PutObject", "HeadObject", "DeleteObject", "DeleteObjects", "ListObjectsV2", "CopyObject"),
        *("CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload", "AbortMultipartUpload"),
    ],
    "logs": ["DescribeLogStreams", "GetLogEvents"],
    "iam": ["GetRole", "CreateRole", "PutRolePolicy", "ListRolePolicies"],
    "sts": ["GetCallerIdentity", "AssumeRole"],
    "service-quotas": ["ListServiceQuotas"],
    "sqs": ["ReceiveMessage", "DeleteMessageBatch"],
}
"""All operations that the package calls; a test below compares it with the code."""

COMMON = [
    "AccessDeniedException",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InternalFailure",
    "MalformedHttpRequestException",
    "NotAuthorized",
    "OptInRequired",
    "RequestAbortedException",
    "RequestEntityTooLargeException",
    "RequestExpired",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "ThrottlingException",
    "UnknownOperationException",
    "UnrecognizedClientException",
    "ValidationError",
]
"""Errors that any service may return ("Common Error Types" in each API reference), which no model lists."""


def codes_of(service, operation):
    """Return the codes that botocore's model lists for an operation."""
    model = botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model(service, "service-2"), service)
    shapes = model.operation_model(operation).error_shapes
    return [shape.metadata.get("error", {}).get("code", shape.name) for shape in shapes]


@pytest.mark.parametrize("service", OPERATIONS)
def test_every_error_that_aws_lists_is_translated(service):
    """Each error code of each operation becomes a `PrefectSageMakerError` with AWS's message and a fix."""
    for operation in OPERATIONS[service]:
        for code in {*codes_of(service, operation), *COMMON}:
            error = translated(client_error(code, "AWS's words", operation), 'do it for task "fit"')

            assert isinstance(error, PrefectSageMakerError)
            assert error.fix
            assert "AWS's words" in error.message
            assert 'Cannot do it for task "fit"' in error.message
            if isinstance(error, ServiceError):
                assert (error.operation, error.code) == (operation, code)


def test_the_list_of_operations_is_that_of_the_code():
    """Every operation that the code calls is in the list above, so that its errors are tested."""
    folder = Path(tasks_lib.__file__).parent
    called = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = ast.unparse(node.func.value)
                if re.fullmatch(r"(self\._(s3|api|client)|iam|s3|sts|logs|.*\.client\('\w+'\))", owner):
                    called.add(node.func.attr)
    known = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for names in OPERATIONS.values() for name in names}
    transfers = {
        "upload_file",
        "download_file",
        "copy",
        "upload_fileobj",
        "download_fileobj",
        "get_paginator",
        "get_waiter",
    }

    of_prefect = {"release_concurrency_slots_with_lease", "renew_concurrency_lease"}

    assert called - transfers - of_prefect - {"client"} <= known
    assert {"get_object", "put_object", "get_role", "get_caller_identity"} <= called


EXAMPLES = [
    ("AccessDenied", AccessDenied),
    ("AccessDeniedException", AccessDenied),
    ("InvalidAccessKeyId", AccessDenied),
    ("403", AccessDenied),
    ("ExpiredToken", CredentialsExpired),
    ("ThrottlingException", Throttled),
    ("SlowDown", Throttled),
    ("429", Throttled),
    ("ResourceLimitExceeded", QuotaExceeded),
    ("LimitExceeded", QuotaExceeded),
    ("CapacityError", CapacityUnavailable),
    ("InternalError", ServiceFault),
    ("500", ServiceFault),
    ("NoSuchBucket", BucketMissing),
    ("ValidationException", ServiceError),
    ("", ServiceError),
]


@pytest.mark.parametrize(("code", "kind"), EXAMPLES)
def test_what_a_code_means(code, kind):
    """The table maps each code to its error type."""
    assert kind is type(translated(client_error(code), "do it"))


def test_each_row_with_codes_has_an_example():
    """Each row of the table that has codes has one of them among the examples above."""
    shown = {code for code, _ in EXAMPLES}

    assert [row for row in TABLE if row.codes and not shown & set(row.codes)] == []


OF_OTHERS = {
    *("LimitExceededException", "TransactionInProgressException", "BandwidthLimitExceeded"),
    *("PriorRequestNotComplete", "EC2ThrottledException"),
}
"""Codes of DynamoDB, EC2, Route 53 and other services that the package does not call."""


def test_what_botocore_takes_for_throttling_is_throttling():
    """The codes that botocore retries as throttling are `Throttled`, so they never fail a waiter.

    `LimitExceededException` is an exception, as it is IAM's quota error here.
    """
    for code in ThrottledRetryableChecker._THROTTLED_ERROR_CODES:
        if code not in OF_OTHERS:
            assert isinstance(translated(client_error(code), "do it"), Throttled), code


def test_what_botocore_takes_for_transient_is_transient():
    """The codes and HTTP statuses that botocore retries as transient are `Throttled` or `ServiceFault`."""
    codes = {*TransientRetryableChecker._TRANSIENT_ERROR_CODES, "500", "502", "503", "504"} - {
        "PriorRequestNotComplete"
    }
    for code in codes:
        assert isinstance(translated(client_error(code), "do it"), (Throttled, ServiceFault)), code


def test_no_code_is_in_two_rows():
    """No code is in two rows, because only the first row would be used."""
    codes = [code for row in TABLE for code in row.codes]

    assert sorted(codes) == sorted(set(codes))
    assert not TABLE[-1].codes


@given(st.text(), st.text())
def test_an_unknown_error_is_a_service_error(code, message):
    """An unknown code becomes a `ServiceError`, not a bare exception."""
    error = translated(client_error(f"x{code}", message), "do it")

    assert type(error) is ServiceError
    assert message in error.message
    assert error.fix


def test_an_answer_without_an_error_is_translated():
    """A `ClientError` without an `Error`, as from a proxy, is translated."""
    error = translated(botocore.exceptions.ClientError({}, "PutObject"), "do it")

    assert isinstance(error, ServiceError)


@pytest.mark.parametrize(
    "error",
    [
        botocore.exceptions.NoCredentialsError(),
        botocore.exceptions.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_no_credentials(error):
    """The fix names the ways to get credentials, and the local project that needs none."""
    ours = translated(error, "create the training job fit-1")

    assert isinstance(ours, NoCredentials)
    assert "aws configure" in ours.fix
    assert "'local'" in ours.fix


@pytest.mark.parametrize(
    "error",
    [
        botocore.exceptions.EndpointConnectionError(endpoint_url="https://api.sagemaker.us-east-1.amazonaws.com"),
        botocore.exceptions.ConnectTimeoutError(endpoint_url="https://x"),
        botocore.exceptions.ReadTimeoutError(endpoint_url="https://x"),
        botocore.exceptions.ConnectionClosedError(endpoint_url="https://x"),
        botocore.exceptions.SSLError(endpoint_url="https://x", error="bad"),
        botocore.exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        botocore.exceptions.WaiterError(name="role_exists", reason="Max attempts exceeded", last_response={}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_connection_errors_are_faults(error):
    """Connection errors are `ServiceFault`, which a waiter retries; the message names the cause."""
    ours = translated(error, "describe the job")

    assert isinstance(ours, ServiceFault)
    assert type(error).__name__ in ours.message
    assert ours.fix


@pytest.mark.parametrize(
    "error",
    [
        botocore.exceptions.NoRegionError(),
        botocore.exceptions.ProfileNotFound(profile="work"),
        botocore.exceptions.UnauthorizedSSOTokenError(),
        botocore.exceptions.ParamValidationError(report="Invalid bucket name"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_the_configuration_are_no_faults_of_aws(error):
    """Configuration errors are not `ServiceFault`: the fix is in the block or the login, not in the network."""
    assert not isinstance(translated(error, "do it"), ServiceFault)


def hidden(kind):
    """Return one of boto3's own errors, raised as boto3 raises it, from S3's error."""
    try:
        try:
            raise client_error("NoSuchBucket", "The specified bucket does not exist", "PutObject")
        except botocore.exceptions.ClientError as error:
            raise kind(error)  # noqa: B904 - as boto3 does
    except Boto3Error as error:
        return error


@pytest.mark.parametrize("kind", [S3UploadFailedError, RetriesExceededError])
def test_what_boto3_hides_is_found(kind):
    """The S3 error inside the errors of boto3's file transfers, which are not botocore's, is translated."""
    with pytest.raises(BucketMissing), translating("upload"):
        raise hidden(kind)


def test_a_block_that_translates_keeps_the_cause():
    """The original AWS error is the cause of the translated one."""
    error = client_error("AccessDenied")
    with pytest.raises(AccessDenied) as caught, translating("read"):
        raise error

    assert caught.value.__cause__ is error


def test_a_block_that_translates_lets_others_through():
    """Other exceptions pass through a translating block unchanged."""
    with pytest.raises(ZeroDivisionError), translating("read"):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("code", "expected"),
    [("AccessDeniedException", True), ("ExpiredToken", True), ("Throttling", False), ("ResourceInUse", False)],
)
def test_refusals_are_distinguished_from_other_errors(code, expected):
    """Authorisation errors are distinguished, because AWS did nothing; after other errors the job may exist."""
    assert expected is is_authorisation(client_error(code))


def test_conditions_of_s3():
    """404 is "missing"; 412 and 409 (concurrent requests) are conflicts.

    HEAD has no body, so numbers count as names do.
    """
    assert all(is_missing(client_error(code)) for code in ("NoSuchKey", "404", "NotFound"))
    assert not any(is_missing(client_error(code)) for code in ("NoSuchBucket", "403", ""))
    assert all(
        is_conflict(client_error(code)) for code in ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")
    )
    assert not is_conflict(client_error("404"))
    assert not is_missing(ValueError())
    assert not is_conflict(ValueError())
