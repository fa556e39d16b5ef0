"""Multipart uploads with an unmodified boto3: by its transfer manager, and part by part."""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

pytestmark = pytest.mark.sampled(10, group="all")

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import S3Server

FIVE_MB = 5 << 20


def code_of(refused: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = refused.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def multipart_etag(*parts: bytes) -> str:
    return f'"{hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()}-{len(parts)}"'


def base64_crc32(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


@pytest.fixture
def upload(s3: Any, bucket: str) -> dict[str, str]:
    """Start an upload; return the parameters that name it."""
    target = {"Bucket": bucket, "Key": "k"}
    return {**target, "UploadId": s3.create_multipart_upload(**target, Metadata={"m": "1"})["UploadId"]}


def put_parts(s3: Any, upload: dict[str, str], *bodies: bytes) -> list[dict[str, Any]]:
    return [
        {"PartNumber": number, "ETag": s3.upload_part(**upload, PartNumber=number, Body=body)["ETag"]}
        for number, body in enumerate(bodies, 1)
    ]


def test_upload_and_download_of_a_large_file(s3: Any, bucket: str, tmp_path: Path) -> None:
    """boto3's transfer manager uploads parts in parallel and downloads ranges; ETag and properties are S3's."""
    source, target = tmp_path / "source", tmp_path / "target"
    body = os.urandom(20 << 20)
    source.write_bytes(body)
    config = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20, max_concurrency=4)

    s3.upload_file(str(source), bucket, "k", ExtraArgs={"Metadata": {"m": "1"}, "ContentType": "text/x"}, Config=config)
    s3.download_file(bucket, "k", str(target), Config=config)

    head = s3.head_object(Bucket=bucket, Key="k")
    assert target.read_bytes() == body
    assert head["ETag"] == multipart_etag(body[: 8 << 20], body[8 << 20 : 16 << 20], body[16 << 20 :])
    assert (head["Metadata"], head["ContentType"], head["ContentLength"]) == ({"m": "1"}, "text/x", len(body))
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads") is None


def test_parts_are_seen_until_the_upload_ends(s3: Any, upload: dict[str, str], s3_server: S3Server) -> None:
    """Uploads and parts are listed in pages; a part sent again replaces the first; an abort removes everything."""
    before = files(s3_server)
    put_parts(s3, upload, b"1", b"2", b"3")
    again = s3.upload_part(**upload, PartNumber=2, Body=b"two")

    pages = s3.get_paginator("list_parts").paginate(**upload, PaginationConfig={"PageSize": 2})
    parts = [part for page in pages for part in page["Parts"]]
    assert [(part["PartNumber"], part["Size"]) for part in parts] == [(1, 1), (2, 3), (3, 1)]
    assert parts[1]["ETag"] == again["ETag"]
    (listed,) = s3.list_multipart_uploads(Bucket=upload["Bucket"])["Uploads"]
    assert (listed["Key"], listed["UploadId"]) == ("k", upload["UploadId"])
    assert "Contents" not in s3.list_objects_v2(Bucket=upload["Bucket"])
    s3.abort_multipart_upload(**upload)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=upload["Bucket"])
    assert files(s3_server) <= before
    for call in (s3.list_parts, s3.abort_multipart_upload, s3.complete_multipart_upload):
        with pytest.raises(ClientError) as refused:
            call(
                **upload,
                **(
                    {"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": "x"}]}}
                    if "complete" in call.__name__
                    else {}
                ),
            )
        assert code_of(refused) == (404, "NoSuchUpload")


def files(server: S3Server) -> set[Path]:
    return {path for path in server.directory.rglob("*") if path.is_file()}


def test_open_uploads_are_listed_in_pages(s3: Any, bucket: str) -> None:
    """Open uploads of one key and of several are listed once each, in pages and by prefix."""
    made = {
        (key, s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]) for key in ("a/ü", "a/ü", "a/x y", "b")
    }

    def found(**options: Any) -> list[tuple[str, str]]:
        pages = s3.get_paginator("list_multipart_uploads").paginate(
            Bucket=bucket, PaginationConfig={"PageSize": 1}, **options
        )
        return [(one["Key"], one["UploadId"]) for page in pages for one in page.get("Uploads", [])]

    assert len(made) == 4
    assert found() == sorted(made, key=lambda one: (one[0].encode(), one[1]))
    assert {key for key, _ in found(Prefix="a/")} == {"a/ü", "a/x y"}


@pytest.mark.parametrize(
    ("order", "sizes", "code"),
    [
        ([2, 1], (FIVE_MB, 1), "InvalidPartOrder"),
        ([1, 1], (FIVE_MB, 1), "InvalidPartOrder"),
        ([1, 2, 3], (FIVE_MB, FIVE_MB), "InvalidPart"),
        ([1, 2], (FIVE_MB - 1, 1), "EntityTooSmall"),
        ([], (1,), "MalformedXML"),
    ],
)
def test_parts_that_cannot_be_joined(
    s3: Any, upload: dict[str, str], order: list[int], sizes: tuple[int, ...], code: str
) -> None:
    """Parts in a wrong order, unknown parts and small parts are refused, and the upload stays open."""
    sent = {part["PartNumber"]: part for part in put_parts(s3, upload, *(b"x" * size for size in sizes))}
    named = [sent.get(number, {"PartNumber": number, "ETag": '"missing"'}) for number in order]

    with pytest.raises(ClientError) as refused:
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": named})

    assert code_of(refused) == (400, code)
    assert len(s3.list_parts(**upload)["Parts"]) == len(sizes)


def test_wrong_etag_and_wrong_number(s3: Any, upload: dict[str, str]) -> None:
    """A part with another ETag is InvalidPart; part numbers are from 1 to 10,000."""
    put_parts(s3, upload, b"1")
    wrong = [{"PartNumber": 1, "ETag": f'"{"0" * 32}"'}]
    with pytest.raises(ClientError) as refused:
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": wrong})
    assert code_of(refused) == (400, "InvalidPart")
    for number in (0, 10_001):
        with pytest.raises(ClientError) as refused:
            s3.upload_part(**upload, PartNumber=number, Body=b"")
        assert code_of(refused) == (400, "InvalidArgument")


def test_completion_under_conditions(s3: Any, upload: dict[str, str]) -> None:
    """A completion that may only create is refused if the object exists, and leaves the object unchanged."""
    parts = put_parts(s3, upload, b"new")
    target = {"Bucket": upload["Bucket"], "Key": "k"}
    s3.put_object(**target, Body=b"old")
    with pytest.raises(ClientError) as refused:
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*")
    assert code_of(refused) == (412, "PreconditionFailed")
    assert s3.get_object(**target)["Body"].read() == b"old"

    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, IfMatch=s3.head_object(**target)["ETag"])

    assert s3.get_object(**target)["Body"].read() == b"new"


def test_completing_again_answers_the_same(s3: Any, upload: dict[str, str]) -> None:
    """A repeated completion gets the same answer, as long as the object is still the one that it made."""
    parts = {"Parts": put_parts(s3, upload, b"x")}

    first = s3.complete_multipart_upload(**upload, MultipartUpload=parts)
    again = s3.complete_multipart_upload(**upload, MultipartUpload=parts)

    assert first["ETag"] == again["ETag"] == multipart_etag(b"x")
    s3.put_object(Bucket=upload["Bucket"], Key="k", Body=b"other")
    with pytest.raises(ClientError) as refused:
        s3.complete_multipart_upload(**upload, MultipartUpload=parts)
    assert code_of(refused) == (404, "NoSuchUpload")


def test_completion_and_abort_at_once(s3: Any, bucket: str) -> None:
    """Of a completion and an abort at once, one succeeds, and the object exists only if that is the completion."""

    def accepted(call: Callable[..., Any], **parameters: Any) -> bool:
        try:
            call(**parameters)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchUpload":
                raise
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        for turn in range(12):
            target = {"Bucket": bucket, "Key": f"k{turn}"}
            upload = {**target, "UploadId": s3.create_multipart_upload(**target)["UploadId"]}
            parts = {"Parts": put_parts(s3, upload, b"x" * FIVE_MB)}
            completed = pool.submit(accepted, s3.complete_multipart_upload, **upload, MultipartUpload=parts)
            aborted = pool.submit(accepted, s3.abort_multipart_upload, **upload)

            assert {completed.result(), aborted.result()} == {True, False}
            assert ("Contents" in s3.list_objects_v2(Bucket=bucket, Prefix=f"k{turn}")) is completed.result()
            s3.delete_object(**target)


def test_parts_copied_from_objects(s3: Any, upload: dict[str, str]) -> None:
    """UploadPartCopy copies an object or a range of it; an invalid range is refused."""
    bucket = upload["Bucket"]
    s3.put_object(Bucket=bucket, Key="source ü", Body=b"0123456789" + b"x" * FIVE_MB)
    source = {"CopySource": {"Bucket": bucket, "Key": "source ü"}}

    whole = s3.upload_part_copy(**upload, **source, PartNumber=1)["CopyPartResult"]["ETag"]
    part = s3.upload_part_copy(**upload, **source, PartNumber=2, CopySourceRange="bytes=2-4")["CopyPartResult"]["ETag"]
    for wrong in ("bytes=0-99999999", "bytes=5-", "bytes=-5"):
        with pytest.raises(ClientError) as refused:
            s3.upload_part_copy(**upload, **source, PartNumber=3, CopySourceRange=wrong)
        assert code_of(refused) == (400, "InvalidArgument")
    s3.complete_multipart_upload(
        **upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": whole}, {"PartNumber": 2, "ETag": part}]}
    )

    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"0123456789" + b"x" * FIVE_MB + b"234"


def test_one_part_of_an_object(s3: Any, upload: dict[str, str]) -> None:
    """`partNumber` selects a part in GetObject and HeadObject, which also return the number of parts."""
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": put_parts(s3, upload, b"1" * FIVE_MB, b"two")})
    target = {"Bucket": upload["Bucket"], "Key": "k"}

    second, head = s3.get_object(**target, PartNumber=2), s3.head_object(**target, PartNumber=1)

    assert (second["Body"].read(), second["PartsCount"]) == (b"two", 2)
    assert second["ContentRange"] == f"bytes {FIVE_MB}-{FIVE_MB + 2}/{FIVE_MB + 3}"
    assert (head["ContentLength"], head["PartsCount"]) == (FIVE_MB, 2)
    with pytest.raises(ClientError) as refused:
        s3.get_object(**target, PartNumber=3)
    assert code_of(refused)[0] == 416


def test_a_copy_of_an_object_in_parts_has_none(s3: Any, upload: dict[str, str]) -> None:
    """CopyObject makes a multipart object a single one, with the ETag of a single one."""
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": put_parts(s3, upload, b"x")})

    s3.copy_object(Bucket=upload["Bucket"], Key="copy", CopySource=f"{upload['Bucket']}/k")

    assert s3.head_object(Bucket=upload["Bucket"], Key="copy")["ETag"] == f'"{hashlib.md5(b"x").hexdigest()}"'


@pytest.mark.parametrize("kind", ["COMPOSITE", "FULL_OBJECT"])
def test_checksums_of_the_whole(s3: Any, bucket: str, kind: str) -> None:
    """A composite checksum is that of the parts' checksums, a full one that of the content; a wrong one is refused."""
    target = {"Bucket": bucket, "Key": "k"}
    bodies = [b"1" * FIVE_MB, b"2"]
    made = s3.create_multipart_upload(**target, ChecksumAlgorithm="CRC32", ChecksumType=kind)
    upload = {**target, "UploadId": made["UploadId"]}
    parts = put_parts(s3, upload, *bodies)
    if kind == "FULL_OBJECT":
        expected = base64_crc32(b"".join(bodies))
        with pytest.raises(ClientError) as refused:
            s3.complete_multipart_upload(
                **upload, MultipartUpload={"Parts": parts}, ChecksumCRC32=base64_crc32(b""), ChecksumType=kind
            )
        assert code_of(refused) == (400, "BadDigest")
    else:
        expected = base64_crc32(b"".join(base64.b64decode(base64_crc32(body)) for body in bodies)) + "-2"
        wrong = [{**part, "ChecksumCRC32": base64_crc32(b"")} for part in parts]
        with pytest.raises(ClientError) as refused:
            s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": wrong})
        assert code_of(refused) == (400, "InvalidPart")

    named = [{**part, "ChecksumCRC32": base64_crc32(body)} for part, body in zip(parts, bodies, strict=True)]
    done = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": named}, ChecksumCRC32=expected)

    head = s3.head_object(**target, ChecksumMode="ENABLED")
    assert (done["ChecksumCRC32"], done["ChecksumType"]) == (expected, kind)
    assert (head["ChecksumCRC32"], head["ChecksumType"]) == (expected, kind)
    assert s3.get_object(**target, ChecksumMode="ENABLED")["Body"].read() == b"".join(bodies)


def test_a_bucket_with_open_uploads_can_go(s3: Any, upload: dict[str, str]) -> None:
    """A bucket with unfinished uploads can be deleted."""
    put_parts(s3, upload, b"x")

    s3.delete_bucket(Bucket=upload["Bucket"])

    with pytest.raises(ClientError) as refused:
        s3.upload_part(**upload, PartNumber=2, Body=b"")
    assert code_of(refused) == (404, "NoSuchBucket")
