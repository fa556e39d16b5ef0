"""The input members of S3's operations that this server reads. A request with any other member is refused.

Ignoring a member is worse than refusing it: a deletion whose condition is ignored deletes the object. The table names
the members that are read. A member that botocore adds is refused until it is added here. Headers and parameters that
are not in the operation's model (`x-amz-date`, a proxy's header) are ignored, as on AWS.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from local_sagemaker.s3.errors import NotImplementedByThisServer as NotBuilt
from local_sagemaker.s3.operations import UNKNOWN, model

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Members that are accepted but not read, and why they have no effect here.
WITHOUT_EFFECT: Mapping[str, str] = {
    "SkipDestinationValidation": "No notification can be configured here.",
    "RequestPayer": "One account owns all buckets, and an owner pays in any case.",
    "MFA": "MFA delete cannot be enabled here, and S3 ignores the header of a bucket without it.",
    "BypassGovernanceRetention": "No object is locked here.",
    "ConfirmRemoveSelfBucketAccess": "A bucket's policy is stored, and denies its owner nothing.",
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
# Operations that read the bucket only. Most answer a default, or that nothing is configured.
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

# The members by operation. A member of a document has its path. A document named alone is read as a whole.
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
    # These operations always fail: no bucket has Object Lock.
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
    """Return the input members of an operation that this server reads.

    Returns:
        Names as in botocore; members inside a document have their path (`Delete.Objects.Key`).
    """
    return _READ[operation] | _OWNER


def check_members(operation: str, query: Iterable[str], headers: Iterable[str]) -> None:
    """Check that a request has no parameter or header of its operation that this server does not read.

    Args:
        operation: name of the operation in botocore.
        query: names of the query parameters.
        headers: lower-case names of the headers.

    Raises:
        NotImplementedByThisServer: the request has such a member; the error names it.
    """
    if operation not in _READ:
        return
    unread = _unread(operation)
    for name in (*query, *headers):
        if member := unread.get(name):
            raise NotBuilt(f"{operation} does not support {member} ({name}) on this server. Leave it out.", Header=name)


def is_read(operation: str, path: str) -> bool:
    """Return whether a member of an operation's document is read: itself, within a document that is, or in part."""
    wanted = path.split(".")
    return any(
        all(ours == theirs for ours, theirs in zip(wanted, one.split("."), strict=False)) for one in _READ[operation]
    )


@cache
def _unread(operation: str) -> Mapping[str, str]:
    """Return the refused members of an operation: names of parameters and headers to names of members."""
    if operation == UNKNOWN:
        return {}
    shape = model().operation_model(operation).input_shape
    accepted = read_members(operation) | WITHOUT_EFFECT.keys()
    return {
        member.serialization["name"].lower() if location == "header" else member.serialization["name"]: name
        for name, member in (shape.members if shape else {}).items()
        if (location := member.serialization.get("location")) in ("header", "querystring") and name not in accepted
    }
