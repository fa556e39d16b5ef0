"""What a socket receives from the S3 server: framing, errors, request IDs, names of operations."""

from __future__ import annotations

import base64
import hashlib
import http.client
import ipaddress
import socket
import zlib
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree as ET

import botocore.session
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from local_sagemaker.s3.operations import operation_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import S3Server

CRC32 = base64.b64encode(zlib.crc32(b"hello world").to_bytes(4, "big")).decode()
SIGNATURE = "0" * 64


def request(
    server: S3Server, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def md5_of(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body).digest()).decode()


def code_in(document: bytes) -> str | None:
    return ET.fromstring(document).findtext("Code")


@pytest.mark.parametrize(
    ("mode", "body", "trailer"),
    [
        pytest.param(
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            f"6;chunk-signature={SIGNATURE}\r\nhello \r\n5;chunk-signature={SIGNATURE}\r\nworld\r\n"
            f"0;chunk-signature={SIGNATURE}\r\n\r\n",
            None,
            id="signed",
        ),
        pytest.param(
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            f"b\r\nhello world\r\n0\r\nx-amz-checksum-crc32:{CRC32}\r\n\r\n",
            "x-amz-checksum-crc32",
            id="unsigned-trailer",
        ),
        pytest.param(
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            f"B;chunk-signature={SIGNATURE}\r\nhello world\r\n0;chunk-signature={SIGNATURE}\r\n"
            f"x-amz-checksum-crc32:{CRC32}\n\r\nx-amz-trailer-signature:{SIGNATURE}\r\n\r\n",
            "x-amz-checksum-crc32",
            id="signed-trailer",
        ),
    ],
)
def test_chunked_bodies(  # noqa: PLR0917 -- fixtures
    s3: Any, s3_server: S3Server, bucket: str, mode: str, body: str, trailer: str | None
) -> None:
    """All three framings yield the payload; the object's encoding does not keep `aws-chunked`, but keeps gzip."""
    headers = {
        "x-amz-content-sha256": mode,
        "x-amz-decoded-content-length": "11",
        "content-encoding": "aws-chunked,gzip",
        **({"x-amz-trailer": trailer} if trailer else {}),
    }

    answer, _ = request(s3_server, "PUT", f"/{bucket}/k", body.encode(), headers)

    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert answer.status == 200
    assert got["Body"].read() == b"hello world"
    assert got["ContentEncoding"] == "gzip"
    assert got["ETag"].strip('"') == hashlib.md5(b"hello world").hexdigest()
    assert got.get("ChecksumCRC32") == (CRC32 if trailer else None)


@pytest.mark.parametrize("encoding", ["aws-chunked", "gzip, aws-chunked", "aws-chunked, gzip"])
@pytest.mark.parametrize("body", [b"", b"hello world"])
def test_an_encoding_does_not_frame_a_body(s3: Any, bucket: str, encoding: str, body: bytes) -> None:
    """Only `x-amz-content-sha256` marks a chunked body; any other body is stored as it is."""
    s3.put_object(Bucket=bucket, Key="k", Body=body, ContentEncoding=encoding)

    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == body
    assert got.get("ContentEncoding") == ("gzip" if "gzip" in encoding else None)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("b\r\nhello-world\r\n0\r\nx-amz-checksum-crc32:{crc}\r\n\r\n", "XAmzContentChecksumMismatch"),
        ("b\r\nhello world\r\n0\r\n\r\n", "IncompleteBody"),
        ("b\r\nhello world\r\n", "IncompleteBody"),
        ("a\r\nhello world\r\n0\r\nx-amz-checksum-crc32:{crc}\r\n\r\n", "IncompleteBody"),
        ("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:{crc}\r\n\r\n", "IncompleteBody"),
        ("-b\r\nhello world\r\n0\r\n\r\n", "IncompleteBody"),
        ("zz\r\nhello world\r\n0\r\n\r\n", "IncompleteBody"),
        ("x" * 40_000, "IncompleteBody"),
        ("b\r\nhello world\r\n0\r\nx-amz-checksum-crc32:nonsense\r\n\r\n", "InvalidRequest"),
    ],
)
def test_broken_chunked_bodies(s3: Any, s3_server: S3Server, bucket: str, body: str, code: str) -> None:
    """A wrong trailer, a wrong length or a broken framing refuses the put, and nothing is stored."""
    headers = {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "11",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }

    answer, document = request(s3_server, "PUT", f"/{bucket}/k", body.format(crc=CRC32).encode(), headers)

    assert (answer.status, code_in(document)) == (400, code)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize(
    ("named", "checksums", "refusal"),
    [
        ("CRC32", {}, b"no corresponding x-amz-checksum-* or x-amz-trailer headers were found"),
        ("SHA256", {"x-amz-checksum-crc32": CRC32}, b"Value for x-amz-sdk-checksum-algorithm header is invalid"),
        ("nonsense", {"x-amz-checksum-crc32": CRC32}, b"Value for x-amz-sdk-checksum-algorithm header is invalid"),
        ("crc32", {"x-amz-checksum-crc32": CRC32}, b""),
    ],
)
@pytest.mark.parametrize("path", ["k", "k?partNumber=1&uploadId={upload}"])
def test_a_checksum_that_is_named_must_come(  # noqa: PLR0917 -- fixtures
    s3: Any, s3_server: S3Server, bucket: str, named: str, checksums: dict[str, str], refusal: bytes, path: str
) -> None:
    """The checksum that `x-amz-sdk-checksum-algorithm` names must be sent."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    headers = {"x-amz-sdk-checksum-algorithm": named, **checksums}

    answer, told = request(s3_server, "PUT", f"/{bucket}/{path.format(upload=upload)}", b"hello world", headers)

    expected = (400, "InvalidRequest") if refusal else (200, None)
    assert (answer.status, code_in(told) if told else None) == expected
    assert refusal in told


@pytest.mark.parametrize("how", ["content-md5", "header", "trailer"])
@pytest.mark.parametrize(
    ("method", "where", "document"),
    [
        ("POST", "?delete", b"<Delete><Object><Key>none</Key></Object></Delete>"),
        ("PUT", "/k?tagging", b"<Tagging><TagSet/></Tagging>"),
        ("PUT", "?tagging", b"<Tagging><TagSet/></Tagging>"),
    ],
)
def test_documents_come_with_a_checksum(  # noqa: PLR0917 -- fixtures
    s3: Any, s3_server: S3Server, bucket: str, method: str, where: str, document: bytes, how: str
) -> None:
    """A document whose operation requires a checksum in botocore's model is refused without one."""
    s3.put_object(Bucket=bucket, Key="k")
    crc = base64.b64encode(zlib.crc32(document).to_bytes(4, "big")).decode()
    framed = b"%x\r\n%b\r\n0\r\nx-amz-checksum-crc32:%b\r\n\r\n" % (len(document), document, crc.encode())
    streamed = {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-trailer": "x-amz-checksum-crc32"}
    headers = {"content-md5": {"content-md5": md5_of(document)}, "header": {"x-amz-checksum-crc32": crc}}

    bare, told = request(s3_server, method, f"/{bucket}{where}", document)
    sent = framed if how == "trailer" else document
    with_it, _ = request(s3_server, method, f"/{bucket}{where}", sent, headers.get(how, streamed))

    assert (bare.status, code_in(told)) == (400, "InvalidRequest")
    assert b"Missing required header for this request: Content-MD5" in told
    assert with_it.status in (200, 204)


def test_a_bucket_policy_needs_no_checksum(s3_server: S3Server, bucket: str) -> None:
    """A bucket policy needs no checksum, as on AWS: minio-go sends none."""
    policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:*", '
    policy += f'"Resource": "arn:aws:s3:::{bucket}/x"}}]}}'

    assert request(s3_server, "PUT", f"/{bucket}?policy", policy.encode())[0].status == 204


@pytest.mark.parametrize(
    ("name", "wrong", "code", "right"),
    [
        ("x-amz-website-redirect-location", "ftp://x", "InvalidRedirectLocation", "/other"),
        ("x-amz-website-redirect-location", "other", "InvalidRedirectLocation", "https://x/"),
        ("x-amz-server-side-encryption-bucket-key-enabled", "maybe", "InvalidArgument", "true"),
        ("x-amz-tagging", "aws:x=1", "InvalidTag", "my:aws=1"),
        ("x-amz-tagging", "AWS:x=1", "InvalidTag", "aws=1"),
        ("x-amz-tagging", "a%2Cb=1", "InvalidTag", "a%20%2Bb-%3D._:/%40%C3%BC=1"),
        ("x-amz-tagging", "a=1%262", "InvalidTag", "a=1%202"),
        ("x-amz-tagging", "a=%F0%9F%98%80", "InvalidTag", "a="),
    ],
)
def test_values_that_s3_does_not_take(  # noqa: PLR0917 -- fixtures
    s3_server: S3Server, bucket: str, name: str, wrong: str, code: str, right: str
) -> None:
    """An invalid value is a 400 with AWS's error code, and a similar valid value is accepted."""
    refused, told = request(s3_server, "PUT", f"/{bucket}/k", b"x", {name: wrong})
    taken, _ = request(s3_server, "PUT", f"/{bucket}/k", b"x", {name: right})

    assert (refused.status, code_in(told), taken.status) == (400, code, 200)


@pytest.mark.parametrize("crc", [CRC32, "AAAAAA=="])
@pytest.mark.parametrize("announced", [{}, {"x-amz-trailer": "x-amz-checksum-crc32c"}])
def test_a_trailer_that_was_not_announced(
    s3: Any, s3_server: S3Server, bucket: str, crc: str, announced: dict[str, str]
) -> None:
    """A trailing checksum that was not announced is refused, right or wrong, and nothing is stored."""
    headers = {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-decoded-content-length": "11"}
    body = f"b\r\nhello world\r\n0\r\nx-amz-checksum-crc32:{crc}\r\n\r\n".encode()

    answer, document = request(s3_server, "PUT", f"/{bucket}/k", body, {**headers, **announced})

    assert (answer.status, code_in(document)) == (400, "MalformedTrailerError")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_chunks_may_be_cut_anywhere(s3: Any, s3_server: S3Server, bucket: str) -> None:
    """A framed body that arrives byte by byte is read as one that arrives at once."""
    body = f"6\r\nhello \r\n5\r\nworld\r\n0\r\nx-amz-checksum-crc32:{CRC32}\r\n\r\n".encode()
    head = (
        f"PUT /{bucket}/k HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nx-amz-decoded-content-length: 11\r\n"
        "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\nx-amz-trailer: x-amz-checksum-crc32\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", s3_server.port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head.encode())
        for byte in body:
            connection.sendall(bytes([byte]))
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")

    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"hello world"


def test_trailing_checksums_of_boto3(make_s3_server: Callable[..., S3Server], tmp_path: Any) -> None:
    """Over TLS, boto3 sends its checksum in a trailer; it is verified and can be read back."""
    server = make_s3_server(certificate=_certificate(tmp_path / "server.pem"))
    client = server.client()
    sent: list[Any] = []
    client.meta.events.register("before-send.s3.PutObject", lambda request, **_: sent.append(dict(request.headers)))
    client.create_bucket(Bucket="data")

    client.put_object(Bucket="data", Key="k", Body=b"hello world")

    assert sent[0]["X-Amz-Trailer"] in (b"x-amz-checksum-crc32", "x-amz-checksum-crc32")
    got = client.get_object(Bucket="data", Key="k", ChecksumMode="ENABLED")
    assert (got["Body"].read(), got["ChecksumCRC32"]) == (b"hello world", CRC32)
    client.close()


def _certificate(path: Any) -> Any:
    """Write a self-signed certificate for 127.0.0.1 with its key; return the path."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + certificate.public_bytes(pem))
    return path


def test_the_digest_of_the_signature_is_checked(s3: Any, s3_server: S3Server, bucket: str) -> None:
    """A body that does not match `x-amz-content-sha256` is refused."""
    headers = {"x-amz-content-sha256": hashlib.sha256(b"other").hexdigest()}

    answer, document = request(s3_server, "PUT", f"/{bucket}/k", b"x", headers)

    assert (answer.status, code_in(document)) == (400, "XAmzContentSHA256Mismatch")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_expect_continue(s3: Any, s3_server: S3Server, bucket: str) -> None:
    """A client that waits for "100 Continue" receives it, and then its response."""
    with socket.create_connection(("127.0.0.1", s3_server.port), timeout=30) as connection:
        connection.sendall(
            f"PUT /{bucket}/k HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(b"body")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")

    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"body"


def test_a_refused_body_does_not_cost_the_connection(s3_server: S3Server, bucket: str) -> None:
    """After an error in the middle of a large body, the same connection serves the next request."""
    connection = http.client.HTTPConnection("127.0.0.1", s3_server.port, timeout=30)
    connection.request("PUT", "/nowhere-at-all/k", b"x" * 5_000_000)
    refused = connection.getresponse()

    assert (refused.status, code_in(refused.read())) == (404, "NoSuchBucket")
    connection.request("PUT", f"/{bucket}/k", b"x")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_body_beyond_s3s_limit_is_not_read(s3_server: S3Server, bucket: str) -> None:
    """A put of more than 5 GiB is refused by its Content-Length."""
    with socket.create_connection(("127.0.0.1", s3_server.port), timeout=30) as connection:
        connection.sendall(f"PUT /{bucket}/k HTTP/1.1\r\nHost: x\r\nContent-Length: {(5 << 30) + 1}\r\n\r\n".encode())
        answer = connection.makefile("rb").read()  # until the server closes the connection

    assert answer.startswith(b"HTTP/1.1 400")
    assert b"<Code>EntityTooLarge</Code>" in answer


def test_length_must_be_told(s3: Any, s3_server: S3Server, bucket: str) -> None:
    """As on AWS, neither a body without a length nor HTTP's chunked encoding is accepted."""
    connection = http.client.HTTPConnection("127.0.0.1", s3_server.port, timeout=30)
    connection.putrequest("PUT", f"/{bucket}/k")
    connection.endheaders()
    silent = connection.getresponse()
    assert (silent.status, code_in(silent.read())) == (411, "MissingContentLength")
    connection.close()

    # In one piece: the server answers after the headers and closes, so a second piece might be rejected.
    head = f"PUT /{bucket}/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", s3_server.port), timeout=30) as raw:
        raw.sendall(head.encode() + b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
        chunked = http.client.HTTPResponse(raw)
        chunked.begin()
        assert (chunked.status, code_in(chunked.read())) == (501, "NotImplemented")

    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_every_answer_has_its_ids(s3_server: S3Server, bucket: str) -> None:
    """Every response, also an error, has its own request ID, and the error document repeats it."""
    first, _ = request(s3_server, "GET", f"/{bucket}")
    second, document = request(s3_server, "GET", f"/{bucket}/a%20b")

    tree = ET.fromstring(document)
    assert second.headers["Content-Type"] == "application/xml"
    assert tree.tag == "Error"
    assert {child.tag: child.text for child in tree} == {
        "Code": "NoSuchKey",
        "Message": "The specified key does not exist.",
        "Key": "a b",
        "BucketName": bucket,
        "Resource": f"/{bucket}/a%20b",
        "RequestId": second.headers["x-amz-request-id"],
        "HostId": second.headers["x-amz-id-2"],
    }
    assert first.headers["x-amz-request-id"] not in (None, second.headers["x-amz-request-id"])


@pytest.mark.parametrize(
    ("method", "path", "operation", "status"),
    [
        ("GET", "/", "ListBuckets", 200),
        ("GET", "/{bucket}?list-type=2", "ListObjectsV2", 200),
        ("GET", "/{bucket}/k", "GetObject", 404),
        ("GET", "/{bucket}?versions", "ListObjectVersions", 200),
        ("GET", "/{bucket}?metrics&id=x", "GetBucketMetricsConfiguration", 501),
        ("PUT", "/{bucket}/k?encryption", "UpdateObjectEncryption", 501),
        ("PUT", "/{bucket}/k?uploadId=u", "Unknown", 501),
        ("POST", "/{bucket}", "Unknown", 501),
        ("PATCH", "/{bucket}/k", "Unknown", 501),
        ("GET", "/{bucket}/%ff", "Unknown", 400),
    ],
)
def test_the_mounting_server_learns_the_operation(  # noqa: PLR0917 -- fixtures
    s3_server: S3Server, bucket: str, method: str, path: str, operation: str, status: int
) -> None:
    """`scope["aws.operation"]` names the operation, even if it fails or is not implemented."""
    answer, _ = request(s3_server, method, path.format(bucket=bucket))

    assert (answer.headers["x-test-operation"], answer.status) == (operation, status)


def test_operations_are_told_apart_as_botocore_does() -> None:
    """Each operation of botocore's model is recognized by its minimal request.

    If two names share a request (a deprecated one and its successor), it is the successor. Two have other endpoints.
    """
    successors = {
        "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
        "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
        "GetBucketNotification": "GetBucketNotificationConfiguration",
        "PutBucketNotification": "PutBucketNotificationConfiguration",
        "ListDirectoryBuckets": "ListBuckets",
        "WriteGetObjectResponse": "Unknown",
    }
    model = botocore.session.get_session().get_service_model("s3")
    for name in model.operation_names:
        operation = model.operation_model(name)
        path, _, fixed = operation.http["requestUri"].partition("?")
        query, headers = dict(parse_qsl(fixed, keep_blank_values=True)), set()
        for member in operation.input_shape.required_members if operation.input_shape else ():
            place = operation.input_shape.members[member].serialization
            if place.get("location") == "querystring":
                query[place["name"]] = "1"
            elif place.get("location") == "header":
                headers.add(place["name"].lower())
        bucket, key = ("b" if "{Bucket}" in path else ""), ("k" if "{Key+}" in path else "")

        assert operation_of(operation.http["method"], bucket, key, query, headers) == successors.get(name, name)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<Delete>",
        b"<Other/>",
        b"<Delete></Delete>",
        b"<Delete><Object></Object></Delete>",
        b"<Delete><Object><Key>k</Key></Object><Object><Key/></Object></Delete>",
        b'<!DOCTYPE d [<!ENTITY e "x">]><Delete><Object><Key>&e;</Key></Object></Delete>',
        b'<?xml version="1.0" encoding="nonsense"?><Delete/>',
        b"<Delete>" + b"<Object><Key>k</Key></Object>" * 1001 + b"</Delete>",
    ],
)
def test_malformed_documents(s3_server: S3Server, bucket: str, document: bytes) -> None:
    """A document that is not valid for its operation is MalformedXML; entities are not resolved."""
    answer, refusal = request(s3_server, "POST", f"/{bucket}?delete", document, {"content-md5": md5_of(document)})

    assert (answer.status, code_in(refusal)) == (400, "MalformedXML")


def test_metadata_beyond_ascii(s3: Any, s3_server: S3Server, bucket: str) -> None:
    """Header bytes that are not ASCII are returned by RFC 2047, as S3 does."""
    request(s3_server, "PUT", f"/{bucket}/k", b"x", {"x-amz-meta-name": "j\u00fcrgen"})

    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"]["name"].startswith("=?UTF-8?B?")
