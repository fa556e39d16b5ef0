"""Which input members of S3's operations this server reads; any other that arrives is refused.

A member that is ignored is worse than one that is refused: a deletion whose condition is not looked at deletes. The
table names what is read, so that a member that botocore gains is refused until someone adds it here. What no model of
the operation has (`x-amz-date`, a header of a proxy) is none of its business, as on AWS.
Only `local_sagemaker.s3` imports it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from local_sagemaker.s3.errors import NotImplementedByThisServer as NotBuilt
from local_sagemaker.s3.operations import UNKNOWN, model

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Accepted although no code reads them, with the reason why they change nothing here.
WITHOUT_EFFECT: Mapping[str, str] = {
    "SkipDestinationValidation": "No notification can be configured here.",
    "RequestPayer": "One account owns all buckets, and an owner pays in any case.",
    "MFA": "MFA delete cannot be enabled here, and S3 ignores the header of a bucket without it.",
    "BypassGovernanceRetention": "No object is locked here.",
    "ConfirmRemoveSelfBucketAccess": "A bucket's policy is kept, and locks nobody out.",
    "OptionalObjectAttributes": "Its only value asks for the state of restored archives; nothing is archived here.",
}

_OBJECT = frozenset({"Bucket", "Key"})
_OWNER = frozenset({"ExpectedBucketOwner"})
_ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512", "MD5")
_CHECKSUMS = frozenset(f"Checksum{name}" for name in _ALGORITHMS)
_BODY = frozenset({"ContentMD5", "ChecksumAlgorithm"})
_STREAM = frozenset({*_CHECKSUMS, *_BODY, "Body", "ContentLength"})
_READ_CONDITIONS = frozenset({"IfMatch", "IfNoneMatch", "IfModifiedSince", "IfUnmodifiedSince"})
_WRITE_CONDITIONS = frozenset({"IfMatch", "IfNoneMatch"})
_SOURCE = frozenset({"CopySource", "ExpectedSourceBucketOwner", *(f"CopySource{name}" for name in _READ_CONDITIONS)})
_PROPERTIES = frozenset(
    {
        *("ACL", "CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType", "Expires"),
        *("Metadata", "ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled", "StorageClass", "Tagging"),
        "WebsiteRedirectLocation",
    }
)
_OVERRIDES = frozenset(
    f"Response{name}"
    for name in ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType", "Expires")
)
_READING = frozenset({*_OBJECT, *_READ_CONDITIONS, *_OVERRIDES, "Range", "VersionId", "PartNumber", "ChecksumMode"})
_LISTING = frozenset({"Bucket", "Delimiter", "EncodingType", "Prefix", "MaxKeys"})
_GRANTS = frozenset(
    {
        *("AccessControlPolicy.Grants.Permission", "AccessControlPolicy.Grants.Grantee.ID"),
        *("AccessControlPolicy.Grants.Grantee.Type", "AccessControlPolicy.Grants.Grantee.DisplayName"),
        *("AccessControlPolicy.Owner.ID", "AccessControlPolicy.Owner.DisplayName"),
    }
)
# Answered with the default, or with the code for what is not there; they have nothing to read but the bucket.
_DEFAULT_ANSWERS = (
    *("GetBucketAccelerateConfiguration", "GetBucketAcl", "GetBucketLogging", "GetBucketNotificationConfiguration"),
    *("GetBucketPolicyStatus", "GetBucketReplication", "GetBucketRequestPayment", "GetBucketVersioning"),
    *("GetBucketWebsite", "GetObjectLockConfiguration", "DeleteBucketReplication", "DeleteBucketWebsite"),
)
_EMPTY_LISTS = ("Analytics", "IntelligentTiering", "Inventory", "Metrics")
_CONFIGURED = (
    *("BucketCors", "BucketEncryption", "BucketOwnershipControls", "BucketPolicy", "BucketTagging"),
    "PublicAccessBlock",
)

# By operation. A member of a document is written with its path; a document whose name stands alone is kept as a whole.
_READ: Mapping[str, frozenset[str]] = {
    "AbortMultipartUpload": _OBJECT | {"UploadId"},
    "CompleteMultipartUpload": _OBJECT
    | _CHECKSUMS
    | _WRITE_CONDITIONS
    | {"UploadId", "ChecksumType", "MpuObjectSize", "MultipartUpload.Parts.ETag", "MultipartUpload.Parts.PartNumber"}
    | {f"MultipartUpload.Parts.{name}" for name in _CHECKSUMS},
    "CopyObject": _OBJECT
    | _SOURCE
    | _PROPERTIES
    | _WRITE_CONDITIONS
    | {"ChecksumAlgorithm", "MetadataDirective", "TaggingDirective"},
    "CreateBucket": frozenset(
        {
            *("Bucket", "ACL", "ObjectOwnership", "BucketNamespace", "CreateBucketConfiguration.LocationConstraint"),
            *("CreateBucketConfiguration.Tags.Key", "CreateBucketConfiguration.Tags.Value"),
        }
    ),
    "CreateMultipartUpload": _OBJECT | _PROPERTIES | {"ChecksumAlgorithm", "ChecksumType"},
    "DeleteBucket": frozenset({"Bucket"}),
    "DeleteBucketLifecycle": frozenset({"Bucket"}),
    "DeleteObject": _OBJECT | {"VersionId", "IfMatch", "IfMatchLastModifiedTime", "IfMatchSize"},
    "DeleteObjectTagging": _OBJECT | {"VersionId"},
    "DeleteObjects": frozenset({"Bucket", "ChecksumAlgorithm", "Delete.Quiet"})
    | {f"Delete.Objects.{name}" for name in ("Key", "VersionId", "ETag", "LastModifiedTime", "Size")},
    "GetBucketLifecycleConfiguration": frozenset({"Bucket"}),
    "GetBucketLocation": frozenset({"Bucket"}),
    "GetObject": _READING,
    "GetObjectAcl": _OBJECT | {"VersionId"},
    "GetObjectAttributes": _OBJECT | {"VersionId", "ObjectAttributes", "MaxParts", "PartNumberMarker"},
    "GetObjectTagging": _OBJECT | {"VersionId"},
    "HeadBucket": frozenset({"Bucket"}),
    "HeadObject": _READING,
    "ListBuckets": frozenset({"MaxBuckets", "ContinuationToken", "Prefix", "BucketRegion"}),
    "ListMultipartUploads": frozenset(
        {"Bucket", "EncodingType", "KeyMarker", "MaxUploads", "Prefix", "UploadIdMarker", "Delimiter"}
    ),
    "ListObjectVersions": _LISTING | {"KeyMarker", "VersionIdMarker"},
    "ListObjects": _LISTING | {"Marker"},
    "ListObjectsV2": _LISTING | {"ContinuationToken", "FetchOwner", "StartAfter"},
    "ListParts": _OBJECT | {"MaxParts", "PartNumberMarker", "UploadId"},
    "PutBucketAcl": _BODY | _GRANTS | {"Bucket", "ACL"},
    "PutBucketLifecycleConfiguration": frozenset(
        {"Bucket", "ChecksumAlgorithm", "LifecycleConfiguration", "TransitionDefaultMinimumObjectSize"}
    ),
    "PutBucketLogging": _BODY | {"Bucket"},
    "PutBucketNotificationConfiguration": frozenset({"Bucket"}),
    "PutBucketRequestPayment": _BODY | {"Bucket", "RequestPaymentConfiguration.Payer"},
    "PutObject": _OBJECT | _STREAM | _PROPERTIES | _WRITE_CONDITIONS,
    "PutObjectAcl": _OBJECT | _BODY | _GRANTS | {"ACL", "VersionId"},
    "PutObjectTagging": _OBJECT | _BODY | {"VersionId", "Tagging.TagSet.Key", "Tagging.TagSet.Value"},
    "UploadPart": _OBJECT | _STREAM | {"PartNumber", "UploadId"},
    "UploadPartCopy": _OBJECT | _SOURCE | {"PartNumber", "UploadId", "CopySourceRange"},
    **{f"{verb}{noun}": frozenset({"Bucket"}) for noun in _CONFIGURED for verb in ("Get", "Delete")},
    **{operation: frozenset({"Bucket"}) for operation in _DEFAULT_ANSWERS},
    **{f"ListBucket{noun}Configurations": frozenset({"Bucket"}) for noun in _EMPTY_LISTS},
    # Refused as a whole, for no bucket has a lock.
    **{f"GetObject{noun}": _OBJECT for noun in ("LegalHold", "Retention")},
    **{f"PutObject{noun}": _OBJECT | _BODY | {noun} for noun in ("LegalHold", "Retention")},
    "PutObjectLockConfiguration": _BODY | {"Bucket", "ObjectLockConfiguration"},
    "PutBucketCors": _BODY | {"Bucket", "CORSConfiguration"},
    "PutBucketEncryption": _BODY | {"Bucket", "ServerSideEncryptionConfiguration"},
    "PutBucketOwnershipControls": _BODY | {"Bucket", "OwnershipControls"},
    "PutBucketPolicy": _BODY | {"Bucket", "Policy"},
    "PutBucketTagging": _BODY | {"Bucket", "Tagging"},
    "PutPublicAccessBlock": _BODY | {"Bucket", "PublicAccessBlockConfiguration"},
}


def read_members(operation: str) -> frozenset[str]:
    """Return the input members that this server reads of an operation that it serves.

    Returns:
        Names as botocore has them; those inside of a document with their path (`Delete.Objects.Key`).
    """
    return _READ[operation] | _OWNER


def check_members(operation: str, query: Iterable[str], headers: Iterable[str]) -> None:
    """Check that a request carries no parameter and no header that its operation has and this server does not read.

    Args:
        operation: its name in botocore.
        query: names of the parameters.
        headers: lower-case names of the headers.

    Raises:
        NotImplementedByThisServer: it carries one; the error names it.
    """
    if operation not in _READ:
        return
    unread = _unread(operation)
    for name in (*query, *headers):
        if member := unread.get(name):
            raise NotBuilt(f"{operation} does not support {member} ({name}) on this server. Leave it out.", Header=name)


def is_read(operation: str, path: str) -> bool:
    """Tell whether a member of an operation's document is read: itself, all that is in it, or a part of it."""
    wanted = path.split(".")
    return any(
        all(ours == theirs for ours, theirs in zip(wanted, one.split("."), strict=False)) for one in _READ[operation]
    )


@cache
def _unread(operation: str) -> Mapping[str, str]:
    """Return what is refused of an operation: name of the parameter or header to name of the member."""
    if operation == UNKNOWN:
        return {}
    shape = model().operation_model(operation).input_shape
    accepted = read_members(operation) | WITHOUT_EFFECT.keys()
    return {
        member.serialization["name"].lower() if location == "header" else member.serialization["name"]: name
        for name, member in (shape.members if shape else {}).items()
        if (location := member.serialization.get("location")) in ("header", "querystring") and name not in accepted
    }
