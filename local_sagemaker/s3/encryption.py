"""How an object is said to be encrypted: noted down, the files are as readable as the user's own.

Since 2023 every object of S3 is encrypted, by SSE-S3 unless the request or the bucket asks for a key of KMS.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/default-bucket-encryption.html
Only `local_sagemaker.s3` imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_sagemaker.s3.documents import document, parse
from local_sagemaker.s3.errors import InvalidArgument, InvalidEncryptionAlgorithmError
from local_sagemaker.s3.errors import NotImplementedByThisServer as NotBuilt
from local_sagemaker.s3.responses import DEFAULT_ENCRYPTION, ENCRYPTION_HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_sagemaker.s3.request import S3Request
    from local_sagemaker.s3.service import Service

ENCRYPTION = "BucketEncryption"  # the kind of its document
_KEY = f"{ENCRYPTION_HEADER}-aws-kms-key-id"
_BUCKET_KEY = f"{ENCRYPTION_HEADER}-bucket-key-enabled"
_S3 = "AES256"
_KMS = ("aws:kms", "aws:kms:dsse")
DEFAULT_DOCUMENT = document(
    "ServerSideEncryptionConfiguration",
    [("Rule", [("ApplyServerSideEncryptionByDefault", [("SSEAlgorithm", _S3)]), ("BucketKeyEnabled", False)])],
)


def encryption_of_new(service: Service, request: S3Request) -> dict[str, str]:
    """Return the headers of encryption that a new object gets: the request's, else the bucket's, else SSE-S3.

    Raises:
        NoSuchBucket: the bucket does not exist.
        InvalidArgument, InvalidEncryptionAlgorithmError: the headers contradict each other.
        NotImplementedByThisServer: an algorithm of file systems and backups.
    """
    asked = {name: request.headers[name] for name in (ENCRYPTION_HEADER, _KEY, _BUCKET_KEY) if name in request.headers}
    kept = service.store.configuration.document(request.bucket, ENCRYPTION)
    _check(asked)
    if ENCRYPTION_HEADER in asked:
        return asked
    if kept is None:
        return DEFAULT_ENCRYPTION
    rule = parse(kept, "ServerSideEncryptionConfiguration")
    told = {
        ENCRYPTION_HEADER: rule.findtext("Rule/ApplyServerSideEncryptionByDefault/SSEAlgorithm"),
        _KEY: rule.findtext("Rule/ApplyServerSideEncryptionByDefault/KMSMasterKeyID"),
        _BUCKET_KEY: "true" if rule.findtext("Rule/BucketKeyEnabled") == "true" else None,
    }
    return {ENCRYPTION_HEADER: _S3, **{name: value for name, value in told.items() if value}}


def _check(asked: Mapping[str, str]) -> None:
    algorithm = asked.get(ENCRYPTION_HEADER)
    if algorithm in ("aws:fsx", "aws:backup"):
        raise NotBuilt(f"The encryption {algorithm} is not built into this server.", Header=ENCRYPTION_HEADER)
    if algorithm not in (None, _S3, *_KMS):
        raise InvalidEncryptionAlgorithmError(ServerSideEncryption=algorithm)
    if _KEY in asked and algorithm not in _KMS:
        raise InvalidArgument(
            "Server Side Encryption with AWS KMS managed key requires HTTP header"
            " x-amz-server-side-encryption : aws:kms",
            ArgumentName=ENCRYPTION_HEADER,
            ArgumentValue=algorithm or "null",
        )
