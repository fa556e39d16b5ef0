"""The IAM permissions that S3 requests need: actions, resources and request context.

Supervisors import this module, so it uses the standard library only. Sources: Service Authorization Reference,
"Actions, resources, and condition keys for Amazon S3", and S3 User Guide, "Required permissions for Amazon S3 API
operations".
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from local_sagemaker.account import ACCOUNT, partition_of
from local_sagemaker.iam.policies import Permission
from local_sagemaker.iam.roles import NotAuthorized
from local_sagemaker.s3.encryption import BUCKET_KEY_HEADER, ENCRYPTION_HEADER, KEY_HEADER, encryption_of_new, key_arn
from local_sagemaker.s3.errors import AccessDenied, NoSuchBucket, NoSuchKey, NoSuchUpload
from local_sagemaker.s3.forms import POST_OBJECT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from local_sagemaker.iam.patterns import Context
    from local_sagemaker.s3.objects import StoredObject
    from local_sagemaker.s3.request import S3Request
    from local_sagemaker.s3.service import Service

# Operations whose action has a different name.
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
# Further actions that a header requires. Headers that grant access to others (`x-amz-grant-read`) are refused earlier.
_OF_HEADERS: Mapping[str, Mapping[str, str]] = {
    "PutObject": {"x-amz-tagging": "PutObjectTagging", "x-amz-acl": "PutObjectAcl"},
    "CreateMultipartUpload": {"x-amz-tagging": "PutObjectTagging", "x-amz-acl": "PutObjectAcl"},
    "CopyObject": {"x-amz-acl": "PutObjectAcl"},  # not its tags, which may be the source's: see `_of_copy`
    "CreateBucket": {"x-amz-acl": "PutBucketAcl", "x-amz-object-ownership": "PutBucketOwnershipControls"},
    "GetObjectAttributes": {"x-amz-object-attributes": "GetObject"},
}
# KMS actions on the key of the object that an operation writes. A part is encrypted with its upload's data key:
# https://repost.aws/knowledge-center/s3-large-file-encryption-kms-key
_USES_OF_KEY: Mapping[str, str] = {
    "PutObject": "kms:GenerateDataKey",
    "CopyObject": "kms:GenerateDataKey",
    "CreateMultipartUpload": "kms:GenerateDataKey",
    "UploadPart": "kms:Decrypt",
    "UploadPartCopy": "kms:Decrypt",
    "CompleteMultipartUpload": "kms:Decrypt",
}
_COPIES = frozenset({"CopyObject", "UploadPartCopy"})
_IN_BODY = frozenset({"DeleteObjects", "PutObjectTagging", POST_OBJECT})
"""Operations whose permissions depend on the body. They check permissions after reading it."""

# Parameters and headers that are condition keys of the same name, by action.
_OF_LISTING = ("prefix", "delimiter", "max-keys")
_OF_WRITING = (
    *("x-amz-acl", "x-amz-copy-source", "x-amz-metadata-directive", ENCRYPTION_HEADER, KEY_HEADER),
    *("x-amz-storage-class", "x-amz-website-redirect-location"),
)
_TOLD: Mapping[str, Sequence[str]] = {
    "ListBucket": _OF_LISTING,
    "ListBucketVersions": _OF_LISTING,
    "PutObject": _OF_WRITING,
    "PutObjectAcl": ("x-amz-acl", "x-amz-storage-class"),
    "PutBucketAcl": ("x-amz-acl",),
    "CreateBucket": ("x-amz-acl", "x-amz-object-ownership"),
    "PutBucketOwnershipControls": ("x-amz-object-ownership",),
}
_WITH_TAGS_OF_REQUEST = frozenset({"PutObject", "PutObjectTagging"})
# Not actions that overwrite or delete an object: User Guide, "Tagging and access control policies".
_WITH_TAGS_OF_OBJECT = frozenset(
    {
        *("GetObject", "GetObjectAcl", "GetObjectAttributes", "GetObjectTagging"),
        *("PutObjectAcl", "PutObjectTagging", "DeleteObjectTagging"),
    }
)
# Actions with a different name if the request names a version (`GetObjectVersion`).
_OF_VERSIONS = _WITH_TAGS_OF_OBJECT | {"DeleteObject"}
_MOST_KEYS = "1000"  # S3's default, also for an empty parameter
_SIGNED: Context = {"s3:authtype": ["REST-HEADER"], "s3:signatureversion": ["AWS4-HMAC-SHA256"]}
"""The request context of SageMaker's own S3 requests for a job: how they are signed."""


def bucket_arn(bucket: str) -> str:
    """Return the ARN of a bucket."""
    return f"arn:aws:s3:::{bucket}"


def object_arn(bucket: str, key: str) -> str:
    """Return the ARN of an object."""
    return f"{bucket_arn(bucket)}/{key}"


def listing(bucket: str, prefix: str, context: Context = _SIGNED) -> Permission:
    """Return the permission to list a prefix.

    Args:
        bucket: name of the bucket.
        prefix: prefix of the keys.
        context: further request context; by default that of SageMaker's requests.
    """
    return _need("ListBucket", (bucket, ""), {**context, "s3:prefix": [prefix]})


def reading(found: StoredObject, region: str) -> list[Permission]:
    """Return the permissions that SageMaker needs to read an object.

    Args:
        found: the object.
        region: region of its bucket.
    """
    needed = _need("GetObject", (found.bucket, found.key), _SIGNED, found=found)
    return [needed, *using_key("kms:Decrypt", found.headers, (found.bucket, found.key), region)]


def writing(bucket: str, key: str, headers: Mapping[str, str]) -> Permission:
    """Return the permission that SageMaker needs to write an object with these headers."""
    return _need("PutObject", (bucket, key), {**_SIGNED, **_told("PutObject", headers)})


def deleting(request: S3Request, key: str, version: str | None) -> Permission:
    """Return the permission that a request needs to delete one object.

    Args:
        request: the request.
        key: key of the object.
        version: version that the request names; None if it names none.
    """
    return _need("DeleteObject", (request.bucket, key), about(request), version=version)


def using_key(action: str, headers: Mapping[str, str], target: tuple[str, str], region: str) -> list[Permission]:
    """Return the permissions to use the KMS key of an object. Return [] without a KMS key or for `alias/aws/s3`.

    The key policy of `alias/aws/s3` allows every principal in the account to use it through S3.

    Args:
        action: action such as `kms:Decrypt`.
        headers: encryption headers of the object.
        target: bucket and key of the object.
        region: region of the bucket.
    """
    key = headers.get(KEY_HEADER, "")
    if not key or key.endswith("alias/aws/s3"):
        return []
    arn, partition = key_arn(key, region), partition_of(region)
    of = bucket_arn(target[0]) if headers.get(BUCKET_KEY_HEADER) == "true" else object_arn(*target)
    context = {
        "aws:viaawsservice": ["true"],
        "kms:calleraccount": [ACCOUNT],
        "kms:encryptioncontext:aws:s3:arn": [of.replace("arn:aws:", f"arn:{partition}:", 1)],
        "kms:viaservice": [f"s3.{region}.amazonaws.com{'.cn' if partition == 'aws-cn' else ''}"],
    }
    # Only the server's KMS can resolve an alias to a key.
    return [Permission(action, None if "alias/" in arn else arn, context)]


def required_permissions(
    service: Service, request: S3Request, tags: Mapping[str, str] | None = None
) -> list[Permission]:
    """Return the permissions that a request needs, as far as known before its body is read.

    Args:
        service: the store with its objects, uploads and buckets.
        request: the request.
        tags: tags in the body, for `PutObjectTagging`.
    """
    if request.operation in _IN_BODY and tags is None:
        return []
    action = _ACTIONS.get(request.operation, request.operation)
    besides = [other for name, other in _OF_HEADERS.get(request.operation, {}).items() if name in request.headers]
    version = request.query.get("versionId")
    found = _found(service, request.target) if {action, *besides} & _WITH_TAGS_OF_OBJECT else None
    written = _tags_of_header(request) if tags is None else tags
    needs = [
        _need(one, request.target, _told_by(request, one), version=version, found=found, written=written)
        for one in (action, *besides)
    ]
    if found and "GetObject" in (action, *besides):
        needs += using_key("kms:Decrypt", found.headers, request.target, service.region)
    if request.operation in _COPIES:
        needs += _of_copy(service, request, written)
    return needs + _of_key(service, request)


def check_permissions(service: Service, request: S3Request, tags: Mapping[str, str] | None = None) -> None:
    """Check that the caller's policies allow a request.

    A missing bucket is reported as such, even to a caller without permission.

    Args:
        service: the store with its objects, uploads and buckets.
        request: the request. Without `access`, as for the home's user, everything is allowed.
        tags: as in `required_permissions`.

    Raises:
        AccessDenied: the policies do not allow it.
        NoSuchBucket: the bucket does not exist.
    """
    if request.access is None:
        return
    try:
        request.access.check(*required_permissions(service, request, tags))
    except NotAuthorized as error:
        if request.bucket and request.operation != "CreateBucket":
            service.store.configuration.get(request.bucket)
        raise AccessDenied(str(error)) from error


def about(request: S3Request) -> dict[str, list[str]]:
    """Return the request context that every S3 action has."""
    told = {
        "aws:sourceip": request.client,
        "aws:useragent": request.headers.get("user-agent", ""),
        "s3:authtype": request.authentication,
        "s3:signatureversion": request.signature_version,
        "s3:x-amz-content-sha256": request.headers.get("x-amz-content-sha256", ""),
    }
    return {name: [value] for name, value in told.items() if value}


def _need(
    action: str,
    target: tuple[str, str],
    context: Context,
    *,
    version: str | None = None,
    found: StoredObject | None = None,
    written: Mapping[str, str] | None = None,
) -> Permission:
    """Return the permission for an S3 action.

    Args:
        action: name without the prefix `s3:`.
        target: bucket and key; an empty key means the bucket, an empty bucket means all buckets.
        context: request context.
        version: version that the request names; None if it names none.
        found: the object, for actions whose conditions may test its tags.
        written: tags that the request gives to an object.
    """
    told = {"s3:resourceaccount": [ACCOUNT], **context}
    if found and action in _WITH_TAGS_OF_OBJECT:
        told |= {f"s3:existingobjecttag/{name.lower()}": [value] for name, value in found.tags.items()}
    if written and action in _WITH_TAGS_OF_REQUEST:
        told |= {f"s3:requestobjecttag/{name.lower()}": [value] for name, value in written.items()}
        told["s3:requestobjecttagkeys"] = list(written)
    if version is not None and action in _OF_VERSIONS:
        action = action.replace("Object", "ObjectVersion", 1)
        told["s3:versionid"] = [version]
    bucket, key = target
    return Permission(f"s3:{action}", object_arn(bucket, key) if key else bucket_arn(bucket or "*"), told)


def _of_copy(service: Service, request: S3Request, written: Mapping[str, str]) -> list[Permission]:
    """Return the permissions that a copy needs for its source and for the tags that it writes."""
    source, version = request.copy_source(), request.version_of_source()
    found = _found(service, source)
    reads = ["GetObject"]
    tags = request.operation == "CopyObject" and bool(written)
    if request.operation == "CopyObject" and not _replaces_tags(request) and found and found.tags:
        reads, tags = ["GetObject", "GetObjectTagging"], True
    needs = [_need(one, source, about(request), version=version, found=found) for one in reads]
    if found:
        needs += using_key("kms:Decrypt", found.headers, source, service.region)
    return [*needs, _need("PutObjectTagging", request.target, about(request), written=written)] if tags else needs


def _of_key(service: Service, request: S3Request) -> list[Permission]:
    """Return the permissions for the KMS key that encrypts the object that a request writes."""
    action = _USES_OF_KEY.get(request.operation)
    if action is None:
        return []
    headers: Mapping[str, str]
    if "uploadId" in request.query:
        try:
            headers = service.uploads.get(request.target, request.query["uploadId"]).properties.headers
        except NoSuchUpload:  # the operation itself reports it
            return []
    else:
        headers = encryption_of_new(service.store, request.bucket, request.headers, service.region)
    return using_key(action, headers, request.target, service.region)


def _found(service: Service, target: tuple[str, str]) -> StoredObject | None:
    try:
        return service.store.get(*target)
    except (NoSuchKey, NoSuchBucket):  # the operation itself reports it
        return None


def _replaces_tags(request: S3Request) -> bool:
    return request.headers.get("x-amz-tagging-directive") == "REPLACE"


def _tags_of_header(request: S3Request) -> dict[str, str]:
    """Return the tags that a write sets by a header. Other operations do not read that header."""
    reads = "x-amz-tagging" in _OF_HEADERS.get(request.operation, {}) or (
        request.operation == "CopyObject" and _replaces_tags(request)
    )
    return dict(parse_qsl(request.headers.get("x-amz-tagging", ""), keep_blank_values=True)) if reads else {}


def _told_by(request: S3Request, action: str) -> dict[str, list[str]]:
    """Return the request context of an action."""
    if action not in ("ListBucket", "ListBucketVersions"):
        return about(request) | _told(action, request.headers)
    query = dict(request.query)
    if request.operation in ("ListObjects", "ListObjectsV2"):
        query.setdefault("prefix", "")
    if query.get("max-keys") == "":
        query["max-keys"] = _MOST_KEYS
    return about(request) | _told(action, query)


def _told(action: str, given: Mapping[str, str]) -> dict[str, list[str]]:
    return {f"s3:{name}": [given[name]] for name in _TOLD.get(action, ()) if name in given}
