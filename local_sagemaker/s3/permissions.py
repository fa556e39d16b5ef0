"""What a request to S3 needs of a role's policies: actions, resources, and what conditions look at.

Standard library only, because supervisors import it; `local_sagemaker.s3` is the other user. Source: Service
Authorization Reference, "Actions, resources, and condition keys for Amazon S3", and S3 User Guide, "Required
permissions for Amazon S3 API operations".
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
# Actions that a header asks for besides. Grants to others (`x-amz-grant-read`) are refused before.
_OF_HEADERS: Mapping[str, Mapping[str, str]] = {
    "PutObject": {"x-amz-tagging": "PutObjectTagging", "x-amz-acl": "PutObjectAcl"},
    "CreateMultipartUpload": {"x-amz-tagging": "PutObjectTagging", "x-amz-acl": "PutObjectAcl"},
    "CopyObject": {"x-amz-acl": "PutObjectAcl"},  # its tags may be those of the source
    "CreateBucket": {"x-amz-acl": "PutBucketAcl", "x-amz-object-ownership": "PutBucketOwnershipControls"},
    "GetObjectAttributes": {"x-amz-object-attributes": "GetObject"},
}
# What an operation does with the KMS key of the object that it writes. A part is encrypted with the data key of its
# upload: https://repost.aws/knowledge-center/s3-large-file-encryption-kms-key
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
"""Operations of whose needs the body has a part; they ask when they have read it."""

# Parameters and headers that are condition keys by the same name, by action.
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
# Not those that overwrite or delete: User Guide, "Tagging and access control policies".
_WITH_TAGS_OF_OBJECT = frozenset(
    {
        *("GetObject", "GetObjectAcl", "GetObjectAttributes", "GetObjectTagging"),
        *("PutObjectAcl", "PutObjectTagging", "DeleteObjectTagging"),
    }
)
# Actions that have another name where the request names a version (`GetObjectVersion`).
_OF_VERSIONS = _WITH_TAGS_OF_OBJECT | {"DeleteObject"}
_MOST_KEYS = "1000"  # a listing has by default, also where the parameter is empty
_SIGNED: Context = {"s3:authtype": ["REST-HEADER"], "s3:signatureversion": ["AWS4-HMAC-SHA256"]}
"""How SageMaker's own requests for a job are signed."""


def bucket_arn(bucket: str) -> str:
    """Return the ARN of a bucket."""
    return f"arn:aws:s3:::{bucket}"


def object_arn(bucket: str, key: str) -> str:
    """Return the ARN of an object."""
    return f"{bucket_arn(bucket)}/{key}"


def listing(bucket: str, prefix: str, context: Context = _SIGNED) -> Permission:
    """Return what it takes to list a prefix.

    Args:
        bucket: the bucket.
        prefix: of the keys.
        context: what the request says besides; by default what SageMaker's says.
    """
    return _need("ListBucket", (bucket, ""), {**context, "s3:prefix": [prefix]})


def reading(found: StoredObject, region: str) -> list[Permission]:
    """Return what it takes SageMaker to read an object that is there.

    Args:
        found: the object.
        region: of its bucket.
    """
    needed = _need("GetObject", (found.bucket, found.key), _SIGNED, found=found)
    return [needed, *using_key("kms:Decrypt", found.headers, (found.bucket, found.key), region)]


def writing(bucket: str, key: str, headers: Mapping[str, str]) -> Permission:
    """Return what it takes SageMaker to write an object with headers."""
    return _need("PutObject", (bucket, key), {**_SIGNED, **_told("PutObject", headers)})


def deleting(request: S3Request, key: str, version: str | None) -> Permission:
    """Return what a request needs to delete one object.

    Args:
        request: the request.
        key: of the object.
        version: which it names; None: none.
    """
    return _need("DeleteObject", (request.bucket, key), about(request), version=version)


def using_key(action: str, headers: Mapping[str, str], target: tuple[str, str], region: str) -> list[Permission]:
    """Return what it takes to use the KMS key of an object; nothing if that is S3's own.

    The policy of the key `alias/aws/s3` lets everybody of the account use it through S3.

    Args:
        action: such as `kms:Decrypt`.
        headers: those of encryption that the object has.
        target: bucket and key of the object.
        region: of the bucket.
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
    # Which key an alias is for, the server's KMS alone knows.
    return [Permission(action, None if "alias/" in arn else arn, context)]


def permissions_of(service: Service, request: S3Request, tags: Mapping[str, str] | None = None) -> list[Permission]:
    """Return what a request needs, as far as can be told before its body is read.

    Args:
        service: knows the objects, uploads and buckets that the request is about.
        request: the request.
        tags: those of the body, for `PutObjectTagging`.
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


def check_rights(service: Service, request: S3Request, tags: Mapping[str, str] | None = None) -> None:
    """See that the policies of the one who asks allow a request; a bucket that is not there is told to everybody.

    Args:
        service: the objects, with what is known of them.
        request: the request; of the home's user anything is allowed.
        tags: as in `permissions_of`.

    Raises:
        AccessDenied: they do not.
        NoSuchBucket: there is no such bucket.
    """
    if request.access is None:
        return
    try:
        request.access.check(*permissions_of(service, request, tags))
    except NotAuthorized as error:
        if request.bucket and request.operation != "CreateBucket":
            service.store.configuration.get(request.bucket)
        raise AccessDenied(str(error)) from error


def about(request: S3Request) -> dict[str, list[str]]:
    """Return what conditions may look at in any request."""
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
    """Return the need of an action of S3.

    Args:
        action: without its prefix.
        target: bucket and key; an empty key for the bucket itself, an empty bucket for all of them.
        context: what the request says.
        version: the version that the request names; None: none.
        found: the object, for actions whose conditions look at it.
        written: the tags that the request gives to an object.
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
    """Return what a copy needs for its source, and for the tags that it writes."""
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
    """Return what the KMS key needs with which the object is encrypted that a request writes."""
    action = _USES_OF_KEY.get(request.operation)
    if action is None:
        return []
    headers: Mapping[str, str]
    if "uploadId" in request.query:
        try:
            headers = service.uploads.get(request.target, request.query["uploadId"]).properties.headers
        except NoSuchUpload:  # told by the operation itself
            return []
    else:
        headers = encryption_of_new(service.store, request.bucket, request.headers, service.region)
    return using_key(action, headers, request.target, service.region)


def _found(service: Service, target: tuple[str, str]) -> StoredObject | None:
    try:
        return service.store.get(*target)
    except (NoSuchKey, NoSuchBucket):  # told by the operation itself
        return None


def _replaces_tags(request: S3Request) -> bool:
    return request.headers.get("x-amz-tagging-directive") == "REPLACE"


def _tags_of_header(request: S3Request) -> dict[str, str]:
    """Return the tags that a write gives to its object by a header; other operations do not read it."""
    reads = "x-amz-tagging" in _OF_HEADERS.get(request.operation, {}) or (
        request.operation == "CopyObject" and _replaces_tags(request)
    )
    return dict(parse_qsl(request.headers.get("x-amz-tagging", ""), keep_blank_values=True)) if reads else {}


def _told_by(request: S3Request, action: str) -> dict[str, list[str]]:
    """Return what a request says to the conditions on an action."""
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
