"""Objects over HTTP with an unmodified boto3: put, get, head, copy, delete, conditions, presigned URLs."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import urllib.error
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

pytestmark = pytest.mark.sampled(15, group="all")

KEYS = [
    "../../etc/passwd",
    "/leading",
    "a//b",
    "dir/",
    ".",
    "..",
    "a b+c%20d&e=f?g#h;i:j@k!$'()*,",
    "ünï/日本/😀",
    "%2F",
    "tab\tnew\nline\rreturn",
    "x" * 1024,
    "ü" * 512,
]


def code_of(refused: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    """Return the status and code of an error."""
    response = refused.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def body_of(answer: dict[str, Any]) -> bytes:
    content: bytes = answer["Body"].read()
    return content


def test_an_object_comes_back_as_it_went(s3: Any, bucket: str) -> None:
    """Get and head return content, type, content headers and metadata as they were put; the ETag is the MD5."""
    given = {
        "ContentType": "text/csv",
        "CacheControl": "no-cache",
        "ContentDisposition": 'attachment; filename="x.csv"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "Metadata": {"owner": "me", "fingerprint": "abc"},
        "ServerSideEncryption": "AES256",
    }
    put = s3.put_object(Bucket=bucket, Key="a/b.csv", Body=b"1,2\n", Tagging="team=ml&stage=", **given)

    got, head = s3.get_object(Bucket=bucket, Key="a/b.csv"), s3.head_object(Bucket=bucket, Key="a/b.csv")

    assert body_of(got) == b"1,2\n"
    assert put["ETag"].strip('"') == hashlib.md5(b"1,2\n").hexdigest()
    assert put["ETag"] == got["ETag"] == head["ETag"]
    assert put["ServerSideEncryption"] == "AES256"
    for answer in (got, head):
        assert {name: answer[name] for name in given} == given
        assert (answer["ContentLength"], answer["AcceptRanges"]) == (4, "bytes")
        assert abs(answer["LastModified"] - datetime.now(timezone.utc)) < timedelta(minutes=5)
    assert s3.get_object_tagging(Bucket=bucket, Key="a/b.csv")["TagSet"] == [
        {"Key": "team", "Value": "ml"},
        {"Key": "stage", "Value": ""},
    ]


def test_defaults(s3: Any, bucket: str) -> None:
    """An empty object without headers has S3's default type and no metadata."""
    s3.put_object(Bucket=bucket, Key="empty")

    got = s3.get_object(Bucket=bucket, Key="empty")

    assert (body_of(got), got["ContentType"], got["Metadata"]) == (b"", "binary/octet-stream", {})


@pytest.mark.parametrize("key", KEYS)
def test_any_key_goes_through_all_operations(s3: Any, bucket: str, key: str) -> None:
    """Put, get, list, copy and both deletions keep keys byte for byte."""
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})

    assert body_of(s3.get_object(Bucket=bucket, Key=key)) == key.encode()
    assert body_of(s3.get_object(Bucket=bucket, Key="copy")) == key.encode()
    assert {one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]} == {key, "copy"}
    s3.delete_object(Bucket=bucket, Key="copy")
    deleted = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}]})
    assert deleted["Deleted"] == [{"Key": key}]
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize(
    ("asked", "expected", "content_range"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=7-99", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ("bytes=4-2", b"0123456789", None),
        ("bytes=0-1,4-5", b"0123456789", None),
        ("lines=0-1", b"0123456789", None),
    ],
)
def test_ranges(s3: Any, bucket: str, asked: str, expected: bytes, content_range: str | None) -> None:
    """A single range is served with 206; several ranges, or what is not a range, return the whole object."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")

    got, head = (call(Bucket=bucket, Key="k", Range=asked) for call in (s3.get_object, s3.head_object))

    assert body_of(got) == expected
    assert got["ResponseMetadata"]["HTTPStatusCode"] == (206 if content_range else 200)
    assert got.get("ContentRange") == content_range
    assert (head["ContentLength"], head.get("ContentRange")) == (len(expected), content_range)


@pytest.mark.parametrize(
    ("body", "asked"), [(b"0123456789", "bytes=10-"), (b"0123456789", "bytes=-0"), (b"", "bytes=0-")]
)
def test_ranges_that_no_body_has(s3: Any, bucket: str, body: bytes, asked: str) -> None:
    """A range after the end of the object, or an empty one, is 416."""
    s3.put_object(Bucket=bucket, Key="k", Body=body)

    with pytest.raises(ClientError) as refused:
        s3.get_object(Bucket=bucket, Key="k", Range=asked)

    assert code_of(refused) == (416, "InvalidRange")


@pytest.mark.parametrize("digits", ["9" * 21, "9" * 5000])
def test_ranges_of_numbers_that_no_size_has(s3: Any, bucket: str, digits: str) -> None:
    """A range that ends after the object is cut at its end; one that starts there is 416."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")

    for asked in (f"bytes=8-{digits}", f"bytes=-{digits}", f"bytes={'0' * 5000}8-9"):
        got = s3.get_object(Bucket=bucket, Key="k", Range=asked)
        assert (got["ResponseMetadata"]["HTTPStatusCode"], got["Body"].read()[-2:]) == (206, b"89")
    with pytest.raises(ClientError) as refused:
        s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={digits}-")

    assert code_of(refused) == (416, "InvalidRange")


def test_conditional_reads(s3: Any, bucket: str) -> None:
    """The four conditions of get and head apply, alone and where one takes precedence over another."""
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    now = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    before, later = now - timedelta(seconds=1), now + timedelta(seconds=1)
    passing: list[dict[str, Any]] = [
        {"IfMatch": etag},
        {"IfMatch": "*"},
        {"IfNoneMatch": '"other"'},
        {"IfModifiedSince": before},
        {"IfUnmodifiedSince": now},
        {"IfMatch": etag, "IfUnmodifiedSince": before},
        {"IfNoneMatch": '"other"', "IfModifiedSince": later},
    ]
    failing: list[tuple[dict[str, Any], int]] = [
        ({"IfMatch": '"other"'}, 412),
        ({"IfUnmodifiedSince": before}, 412),
        ({"IfNoneMatch": etag}, 304),
        ({"IfModifiedSince": now}, 304),
        ({"IfNoneMatch": etag, "IfModifiedSince": before}, 304),
    ]

    for conditions in passing:
        assert body_of(s3.get_object(Bucket=bucket, Key="k", **conditions)) == b"x"
    for conditions, status in failing:
        for call in (s3.get_object, s3.head_object):
            with pytest.raises(ClientError) as refused:
                call(Bucket=bucket, Key="k", **conditions)
            assert code_of(refused)[0] == status


def test_conditional_writes(s3: Any, bucket: str) -> None:
    """Put, copy and delete with a failed condition change nothing, and have S3's error codes."""
    target = {"Bucket": bucket, "Key": "k"}
    etag = s3.put_object(**target, Body=b"1", IfNoneMatch="*")["ETag"]
    source = {"CopySource": f"{bucket}/k"}
    refusals = [
        (lambda: s3.put_object(**target, Body=b"2", IfNoneMatch="*"), (412, "PreconditionFailed")),
        (lambda: s3.put_object(**target, Body=b"2", IfMatch='"other"'), (412, "PreconditionFailed")),
        (lambda: s3.put_object(Bucket=bucket, Key="new", Body=b"2", IfMatch=etag), (404, "NoSuchKey")),
        (lambda: s3.put_object(**target, Body=b"2", IfNoneMatch=etag), (501, "NotImplemented")),
        (lambda: s3.delete_object(**target, IfMatch='"other"'), (412, "PreconditionFailed")),
        (
            lambda: s3.copy_object(Bucket=bucket, Key="c", **source, CopySourceIfMatch='"other"'),
            (412, "PreconditionFailed"),
        ),
        (
            lambda: s3.copy_object(Bucket=bucket, Key="c", **source, CopySourceIfNoneMatch=etag),
            (412, "PreconditionFailed"),
        ),
        (
            lambda: s3.copy_object(**target, **source, IfNoneMatch="*", MetadataDirective="REPLACE"),
            (412, "PreconditionFailed"),
        ),
    ]

    for call, expected in refusals:
        with pytest.raises(ClientError) as refused:
            call()
        assert code_of(refused) == expected
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]
    assert body_of(s3.get_object(**target)) == b"1"

    etag = s3.put_object(**target, Body=b"2", IfMatch=etag)["ETag"]
    s3.copy_object(Bucket=bucket, Key="c", **source, CopySourceIfMatch=etag, IfNoneMatch="*")
    s3.delete_object(**target, IfMatch=etag)
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["c"]


def test_racing_conditional_writes_have_one_winner(s3: Any, bucket: str) -> None:
    """In 50 rounds of 20 writers, which create or replace in turn, one writer wins, and its content is stored."""

    def attempt(number: int, key: str, condition: dict[str, str]) -> int | None:
        try:
            s3.put_object(Bucket=bucket, Key=key, Body=str(number).encode(), **condition)
        except ClientError as error:
            if error.response["Error"]["Code"] != "PreconditionFailed":
                raise
            return None
        return number

    with ThreadPoolExecutor(20) as pool:
        for turn in range(50):
            key = f"k{turn // 2}"
            known = s3.head_object(Bucket=bucket, Key=key)["ETag"] if turn % 2 else None
            condition = {"IfMatch": known} if known else {"IfNoneMatch": "*"}
            # Numbers differ in every round: equal content would keep the ETag, and a second winner would be correct.
            numbers = range(turn * 100, turn * 100 + 20)
            results = pool.map(attempt, numbers, [key] * 20, [condition] * 20)
            winners = [number for number in results if number is not None]

            assert len(winners) == 1
            assert body_of(s3.get_object(Bucket=bucket, Key=key)) == str(winners[0]).encode()


def test_copy_keeps_or_replaces_what_is_said_of_the_object(s3: Any, bucket: str) -> None:
    """A copy has its source's type, metadata and tags unless the directives replace them, and outlives its source."""
    s3.put_object(
        Bucket=bucket, Key="a", Body=b"x", ContentType="text/a", Metadata={"m": "1"}, Tagging="t=1", CacheControl="c"
    )
    source = {"Bucket": bucket, "Key": "a"}
    s3.create_bucket(Bucket=f"{bucket}-2")

    copied = s3.copy_object(Bucket=f"{bucket}-2", Key="kept", CopySource=source)
    s3.copy_object(
        Bucket=bucket,
        Key="replaced",
        CopySource=source,
        MetadataDirective="REPLACE",
        Metadata={"m": "2"},
        TaggingDirective="REPLACE",
        Tagging="t=2",
    )
    s3.delete_object(**source)

    kept = s3.get_object(Bucket=f"{bucket}-2", Key="kept")
    replaced = s3.get_object(Bucket=bucket, Key="replaced")
    assert copied["CopyObjectResult"]["ETag"] == kept["ETag"] == replaced["ETag"]
    assert (body_of(kept), kept["ContentType"], kept["Metadata"], kept["CacheControl"]) == (
        b"x",
        "text/a",
        {"m": "1"},
        "c",
    )
    assert (body_of(replaced), replaced["ContentType"], replaced["Metadata"]) == (
        b"x",
        "binary/octet-stream",
        {"m": "2"},
    )
    assert "CacheControl" not in replaced
    for where, value in (({"Bucket": f"{bucket}-2", "Key": "kept"}, "1"), ({"Bucket": bucket, "Key": "replaced"}, "2")):
        assert s3.get_object_tagging(**where)["TagSet"] == [{"Key": "t", "Value": value}]


def test_copy_onto_itself(s3: Any, bucket: str) -> None:
    """A copy onto itself can replace metadata, and is refused if it would change nothing."""
    target = {"Bucket": bucket, "Key": "a"}
    s3.put_object(**target, Body=b"x")
    with pytest.raises(ClientError) as refused:
        s3.copy_object(**target, CopySource=target)

    s3.copy_object(**target, CopySource=target, MetadataDirective="REPLACE", Metadata={"m": "1"})

    assert code_of(refused) == (400, "InvalidRequest")
    got = s3.get_object(**target)
    assert (body_of(got), got["Metadata"]) == (b"x", {"m": "1"})


def test_delete_objects_tells_of_each(s3: Any, bucket: str) -> None:
    """Missing keys count as deleted, a failed condition is a separate error, and `Quiet` returns only errors."""
    for key in "abcd":
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())

    told = s3.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "missing"}, {"Key": "b", "ETag": '"other"'}]}
    )
    quiet = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "c"}], "Quiet": True})

    assert told["Deleted"] == [{"Key": "a"}, {"Key": "missing"}]
    assert [(one["Key"], one["Code"]) for one in told["Errors"]] == [("b", "PreconditionFailed")]
    assert "Deleted" not in quiet
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["b", "d"]


def test_tags_of_an_object(s3: Any, bucket: str) -> None:
    """Tags are set and removed without a change of the object; invalid ones are refused."""
    target = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**target, Body=b"x")
    s3.put_object_tagging(**target, Tagging={"TagSet": [{"Key": "a", "Value": "ü"}, {"Key": "b", "Value": ""}]})

    assert s3.head_object(**target)["ResponseMetadata"]["HTTPHeaders"]["x-amz-tagging-count"] == "2"
    assert s3.get_object_tagging(**target)["TagSet"] == [{"Key": "a", "Value": "ü"}, {"Key": "b", "Value": ""}]
    with pytest.raises(ClientError) as refused:
        s3.put_object_tagging(**target, Tagging={"TagSet": [{"Key": "a", "Value": "x"}, {"Key": "a", "Value": "y"}]})
    assert code_of(refused) == (400, "InvalidTag")
    s3.delete_object_tagging(**target)
    assert s3.get_object_tagging(**target)["TagSet"] == []


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512", "MD5"])
def test_checksums_are_verified_and_given_back(s3: Any, bucket: str, algorithm: str) -> None:
    """A right checksum is stored and returned on request; a wrong one refuses the put, and nothing is stored."""
    body = b"123456789"
    # https://reveng.sourceforge.io/crc-catalogue/all.htm gives the check values of the two that Python lacks.
    digest = {
        "CRC32": zlib.crc32(body).to_bytes(4, "big"),
        "CRC32C": bytes.fromhex("e3069283"),
        "CRC64NVME": bytes.fromhex("ae8b14860a799888"),
    }.get(algorithm) or hashlib.new(algorithm, body).digest()
    name, target = f"Checksum{algorithm}", {"Bucket": bucket, "Key": "k"}
    with pytest.raises(ClientError) as refused:
        s3.put_object(**target, Body=b"changed!!", **{name: base64.b64encode(digest).decode()})
    assert code_of(refused) == (400, "BadDigest")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)

    put = s3.put_object(**target, Body=body, **{name: base64.b64encode(digest).decode()})

    assert put[name] == base64.b64encode(digest).decode()
    for call in (s3.get_object, s3.head_object):
        assert call(**target, ChecksumMode="ENABLED")[name] == put[name]
        assert call(**target, ChecksumMode="ENABLED")["ChecksumType"] == "FULL_OBJECT"
    assert name not in s3.get_object(**target, ChecksumMode="ENABLED", Range="bytes=0-3")


def test_content_md5(s3: Any, bucket: str) -> None:
    """A wrong Content-MD5, and one that is not a digest, refuse the put."""
    right, wrong = (base64.b64encode(hashlib.md5(one).digest()).decode() for one in (b"x", b"y"))
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentMD5=right)
    for value, expected in ((wrong, "BadDigest"), ("nonsense", "InvalidDigest")):
        with pytest.raises(ClientError) as refused:
            s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentMD5=value)
        assert code_of(refused) == (400, expected)


def test_presigned_addresses(s3: Any, bucket: str) -> None:
    """A presigned URL puts and gets an object without credentials, and can override response headers."""
    target = {"Bucket": bucket, "Key": "a b/ü"}
    put = urllib.request.Request(s3.generate_presigned_url("put_object", target), data=b"x", method="PUT")
    with urllib.request.urlopen(put) as answer:
        assert answer.status == 200
    address = s3.generate_presigned_url(
        "get_object",
        {**target, "ResponseContentType": "text/x", "ResponseContentDisposition": 'attachment; filename="f"'},
    )

    with urllib.request.urlopen(address) as answer:
        content, headers = answer.read(), answer.headers

    assert content == b"x"
    assert (headers["Content-Type"], headers["Content-Disposition"]) == ("text/x", 'attachment; filename="f"')


def test_headers_cannot_be_broken_out_of(s3: Any, bucket: str) -> None:
    """A header override with a line break is refused, not sent."""
    target = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**target, Body=b"x")
    address = urlsplit(
        s3.generate_presigned_url("get_object", {**target, "ResponseContentType": "text/x\r\nX-Injected: 1"})
    )
    connection = http.client.HTTPConnection(address.netloc)

    connection.request("GET", f"{address.path}?{address.query}")
    answer = connection.getresponse()

    assert (answer.status, answer.headers["X-Injected"]) == (400, None)
    assert b"<Code>InvalidArgument</Code>" in answer.read()
    connection.close()


def test_not_found(s3: Any, bucket: str) -> None:
    """Each missing or invalid thing has S3's error code; HeadObject returns only the status."""
    refusals = [
        (lambda: s3.get_object(Bucket=bucket, Key="k"), (404, "NoSuchKey")),
        (lambda: s3.head_object(Bucket=bucket, Key="k"), (404, "404")),
        (lambda: s3.get_object(Bucket="nowhere-at-all", Key="k"), (404, "NoSuchBucket")),
        (lambda: s3.put_object(Bucket="nowhere-at-all", Key="k", Body=b"x" * 3_000_000), (404, "NoSuchBucket")),
        (lambda: s3.copy_object(Bucket=bucket, Key="k", CopySource=f"{bucket}/none"), (404, "NoSuchKey")),
        (lambda: s3.get_object(Bucket=bucket, Key="k", VersionId="v1"), (400, "InvalidArgument")),
        (lambda: s3.put_object(Bucket=bucket, Key="x" * 1025), (400, "KeyTooLongError")),
        (lambda: s3.put_object(Bucket=bucket, Key="k", Metadata={"m": "x" * 2048}), (400, "MetadataTooLarge")),
    ]
    for call, expected in refusals:
        with pytest.raises(ClientError) as refused:
            call()
        assert code_of(refused) == expected


def test_owner_is_checked(s3: Any, bucket: str) -> None:
    """A request that expects another bucket owner is refused; one that expects the right owner is accepted."""
    mine, other = {"ExpectedBucketOwner": "123456789012"}, {"ExpectedBucketOwner": "210987654321"}
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", **mine)
    for call in (
        lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"y", **other),
        lambda: s3.get_object(Bucket=bucket, Key="k", **other),
        lambda: s3.list_objects_v2(Bucket=bucket, **other),
    ):
        with pytest.raises(ClientError) as refused:
            call()
        assert code_of(refused) == (403, "AccessDenied")

    assert body_of(s3.get_object(Bucket=bucket, Key="k", **mine)) == b"x"


def test_bodies_around_the_size_of_a_block(s3: Any, bucket: str) -> None:
    """Content of about a block's size, and of several blocks, is stored and returned unchanged."""
    for size in (262_143, 262_145, 1_048_576, 1_048_577, 5_000_000):
        body = bytes(range(251)) * (size // 251 + 1)
        s3.put_object(Bucket=bucket, Key="k", Body=io.BytesIO(body[:size]))

        assert body_of(s3.get_object(Bucket=bucket, Key="k")) == body[:size]


def test_a_put_that_is_refused_before_its_body_does_not_harm_the_next_request(s3, bucket):
    """A put that is refused before its body does not affect the next request on its connection.

    boto3 sends the body only after "100 Continue", so the server must not read the next request as this body.
    """
    for _ in range(3):
        with pytest.raises(ClientError) as refused:
            s3.put_object(Bucket=bucket, Key="k", Body=b"v", ExpectedBucketOwner="000000000000")
        assert refused.value.response["Error"]["Code"] == "AccessDenied"

    s3.put_object(Bucket=bucket, Key="k", Body=b"v")
