"""Bucket configurations: validated, stored as the client's documents, and mostly without effect.

Nothing here expires, is replicated or is logged. Effective are `BucketEncryption` (headers of new objects), ownership
controls (ACLs) and `BlockPublicPolicy`. Defaults are those of buckets created since April 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from xml.etree import ElementTree as ET

from starlette.responses import Response

from local_sagemaker.s3.access import ENFORCED
from local_sagemaker.s3.documents import Value, document, parse
from local_sagemaker.s3.encryption import DEFAULT_DOCUMENT
from local_sagemaker.s3.errors import (
    AccessDenied,
    InvalidArgument,
    InvalidBucketState,
    InvalidRequest,
    MalformedXML,
    Unset,
)
from local_sagemaker.s3.errors import NotImplementedByThisServer as NotBuilt
from local_sagemaker.s3.policies import check_policy, is_public
from local_sagemaker.s3.request import check_tags
from local_sagemaker.s3.responses import xml_response
from local_sagemaker.s3.schema import read_document

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from local_sagemaker.s3.request import S3Request
    from local_sagemaker.s3.schema import Structure
    from local_sagemaker.s3.service import Handler, Handlers, Service

_BUCKET_TAGS = 50  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/CostAllocTagging.html
_MOST_RULES = {"cors": 100, "lifecycle": 1000}
_LONGEST_ID = 255  # characters
_METHODS = frozenset({"GET", "PUT", "POST", "DELETE", "HEAD"})
_MINIMUM = "x-amz-transition-default-minimum-object-size"
_DEFAULT_MINIMUM = "all_storage_classes_128K"
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def ownership_document(ownership: str) -> bytes:
    """Return the document of an object ownership."""
    return document("OwnershipControls", [("Rule", [("ObjectOwnership", ownership)])])


def documents_of_new_bucket(ownership: str = ENFORCED) -> dict[str, bytes]:
    """Return the configurations that S3 sets on a new bucket."""
    return {
        "BucketOwnershipControls": ownership_document(ownership),
        "PublicAccessBlock": document("PublicAccessBlockConfiguration", [(name, True) for name in _BLOCKS]),
    }


def _as_it_is(_given: Structure) -> None:
    """Accept every document that botocore's model allows."""


def _check_encryption(given: Structure) -> None:
    if len(given["Rules"]) != 1:
        raise MalformedXML
    for rule in given["Rules"]:
        default = rule.get("ApplyServerSideEncryptionByDefault", {})
        if "KMSMasterKeyID" in default and not default["SSEAlgorithm"].startswith("aws:kms"):
            raise InvalidArgument(
                "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse",
                ArgumentName="ApplyServerSideEncryptionByDefault",
            )


def _check_bucket_tags(given: Structure) -> None:
    check_tags([(tag["Key"], tag["Value"]) for tag in given["TagSet"]], most=_BUCKET_TAGS, what="Bucket")


def _check_ownership(given: Structure) -> None:
    if len(given["Rules"]) != 1:
        raise MalformedXML


def _check_cors(given: Structure) -> None:
    if not 1 <= len(given["CORSRules"]) <= _MOST_RULES["cors"]:
        raise MalformedXML
    for rule in given["CORSRules"]:
        for method in rule["AllowedMethods"]:
            if method not in _METHODS:
                raise InvalidRequest(f"Found unsupported HTTP method in CORS config. Unsupported method is {method}")
        for origin in rule["AllowedOrigins"]:
            if origin.count("*") > 1:
                raise InvalidRequest(f'AllowedOrigin "{origin}" can not have more than one wildcard.')


def _check_lifecycle(given: Structure) -> None:
    rules = given["Rules"]
    if len(rules) > _MOST_RULES["lifecycle"]:
        raise MalformedXML
    names = [rule["ID"] for rule in rules if rule.get("ID")]
    if any(len(name) > _LONGEST_ID for name in names):
        raise InvalidArgument(f"ID length should not exceed allowed limit of {_LONGEST_ID}", ArgumentName="ID")
    if len(set(names)) < len(names):
        raise InvalidArgument("Rule ID must be unique. Found same ID for more than one rule", ArgumentName="ID")
    for rule in rules:
        _check_rule(rule)


_ACTIONS = frozenset(
    {
        *("Expiration", "Transitions", "NoncurrentVersionTransitions", "NoncurrentVersionExpiration"),
        "AbortIncompleteMultipartUpload",
    }
)


def _check_rule(rule: Structure) -> None:
    if ("Filter" in rule) == ("Prefix" in rule):
        raise MalformedXML("A rule must have either a Filter or a Prefix.")
    if len(rule.get("Filter", {})) > 1:
        raise MalformedXML("A Filter must have one condition, or And.")
    if not _ACTIONS & rule.keys():
        raise InvalidRequest("At least one action needs to be specified in a rule")
    expirations = [rule["Expiration"]] if "Expiration" in rule else []
    for action in (*expirations, *rule.get("Transitions", [])):
        if len({"Date", "Days", "ExpiredObjectDeleteMarker"} & action.keys()) != 1:
            raise MalformedXML("An action must have either a Date or Days.")
        date = action.get("Date")
        if date and (date.hour or date.minute or date.second or date.microsecond):
            raise InvalidArgument("'Date' must be at midnight GMT", ArgumentName="Date")
    if rule.get("Expiration", {}).get("Days", 1) < 1:
        raise InvalidArgument("'Days' for Expiration action must be a positive integer", ArgumentName="Days")


@dataclass(frozen=True)
class _Kept:
    """A configuration that is stored.

    Attributes:
        root: root element of its document; empty for JSON.
        code: error code while it is not set.
        message: error message while it is not set.
        check: checks what botocore's model does not.
        default: document that is returned while it is not set; None if S3 has no default.
    """

    root: str
    code: str
    message: str
    check: Callable[[Structure], None] = _as_it_is
    default: bytes | None = None


_KEPT: Mapping[str, _Kept] = {
    "BucketPolicy": _Kept("", "NoSuchBucketPolicy", "The bucket policy does not exist"),
    "PublicAccessBlock": _Kept(
        "PublicAccessBlockConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
        "The public access block configuration was not found",
    ),
    "BucketEncryption": _Kept(
        "ServerSideEncryptionConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
        "The server side encryption configuration was not found",
        _check_encryption,
        DEFAULT_DOCUMENT,
    ),
    "BucketTagging": _Kept("Tagging", "NoSuchTagSet", "The TagSet does not exist", _check_bucket_tags),
    "BucketLifecycleConfiguration": _Kept(
        "LifecycleConfiguration",
        "NoSuchLifecycleConfiguration",
        "The lifecycle configuration does not exist",
        _check_lifecycle,
    ),
    "BucketCors": _Kept(
        "CORSConfiguration", "NoSuchCORSConfiguration", "The CORS configuration does not exist", _check_cors
    ),
    "BucketOwnershipControls": _Kept(
        "OwnershipControls",
        "OwnershipControlsNotFoundError",
        "The bucket ownership controls were not found",
        _check_ownership,
    ),
}


def _get(noun: str, service: Service, request: S3Request, _body: bytes) -> Response:
    kept = _KEPT[noun]
    content = service.store.configuration.document(request.bucket, noun) or kept.default
    if content is None:
        raise Unset(kept.code, kept.message, BucketName=request.bucket)
    headers = {_MINIMUM: _DEFAULT_MINIMUM} if noun == "BucketLifecycleConfiguration" else {}
    return Response(content, media_type="application/xml" if kept.root else "application/json", headers=headers)


def _put(noun: str, service: Service, request: S3Request, body: bytes) -> Response:
    kept = _KEPT[noun]
    service.store.configuration.get(request.bucket)
    if kept.root:
        kept.check(read_document(request.operation, body))
    else:
        _check_public(service, request.bucket, check_policy(request.bucket, body))
    if noun == "BucketLifecycleConfiguration":
        body = _with_names(body)
        if request.headers.get(_MINIMUM, _DEFAULT_MINIMUM) != _DEFAULT_MINIMUM:
            raise NotBuilt(f"{_MINIMUM} can only be {_DEFAULT_MINIMUM} on this server.", Header=_MINIMUM)
    service.store.configuration.put_document(request.bucket, noun, body)
    # S3 answers 204 to policies and tags, and 200 to the others.
    return Response(status_code=204 if noun in ("BucketPolicy", "BucketTagging") else 200)


def _check_public(service: Service, bucket: str, policy: dict[str, Any]) -> None:
    """Refuse a public policy if the bucket blocks public policies, as a new bucket does.

    Source: S3 User Guide, "Blocking public access to your Amazon S3 storage", `BlockPublicPolicy`.

    Raises:
        AccessDenied: the policy is public, and the bucket blocks public policies.
    """
    blocks = service.store.configuration.document(bucket, "PublicAccessBlock")
    if blocks is None or not is_public(policy):
        return
    if (parse(blocks, "PublicAccessBlockConfiguration").findtext("BlockPublicPolicy") or "").lower() in ("true", "1"):
        raise AccessDenied(
            f"The policy gives access to everyone, which BlockPublicPolicy of the bucket {bucket} prevents. Name the"
            " principals, or set BlockPublicPolicy to false with PutPublicAccessBlock."
        )


def _with_names(body: bytes) -> bytes:
    """Return a lifecycle document with an ID in each rule: S3 generates the missing ones."""
    tree = parse(body, "LifecycleConfiguration")
    unnamed = [rule for rule in tree.findall("Rule") if not rule.findtext("ID")]
    if not unnamed:
        return body
    for rule in unnamed:
        for empty in rule.findall("ID"):
            rule.remove(empty)
        ET.SubElement(rule, "ID").text = uuid4().hex
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(tree)


def _delete(noun: str, service: Service, request: S3Request, _body: bytes) -> Response:
    service.store.configuration.delete_document(request.bucket, noun)
    return Response(status_code=204)


def _get_default(root: str, content: Value, service: Service, request: S3Request, _body: bytes) -> Response:
    service.store.configuration.get(request.bucket)
    return xml_response(root, content)


def _put_default(allowed: Structure, service: Service, request: S3Request, body: bytes) -> Response:
    service.store.configuration.get(request.bucket)
    given = read_document(request.operation, body)
    if given != allowed:
        raise NotBuilt(f"{request.operation} can only set the default on this server: {allowed or 'nothing'}.")
    return Response()


def _unset(code: str, message: str, service: Service, request: S3Request, _body: bytes) -> Response:
    service.store.configuration.get(request.bucket)
    raise Unset(code, message, BucketName=request.bucket)


def _delete_unset(service: Service, request: S3Request, _body: bytes) -> Response:
    service.store.configuration.get(request.bucket)
    return Response(status_code=204)


def _refuse_lock(service: Service, request: S3Request, _body: bytes) -> Response:
    service.store.configuration.get(request.bucket)
    if request.operation == "PutObjectLockConfiguration":
        raise InvalidBucketState("Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration")
    raise InvalidRequest("Bucket is missing Object Lock Configuration")


def get_policy_status(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `GetBucketPolicyStatus`."""
    content = service.store.configuration.document(request.bucket, "BucketPolicy")
    if content is None:
        kept = _KEPT["BucketPolicy"]
        raise Unset(kept.code, kept.message, BucketName=request.bucket)
    return xml_response("PolicyStatus", [("IsPublic", is_public(check_policy(request.bucket, content)))])


# Operations that return the default: root element and content.
_DEFAULTS: Mapping[str, tuple[str, Value]] = {
    "GetBucketVersioning": ("VersioningConfiguration", []),
    "GetBucketLogging": ("BucketLoggingStatus", []),
    "GetBucketNotificationConfiguration": ("NotificationConfiguration", []),
    "GetBucketAccelerateConfiguration": ("AccelerateConfiguration", []),
    "GetBucketRequestPayment": ("RequestPaymentConfiguration", [("Payer", "BucketOwner")]),
    "ListBucketAnalyticsConfigurations": ("ListBucketAnalyticsConfigurationResult", [("IsTruncated", False)]),
    "ListBucketInventoryConfigurations": ("ListInventoryConfigurationsResult", [("IsTruncated", False)]),
    "ListBucketMetricsConfigurations": ("ListMetricsConfigurationsResult", [("IsTruncated", False)]),
    "ListBucketIntelligentTieringConfigurations": (
        "ListBucketIntelligentTieringConfigurationsOutput",
        [("IsTruncated", False)],
    ),
}
# Operations that accept the default only: ignoring another value would silently drop notifications or access logs.
_SETTABLE: Mapping[str, dict[str, Any]] = {
    "PutBucketLogging": {},
    "PutBucketNotificationConfiguration": {},
    "PutBucketRequestPayment": {"Payer": "BucketOwner"},
}
_ABSENT = {
    "GetBucketReplication": (
        "ReplicationConfigurationNotFoundError",
        "The replication configuration was not found",
    ),
    "GetBucketWebsite": (
        "NoSuchWebsiteConfiguration",
        "The specified bucket does not have a website configuration",
    ),
    "GetObjectLockConfiguration": (
        "ObjectLockConfigurationNotFoundError",
        "Object Lock configuration does not exist for this bucket",
    ),
}
_LOCKS = ("GetObjectRetention", "GetObjectLegalHold", "PutObjectRetention", "PutObjectLegalHold")


def _of_kept() -> dict[str, Handler]:
    handlers: dict[str, Handler] = {}
    for noun in _KEPT:
        handlers[f"Get{noun}"] = partial(_get, noun)
        handlers[f"Put{noun}"] = partial(_put, noun)
        handlers[f"Delete{noun}"] = partial(_delete, noun)
    # The operation's name is irregular.
    handlers["DeleteBucketLifecycle"] = handlers.pop("DeleteBucketLifecycleConfiguration")
    return handlers


HANDLERS: Handlers = {
    **_of_kept(),
    **{name: partial(_get_default, *answer) for name, answer in _DEFAULTS.items()},
    **{name: partial(_put_default, allowed) for name, allowed in _SETTABLE.items()},
    **{name: partial(_unset, *answer) for name, answer in _ABSENT.items()},
    **dict.fromkeys(("DeleteBucketReplication", "DeleteBucketWebsite"), _delete_unset),
    **dict.fromkeys((*_LOCKS, "PutObjectLockConfiguration"), _refuse_lock),
    "GetBucketPolicyStatus": get_policy_status,
}
