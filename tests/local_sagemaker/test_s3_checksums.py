"""Checksums of multipart uploads, of parts and of copies, with an unmodified boto3."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING, Any

import pytest
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from local_sagemaker.s3.checksums import checksum_of

if TYPE_CHECKING:
    from pathlib import Path

FIVE_MB = 5 << 20
BODIES = [b"1" * FIVE_MB, b"2"]
WHOLE = b"".join(BODIES)
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html, by type.
COMPOSITE = ("CRC32", "CRC32C", "SHA1", "SHA256", "SHA512", "MD5")
FULL_OBJECT = ("CRC32", "CRC32C", "CRC64NVME")


def code_of(refused: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = refused.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def composite_of(algorithm: str) -> str:
    parts = [base64.b64decode(checksum_of(algorithm, [body])) for body in BODIES]
    return f"{checksum_of(algorithm, parts)}-{len(parts)}"


def test_upload_file_with_the_sum_of_the_whole(s3: Any, bucket: str, tmp_path: Path) -> None:
    """boto3's transfer manager sends a file's checksum with the completion, which refuses a wrong one."""
    source, body = tmp_path / "source", os.urandom(20 << 20)
    source.write_bytes(body)
    config = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20)
    right, wrong = checksum_of("CRC32", [body]), checksum_of("CRC32", [b"other"])
    with pytest.raises(Exception, match="BadDigest"):
        s3.upload_file(str(source), bucket, "k", ExtraArgs={"ChecksumCRC32": wrong}, Config=config)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)

    s3.upload_file(str(source), bucket, "k", ExtraArgs={"ChecksumCRC32": right}, Config=config)

    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head["ChecksumCRC32"], head["ChecksumType"]) == (right, "FULL_OBJECT")


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256", "SHA512"])
def test_upload_file_with_an_algorithm(s3: Any, bucket: str, tmp_path: Path, algorithm: str) -> None:
    """boto3 sends each part with its checksum, and the object has the composite checksum."""
    source = tmp_path / "source"
    source.write_bytes(WHOLE)
    config = TransferConfig(multipart_threshold=FIVE_MB, multipart_chunksize=FIVE_MB)

    s3.upload_file(str(source), bucket, "k", ExtraArgs={"ChecksumAlgorithm": algorithm}, Config=config)

    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head[f"Checksum{algorithm}"], head["ChecksumType"]) == (composite_of(algorithm), "COMPOSITE")


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512", "MD5"])
def test_upload_file_with_a_digest_of_the_whole(s3: Any, bucket: str, tmp_path: Path, algorithm: str) -> None:
    """A hash of the whole file is valid only in a single PutObject; a multipart upload with it does not start."""
    source = tmp_path / "source"
    source.write_bytes(WHOLE)
    right = {f"Checksum{algorithm}": checksum_of(algorithm, [WHOLE])}
    wrong = {f"Checksum{algorithm}": checksum_of(algorithm, [b"other"])}
    in_parts = TransferConfig(multipart_threshold=FIVE_MB, multipart_chunksize=FIVE_MB)
    for claim, config, code in ((right, in_parts, "InvalidRequest"), (wrong, None, "BadDigest")):
        with pytest.raises(S3UploadFailedError, match=code):
            s3.upload_file(str(source), bucket, "k", ExtraArgs=claim, Config=config)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)

    s3.upload_file(str(source), bucket, "k", ExtraArgs=right)

    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert right.items() <= head.items()


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [*((one, "COMPOSITE") for one in COMPOSITE), *((one, "FULL_OBJECT") for one in FULL_OBJECT)],
)
def test_each_algorithm_and_type(s3: Any, bucket: str, algorithm: str, kind: str) -> None:
    """A completion refuses a wrong checksum, size or type; reads and attributes return the right ones."""
    name, target = f"Checksum{algorithm}", {"Bucket": bucket, "Key": "k"}
    made = s3.create_multipart_upload(**target, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    upload = {**target, "UploadId": made["UploadId"]}
    assert (made["ChecksumAlgorithm"], made["ChecksumType"]) == (algorithm, kind)
    parts = []
    for number, body in enumerate(BODIES, 1):
        # boto3 computes CRC32C and CRC64NVME only with a C library, which this project does not install.
        value = {name: checksum_of(algorithm, [body])}
        sent = s3.upload_part(**upload, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm, **value)
        parts.append({"PartNumber": number, "ETag": sent["ETag"], name: sent[name]})
        assert sent[name] == checksum_of(algorithm, [body])
    expected = composite_of(algorithm) if kind == "COMPOSITE" else checksum_of(algorithm, [WHOLE])
    other = "FULL_OBJECT" if kind == "COMPOSITE" else "COMPOSITE"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({name: checksum_of(algorithm, [b"other"])}, "BadDigest"),
        ({"ChecksumType": other}, "BadDigest"),
        ({"MpuObjectSize": 1}, "InvalidRequest"),
    ]
    for claim, code in wrong:
        with pytest.raises(ClientError) as refused:
            s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **claim)
        assert code_of(refused) == (400, code)

    done = s3.complete_multipart_upload(
        **upload,
        MultipartUpload={"Parts": parts},
        **{name: expected, "ChecksumType": kind, "MpuObjectSize": len(WHOLE)},
    )

    head = s3.head_object(**target, ChecksumMode="ENABLED")
    told = s3.get_object_attributes(**target, ObjectAttributes=["Checksum", "ObjectParts", "ObjectSize"])
    assert (done[name], done["ChecksumType"]) == (head[name], head["ChecksumType"]) == (expected, kind)
    assert told["Checksum"] == {name: expected, "ChecksumType": kind}
    assert (told["ObjectParts"]["TotalPartsCount"], told["ObjectSize"]) == (2, len(WHOLE))
    assert [part[name] for part in told["ObjectParts"]["Parts"]] == [part[name] for part in parts]
    assert s3.head_object(**target, PartNumber=2, ChecksumMode="ENABLED")[name] == parts[1][name]
    assert s3.get_object(**target, ChecksumMode="ENABLED")["Body"].read() == WHOLE


@pytest.mark.parametrize(
    "wrong",
    [
        {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "COMPOSITE"},
        {"ChecksumAlgorithm": "SHA256", "ChecksumType": "FULL_OBJECT"},
        {"ChecksumAlgorithm": "SHA1", "ChecksumType": "FULL_OBJECT"},
        {"ChecksumAlgorithm": "SHA512", "ChecksumType": "FULL_OBJECT"},
        {"ChecksumAlgorithm": "MD5", "ChecksumType": "FULL_OBJECT"},
        {"ChecksumType": "FULL_OBJECT"},
    ],
)
def test_types_that_an_algorithm_does_not_have(s3: Any, bucket: str, wrong: dict[str, str]) -> None:
    """CRC64NVME has no composite checksum, hashes have no other, and a type needs an algorithm."""

    def drop_default(params: dict[str, Any], **_: Any) -> None:
        if "ChecksumAlgorithm" not in wrong:
            params["headers"].pop("x-amz-checksum-algorithm", None)

    s3.meta.events.register_last("before-call.s3.CreateMultipartUpload", drop_default)
    try:
        with pytest.raises(ClientError) as refused:
            s3.create_multipart_upload(Bucket=bucket, Key="k", **wrong)
    finally:
        s3.meta.events.unregister("before-call.s3.CreateMultipartUpload", drop_default)
    assert code_of(refused) == (400, "InvalidRequest")


def test_parts_of_a_composite_need_their_sums(s3: Any, bucket: str) -> None:
    """As on AWS, a part with another algorithm, and a completion without a part's checksum, are refused."""
    target = {"Bucket": bucket, "Key": "k"}
    upload = {**target, "UploadId": s3.create_multipart_upload(**target, ChecksumAlgorithm="SHA256")["UploadId"]}
    with pytest.raises(ClientError) as refused:
        s3.upload_part(**upload, PartNumber=1, Body=b"x", ChecksumAlgorithm="CRC32")
    assert code_of(refused) == (400, "InvalidRequest")
    part = s3.upload_part(**upload, PartNumber=1, Body=b"x", ChecksumAlgorithm="SHA256")
    named = {"PartNumber": 1, "ETag": part["ETag"]}
    with pytest.raises(ClientError) as refused:
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [named]})
    assert code_of(refused) == (400, "InvalidRequest")

    named["ChecksumSHA256"] = part["ChecksumSHA256"]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [named]})

    assert s3.get_object(**target)["Body"].read() == b"x"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512", "MD5"])
def test_a_copy_with_a_checksum(s3: Any, bucket: str, algorithm: str) -> None:
    """A copy has the requested checksum, or else one of its source's algorithm, of the whole object."""
    s3.put_object(Bucket=bucket, Key="a", Body=b"123456789", ChecksumAlgorithm="SHA1")
    source = {"Bucket": bucket, "Key": "a"}

    asked = s3.copy_object(Bucket=bucket, Key="b", CopySource=source, ChecksumAlgorithm=algorithm)
    s3.copy_object(Bucket=bucket, Key="c", CopySource=source)

    name = f"Checksum{algorithm}"
    assert asked["CopyObjectResult"][name] == checksum_of(algorithm, [b"123456789"])
    assert s3.head_object(Bucket=bucket, Key="b", ChecksumMode="ENABLED")[name] == asked["CopyObjectResult"][name]
    kept = s3.head_object(Bucket=bucket, Key="c", ChecksumMode="ENABLED")
    assert kept["ChecksumSHA1"] == base64.b64encode(hashlib.sha1(b"123456789").digest()).decode()


def test_a_copy_of_an_object_in_parts_has_a_checksum_of_the_whole(s3: Any, bucket: str) -> None:
    """A copy of a multipart object has its source's algorithm and a full-object checksum, not a composite one."""
    target = {"Bucket": bucket, "Key": "k"}
    upload = {**target, "UploadId": s3.create_multipart_upload(**target, ChecksumAlgorithm="SHA256")["UploadId"]}
    part = s3.upload_part(**upload, PartNumber=1, Body=b"x", ChecksumAlgorithm="SHA256")
    named = {"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [named]})

    s3.copy_object(Bucket=bucket, Key="c", CopySource=target)

    head = s3.head_object(Bucket=bucket, Key="c", ChecksumMode="ENABLED")
    assert (head["ChecksumSHA256"], head["ChecksumType"]) == (part["ChecksumSHA256"], "FULL_OBJECT")
