"""The server-side encryption of objects, recorded only: the files on disk are not encrypted.

Since 2023 every object in S3 is encrypted, with SSE-S3 unless the request or the bucket asks for a KMS key.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/default-bucket-encryption.html
Supervisors import this module, so it uses the standard library only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_sagemaker.account import ACCOUNT, partition_of
from local_sagemaker.s3.documents import document, parse
from local_sagemaker.s3.errors import InvalidArgument, InvalidEncryptionAlgorithmError
from local_sagemaker.s3.errors import NotImplementedByThisServer as NotBuilt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_sagemaker.s3.store import ObjectStore

ENCRYPTION = "BucketEncryption"  # kind of its document in the index
ENCRYPTION_HEADER = "x-amz-server-side-encryption"  # the algorithm; the other headers begin with it
KEY_HEADER = f"{ENCRYPTION_HEADER}-aws-kms-key-id"
BUCKET_KEY_HEADER = f"{ENCRYPTION_HEADER}-bucket-key-enabled"
_S3 = "AES256"
_KMS = ("aws:kms", "aws:kms:dsse")
DEFAULT_ENCRYPTION = {ENCRYPTION_HEADER: _S3}
DEFAULT_DOCUMENT = document(
    "ServerSideEncryptionConfiguration",
    [("Rule", [("ApplyServerSideEncryptionByDefault", [("SSEAlgorithm", _S3)]), ("BucketKeyEnabled", False)])],
)


def encryption_of_new(store: ObjectStore, bucket: str, headers: Mapping[str, str], region: str) -> dict[str, str]:
    """Return the encryption headers of a new object: the request's, else the bucket's, else SSE-S3.

    Args:
        store: the object store.
        bucket: bucket of the new object.
        headers: headers of the request.
        region: region of the bucket.

    Raises:
        NoSuchBucket: the bucket does not exist.
        InvalidArgument, InvalidEncryptionAlgorithmError: a header is invalid, or the headers contradict each other.
        NotImplementedByThisServer: the algorithm is `aws:fsx` or `aws:backup`.
    """
    asked = {name: headers[name] for name in (ENCRYPTION_HEADER, KEY_HEADER, BUCKET_KEY_HEADER) if name in headers}
    kept = store.configuration.document(bucket, ENCRYPTION)
    _check(asked)
    found = asked if ENCRYPTION_HEADER in asked else _default_of(kept)
    return {**found, KEY_HEADER: key_arn(found[KEY_HEADER], region)} if KEY_HEADER in found else found


def key_arn(key: str, region: str) -> str:
    """Return the ARN of a KMS key that is given as an ARN or a key ID; an alias is returned unchanged."""
    if key.startswith(("arn:", "alias/")):
        return key
    return f"arn:{partition_of(region)}:kms:{region}:{ACCOUNT}:key/{key}"


def _default_of(kept: bytes | None) -> dict[str, str]:
    """Return the headers of a bucket's encryption configuration; those of SSE-S3 for None."""
    if kept is None:
        return DEFAULT_ENCRYPTION
    rule = parse(kept, "ServerSideEncryptionConfiguration")
    told = {
        ENCRYPTION_HEADER: rule.findtext("Rule/ApplyServerSideEncryptionByDefault/SSEAlgorithm"),
        KEY_HEADER: rule.findtext("Rule/ApplyServerSideEncryptionByDefault/KMSMasterKeyID"),
        BUCKET_KEY_HEADER: "true" if rule.findtext("Rule/BucketKeyEnabled") == "true" else None,
    }
    return {**DEFAULT_ENCRYPTION, **{name: value for name, value in told.items() if value}}


def _check(asked: Mapping[str, str]) -> None:
    algorithm = asked.get(ENCRYPTION_HEADER)
    if algorithm in ("aws:fsx", "aws:backup"):
        raise NotBuilt(f"The encryption {algorithm} is not built into this server.", Header=ENCRYPTION_HEADER)
    if algorithm not in (None, _S3, *_KMS):
        raise InvalidEncryptionAlgorithmError(ServerSideEncryption=algorithm)
    if KEY_HEADER in asked and algorithm not in _KMS:
        raise InvalidArgument(
            "Server Side Encryption with AWS KMS managed key requires HTTP header"
            " x-amz-server-side-encryption : aws:kms",
            ArgumentName=ENCRYPTION_HEADER,
            ArgumentValue=algorithm or "null",
        )
    if asked.get(BUCKET_KEY_HEADER, "true") not in ("true", "false"):
        raise InvalidArgument(
            f"The value of {BUCKET_KEY_HEADER} must be true or false.",
            ArgumentName=BUCKET_KEY_HEADER,
            ArgumentValue=asked[BUCKET_KEY_HEADER],
        )
