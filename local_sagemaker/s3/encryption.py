"""How an object is said to be encrypted: noted down, the files are as readable as the user's own.

Since 2023 every object of S3 is encrypted, by SSE-S3 unless the request or the bucket asks for a key of KMS.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/default-bucket-encryption.html
Standard library only, because supervisors import it; `local_sagemaker.s3` is the other user.
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

ENCRYPTION = "BucketEncryption"  # the kind of its document
ENCRYPTION_HEADER = "x-amz-server-side-encryption"  # of the algorithm; the others begin with it
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
    """Return the headers of encryption that a new object gets: the request's, else the bucket's, else SSE-S3.

    Args:
        store: the objects.
        bucket: where it is put.
        headers: of the request.
        region: of the bucket.

    Raises:
        NoSuchBucket: the bucket does not exist.
        InvalidArgument, InvalidEncryptionAlgorithmError: the headers contradict each other.
        NotImplementedByThisServer: an algorithm of file systems and backups.
    """
    asked = {name: headers[name] for name in (ENCRYPTION_HEADER, KEY_HEADER, BUCKET_KEY_HEADER) if name in headers}
    kept = store.configuration.document(bucket, ENCRYPTION)
    _check(asked)
    found = asked if ENCRYPTION_HEADER in asked else _default_of(kept)
    return {**found, KEY_HEADER: key_arn(found[KEY_HEADER], region)} if KEY_HEADER in found else found


def key_arn(key: str, region: str) -> str:
    """Return the ARN of a KMS key that may be named by its id; an alias stays as it is."""
    if key.startswith(("arn:", "alias/")):
        return key
    return f"arn:{partition_of(region)}:kms:{region}:{ACCOUNT}:key/{key}"


def _default_of(kept: bytes | None) -> dict[str, str]:
    """Return what a bucket's configuration says; None: SSE-S3."""
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
