"""Forms with a file: the reader, the policy, and S3's responses."""

from __future__ import annotations

import base64
import http.client
import json
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.filepost import encode_multipart_formdata

from local_sagemaker.s3.errors import AccessDenied, InvalidPolicyDocument, MalformedPOSTRequest, S3Error
from local_sagemaker.s3.forms import FormReader, boundary_of
from local_sagemaker.s3.post_policy import Lengths, check_expiry, check_form

if TYPE_CHECKING:
    from conftest import S3Server

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
LATER = "2026-01-01T01:00:00Z"


def policy(*conditions: Any, **changes: Any) -> str:
    document = {"expiration": LATER, "conditions": list(conditions), **changes}
    return base64.b64encode(json.dumps(document).encode()).decode()


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters='"\r\n\\', categories=("L", "N", "P", "S", "Zs")), min_size=1
)


@given(
    fields=st.dictionaries(NAMES.filter(lambda name: name.lower() != "file"), st.text(max_size=50), max_size=5),
    content=st.binary(max_size=200),
    cuts=st.lists(st.integers(0, 2000), max_size=8),
)
def test_a_form_may_be_cut_anywhere(fields: dict[str, str], content: bytes, cuts: list[int]) -> None:
    """Fields and content are read as encoded, however the body is cut; what follows the file is ignored."""
    fields = {name.encode().decode(): value for name, value in fields.items()}
    body, kind = encode_multipart_formdata([*fields.items(), ("file", ("f", content)), ("behind", "x")], "a-boundary")
    reader = FormReader(boundary_of(kind))
    ends = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]

    content_read = b"".join(reader.feed(body[start:end]) for start, end in pairwise(ends))

    reader.finish()
    assert (content_read, reader.filename) == (content, "f")
    assert reader.fields == {name.lower(): value for name, value in fields.items()}


def read(*pieces: bytes) -> None:
    """Read a form with the boundary `b` to its end."""
    reader = FormReader("b")
    for piece in pieces:
        reader.feed(piece)
    reader.finish()


@given(st.binary(max_size=300))
def test_what_is_no_form_is_refused(body: bytes) -> None:
    """Bytes that are not a form end in an error of S3, never in a server error."""
    with pytest.raises(S3Error):
        read(body)


def test_fields_are_bounded() -> None:
    """More than 20 KB before the file is refused before all of it is in memory."""
    with pytest.raises(S3Error, match="MaxPostPreDataLengthExceededError"):
        read(*[b"x" * 1000] * 30)


@pytest.mark.parametrize(
    ("fields", "conditions", "holds"),
    [
        ({"key": "a/b"}, [{"key": "a/b"}], True),
        ({"key": "a/b"}, [["eq", "$key", "a/b"]], True),
        ({"key": "a/b"}, [["eq", "$key", "a"]], False),
        ({"key": "a/b"}, [["starts-with", "$key", "a/"]], True),
        ({"key": "a/b"}, [["STARTS-with", "$KeY", ""]], True),
        ({"key": "a/b"}, [["starts-with", "$key", "b"]], False),
        ({"key": "a/b"}, [], False),
        ({"key": "a", "x-ignore-me": "1"}, [{"key": "a"}], True),
        ({"key": "a"}, [{"key": "a"}, {"bucket": "data"}], True),
        ({"key": "a"}, [{"key": "a"}, {"bucket": "other"}], False),
        ({"key": "a"}, [{"key": "a"}, {"acl": "private"}], False),
    ],
)
def test_conditions(fields: dict[str, str], conditions: list[Any], holds: bool) -> None:
    """Each condition must hold, and each field needs a condition."""
    given_fields = {**fields, "policy": policy(*conditions)}
    if holds:
        assert check_form(given_fields, "data") == Lengths()
    else:
        with pytest.raises(AccessDenied):
            check_form(given_fields, "data")


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        base64.b64encode(b"[]").decode(),
        policy(expiration="2026-01-01 01:00:00"),
        policy(expiration=None),
        policy(conditions={}),
        policy({}),
        policy(["eq", "key", "x"]),
        policy(["like", "$key", "x"]),
        policy(["content-length-range", 0]),
        policy(["content-length-range", -1, 5]),
        policy(["content-length-range", True, 5]),
    ],
)
def test_what_is_no_policy(text: str) -> None:
    """An invalid policy is InvalidPolicyDocument; a valid one is accepted until it expires."""
    with pytest.raises(InvalidPolicyDocument):
        judged(text)
    good = policy(["content-length-range", 0, 5])
    assert judged(good) == Lengths(0, 5)
    with pytest.raises(AccessDenied, match="expired"):
        check_expiry(good, (NOW + timedelta(hours=2)).timestamp())


def judged(text: str) -> Lengths:
    check_expiry(text, NOW.timestamp())
    return check_form({"policy": text}, "data")


def test_a_file_is_needed() -> None:
    """A form without a file is MalformedPOSTRequest."""
    body, _ = encode_multipart_formdata({"key": "a"}, "b")
    reader = FormReader("b")
    reader.feed(body)
    with pytest.raises(MalformedPOSTRequest):
        reader.finish()


def post(
    server: S3Server, bucket: str, fields: dict[str, str], content: bytes, filename: str = "f.txt"
) -> tuple[http.client.HTTPResponse, bytes]:
    text = base64.b64encode(
        json.dumps(
            {
                "expiration": (datetime.now(timezone.utc) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "conditions": [["starts-with", f"${name}", ""] for name in fields],
            }
        ).encode()
    ).decode()
    body, kind = encode_multipart_formdata({**fields, "policy": text, "file": (filename, content)})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("POST", f"/{bucket}", body, {"content-type": kind})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def test_answers_to_a_form(s3: Any, s3_server: S3Server, bucket: str) -> None:
    """A form is answered with 204, or the status or redirect that it requests; the key may contain the file's name."""
    plain, _ = post(s3_server, bucket, {"key": "in/${filename}"}, b"1")
    for number, path in enumerate([r"C:\Users\me\w.txt", "/home/me/u.txt", r"a/b\c/m.txt"]):
        assert post(s3_server, bucket, {"key": f"{number}/${{filename}}"}, b"1", filename=path)[0].status == 204
    created, document = post(s3_server, bucket, {"key": "b", "success_action_status": "201"}, b"2")
    empty, _ = post(s3_server, bucket, {"key": "c", "success_action_status": "200"}, b"")
    target = {"key": "d e", "success_action_redirect": "http://127.0.0.1/done?a=b"}
    redirected, _ = post(s3_server, bucket, target, b"4" * 3_000_000)

    assert [one.status for one in (plain, created, empty, redirected)] == [204, 201, 200, 303]
    assert plain.headers["x-test-operation"] == "PostObject"
    assert ET.fromstring(document).findtext("{*}Key") == "b"
    etag = s3.head_object(Bucket=bucket, Key="d e")["ETag"].strip('"')
    assert redirected.headers["location"] == (f"http://127.0.0.1/done?a=b&bucket={bucket}&key=d+e&etag=%22{etag}%22")
    sizes = {one["Key"]: one["Size"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert sizes == {"0/w.txt": 1, "1/u.txt": 1, "2/m.txt": 1, "in/f.txt": 1, "b": 1, "c": 0, "d e": 3_000_000}


def test_properties_of_a_form(s3: Any, s3_server: S3Server, bucket: str) -> None:
    """Form fields act as headers of a PUT, including tags and checksums; what is not implemented is refused."""
    tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"
    fields = {"key": "k", "Content-Type": "text/x", "x-amz-meta-m": "1", "tagging": tags}
    checksum = {"x-amz-checksum-crc32": "AAAAAA=="}

    taken, _ = post(s3_server, bucket, fields, b"x")
    wrong, refusal = post(s3_server, bucket, {"key": "wrong", **checksum}, b"x")
    unread, _ = post(s3_server, bucket, {"key": "wrong", "x-amz-object-lock-mode": "GOVERNANCE"}, b"x")
    missing, _ = post(s3_server, bucket, {}, b"x")
    nowhere, _ = post(s3_server, "nowhere-at-all", {"key": "k"}, b"x")

    head = s3.head_object(Bucket=bucket, Key="k")
    assert (taken.status, head["ContentType"], head["Metadata"]) == (204, "text/x", {"m": "1"})
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "a", "Value": "1"}]
    assert (wrong.status, b"<Code>BadDigest</Code>" in refusal) == (400, True)
    assert (unread.status, missing.status, nowhere.status) == (501, 400, 404)
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]
