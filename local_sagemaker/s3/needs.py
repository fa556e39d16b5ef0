"""What a request to S3 needs of a role's policies: actions, resources, and what conditions look at.

Standard library only, because supervisors import it; `local_sagemaker.s3` is the other user. Source: Service
Authorization Reference, "Actions, resources, and condition keys for Amazon S3", and S3 User Guide, "Required
permissions for Amazon S3 API operations".
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from local_sagemaker.iam.policies import Need
from local_sagemaker.iam.roles import NotAuthorized
from local_sagemaker.s3.errors import AccessDenied, NoSuchBucket, NoSuchKey
from local_sagemaker.s3.forms import POST_OBJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from local_sagemaker.s3.objects import StoredObject
    from local_sagemaker.s3.request import S3Request
    from local_sagemaker.s3.store import ObjectStore

# Operations whose action has another name than their own.
_ACTIONS: Mapping[str, str] = {
    "HeadObject": "GetObject",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "ListParts": "ListMultipartUploadParts",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "HeadBucket": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "ListBuckets": "ListAllMyBuckets",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "DeleteBucketEncryption": "PutEncryptionConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
    "DeleteBucketTagging": "PutBucketTagging",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "DeleteBucketLifecycle": "PutLifecycleConfiguration",
    "GetBucketCors": "GetBucketCORS",
    "PutBucketCors": "PutBucketCORS",
    "DeleteBucketCors": "PutBucketCORS",
    "DeleteBucketOwnershipControls": "PutBucketOwnershipControls",
    "GetBucketAccelerateConfiguration": "GetAccelerateConfiguration",
    "GetBucketNotificationConfiguration": "GetBucketNotification",
    "PutBucketNotificationConfiguration": "PutBucketNotification",
    "GetBucketReplication": "GetReplicationConfiguration",
    "DeleteBucketReplication": "PutReplicationConfiguration",
    "ListBucketAnalyticsConfigurations": "GetAnalyticsConfiguration",
    "ListBucketInventoryConfigurations": "GetInventoryConfiguration",
    "ListBucketMetricsConfigurations": "GetMetricsConfiguration",
    "ListBucketIntelligentTieringConfigurations": "GetIntelligentTieringConfiguration",
    "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "PutObjectLockConfiguration": "PutBucketObjectLockConfiguration",
}
_COPIES = frozenset({"CopyObject", "UploadPartCopy"})
_WRITES_TAGS = frozenset({"PutObject", "CopyObject", "CreateMultipartUpload"})
# Query parameters and headers that are condition keys by the same name.
_QUERY_KEYS = ("prefix", "delimiter", "max-keys")
_HEADER_KEYS = (
    "x-amz-acl",
    "x-amz-copy-source",
    "x-amz-metadata-directive",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-storage-class",
)
KEY_HEADER = "x-amz-server-side-encryption-aws-kms-key-id"


def bucket_arn(bucket: str) -> str:
    """Return the ARN of a bucket."""
    return f"arn:aws:s3:::{bucket}"


def object_arn(bucket: str, key: str) -> str:
    """Return the ARN of an object."""
    return f"{bucket_arn(bucket)}/{key}"


def listing(bucket: str, prefix: str) -> Need:
    """Return what it takes to list a prefix."""
    return Need("s3:ListBucket", bucket_arn(bucket), {"s3:prefix": [prefix]})


def reading(found: StoredObject, context: Mapping[str, Sequence[str]] | None = None) -> list[Need]:
    """Return what it takes to read an object that is there.

    Args:
        found: the object.
        context: what the request says besides.
    """
    tags = _tags("s3:existingobjecttag/", found.tags.items())
    needed = Need("s3:GetObject", object_arn(found.bucket, found.key), {**(context or {}), **tags})
    return [needed, *using_key("kms:Decrypt", found.headers)]


def writing(bucket: str, key: str) -> Need:
    """Return what it takes to write an object."""
    return Need("s3:PutObject", object_arn(bucket, key))


def deleting(bucket: str, key: str) -> Need:
    """Return what it takes to delete an object."""
    return Need("s3:DeleteObject", object_arn(bucket, key))


def using_key(action: str, headers: Mapping[str, str]) -> list[Need]:
    """Return what it takes to use the KMS key of an object; nothing where it has none that is named by its ARN.

    Args:
        action: such as `kms:Decrypt`.
        headers: of the request that writes it, or of the object.
    """
    key = headers.get(KEY_HEADER, "")
    return [Need(action, key)] if key.startswith("arn:") else []


def needs_of(request: S3Request, look_up: Callable[[str, str], StoredObject]) -> list[Need]:
    """Return what a request needs.

    `DeleteObjects` needs `deleting` for each key of its body, and a form what the put in it needs.

    Args:
        request: the request.
        look_up: returns an object by bucket and key, or raises `NoSuchKey` or `NoSuchBucket`.
    """
    if request.operation in ("DeleteObjects", POST_OBJECT):
        return []
    context = _context(request)
    action = f"s3:{_ACTIONS.get(request.operation, request.operation)}"
    if action == "s3:GetObject":
        return _reading_stored(request.target, look_up, context)
    where = object_arn(*request.target) if request.key else bucket_arn(request.bucket) if request.bucket else "*"
    needs = [Need(action, where, context)]
    if request.operation == "GetObjectAttributes":
        needs += _reading_stored(request.target, look_up, {})
    if request.operation in _COPIES:
        needs += _reading_stored(request.copy_source(), look_up, {})
    if request.operation in _WRITES_TAGS and "x-amz-tagging" in request.headers:
        needs.append(Need("s3:PutObjectTagging", where, context))
    if action == "s3:PutObject":
        needs += using_key("kms:GenerateDataKey", request.headers)
    return needs


def check_rights(request: S3Request, store: ObjectStore) -> None:
    """See that the policies of the one who asks allow a request; a bucket that is not there is told to everybody.

    Args:
        request: the request; of the home's user anything is allowed.
        store: the objects.

    Raises:
        AccessDenied: they do not.
        NoSuchBucket: there is no such bucket.
    """
    if request.access is None:
        return
    try:
        request.access.check(*needs_of(request, store.get))
    except NotAuthorized as error:
        if request.bucket and request.operation != "CreateBucket":
            store.configuration.get(request.bucket)
        raise AccessDenied(str(error)) from error


def _reading_stored(
    place: tuple[str, str], look_up: Callable[[str, str], StoredObject], context: Mapping[str, Sequence[str]]
) -> list[Need]:
    """Return what it takes to read an object, with its tags and its KMS key if it is there."""
    try:
        found = look_up(*place)
    except (NoSuchKey, NoSuchBucket):  # told by the operation itself
        return [Need("s3:GetObject", object_arn(*place), context)]
    return reading(found, context)


def _context(request: S3Request) -> dict[str, list[str]]:
    found = {f"s3:{name}": [request.query[name]] for name in _QUERY_KEYS if name in request.query}
    if request.operation in ("ListObjects", "ListObjectsV2"):
        found.setdefault("s3:prefix", [""])
    found |= {f"s3:{name}": [request.headers[name]] for name in _HEADER_KEYS if name in request.headers}
    tags = parse_qsl(request.headers.get("x-amz-tagging", ""), keep_blank_values=True)
    return found | _tags("s3:requestobjecttag/", tags)


def _tags(prefix: str, tags: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    return {f"{prefix}{key.lower()}": [value] for key, value in tags}
