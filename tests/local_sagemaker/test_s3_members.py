"""Every input member of every S3 operation that is served, by botocore's model, is read or refused."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from datetime import datetime, timezone
from hashlib import md5
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import botocore.session
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.serialize import create_serializer

from local_sagemaker.s3 import (
    attributes,
    bucket_operations,
    listing_operations,
    multipart_operations,
    object_operations,
)
from local_sagemaker.s3.application import SERVED, Receiver
from local_sagemaker.s3.errors import S3Error
from local_sagemaker.s3.members import WITHOUT_EFFECT, is_read, read_members
from local_sagemaker.s3.payload import Document, Payload
from local_sagemaker.s3.request import S3Request
from local_sagemaker.s3.service import Service
from local_sagemaker.s3.store import ObjectStore, Properties

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

MODEL = botocore.session.get_session().get_service_model("s3")
HANDLERS = {
    **attributes.HANDLERS,
    **bucket_operations.HANDLERS,
    **listing_operations.HANDLERS,
    **multipart_operations.HANDLERS,
    **object_operations.HANDLERS,
}
RECEIVERS: dict[str, Callable[..., Receiver]] = {
    "PutObject": object_operations.PutObject,
    "UploadPart": multipart_operations.UploadPart,
}
# Read before any operation: by the application, and by uvicorn.
AT_THE_DOOR = {"ExpectedBucketOwner", "ExpectedSourceBucketOwner", "ContentLength"}

DOCUMENTS = {"MultipartUpload", "LifecycleConfiguration"}
RULE = {"Status": "Enabled", "Filter": {}, "Expiration": {"Days": 1}}


class Recorder(dict[str, str]):
    """A mapping that records which names are read."""

    def __init__(self, content: Mapping[str, str], asked: set[str]) -> None:
        super().__init__(content)
        self.asked = asked

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return super().__contains__(name)


def members(operation: str) -> dict[str, Any]:
    shape = MODEL.operation_model(operation).input_shape
    return dict(shape.members) if shape else {}


def paths(operation: str) -> Iterator[str]:
    """Yield all input members; of a document, the paths of its elements, as deep as there is something to refuse."""
    for name, shape in members(operation).items():
        if shape.type_name == "structure" and name not in read_members(operation):
            yield from below(shape, name)
        else:
            yield name


def below(shape: Any, path: str) -> Iterator[str]:
    while shape.type_name == "list":
        shape = shape.member
    if shape.type_name != "structure":
        yield path
        return
    for name, member in shape.members.items():
        yield from below(member, f"{path}.{name}")


def value_of(shape: Any, rest: list[str]) -> Any:
    """Return a value of a shape that has the member at `rest` and all required members."""
    if shape.type_name == "list":
        return [value_of(shape.member, rest)]
    if shape.type_name == "map":
        return {"a": "b"}
    if shape.type_name == "structure":
        names = {*shape.required_members, *rest[:1]}
        return {name: value_of(shape.members[name], rest[1:] if [name] == rest[:1] else []) for name in names}
    scalars = {"integer": 1, "long": 1, "boolean": True, "blob": b"x", "timestamp": datetime.now(timezone.utc)}
    enum = getattr(shape, "enum", None)
    return scalars.get(shape.type_name, enum[0] if enum else "x")


def request_of(operation: str, path: str, known: dict[str, Any]) -> dict[str, Any]:
    """Return parameters that have the member at `path` and all required members."""
    shape = MODEL.operation_model(operation).input_shape
    name, *rest = path.split(".")
    names = {*(shape.required_members if shape else ()), name, *(known.keys() & DOCUMENTS & shape.members.keys())}
    return {
        one: known[one]
        if one in known and not (one == name and rest)
        else value_of(shape.members[one], rest if one == name else [])
        for one in names
    }


def test_the_table_is_of_this_server_and_of_this_model() -> None:
    """The table has a row for each operation that is served, and only names that botocore knows."""
    for operation in SERVED:
        known = {*members(operation), *paths(operation), "ExpectedBucketOwner"}
        assert read_members(operation) <= known
    every = {name for operation in MODEL.operation_names for name in members(operation)}
    assert WITHOUT_EFFECT.keys() <= every


@pytest.mark.sampled(6)
@pytest.mark.parametrize("operation", sorted(SERVED))
def test_a_member_that_nothing_reads_is_refused(s3: Any, bucket: str, operation: str) -> None:
    """A member that is not read is a 501 NotImplemented that names it, and the request does nothing."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    known = {"Bucket": bucket, "Key": "k", "UploadId": upload, "PartNumber": 1, "CopySource": f"{bucket}/k"}
    unread = [
        path
        for path in paths(operation)
        if path not in read_members(operation) | WITHOUT_EFFECT.keys() and not is_read(operation, path)
    ]

    for path in unread:
        with pytest.raises(ClientError) as refused:
            getattr(s3, xform_name(operation))(**request_of(operation, path, known))
        answer = refused.value.response
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 501
        if operation != "HeadObject":  # its response has no body that could name it
            assert answer["Error"]["Code"] == "NotImplemented"
            # For a document, the error names the topmost element that is not read.
            named = answer["Error"]["Message"].split(" does not support ")[1].split(" ")[0]
            assert f"{path}.".startswith(f"{named}.")

    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


@pytest.mark.parametrize("operation", sorted(SERVED))
def test_a_member_that_counts_as_read_is_asked_for(tmp_path: Path, operation: str) -> None:
    """The code of an operation reads each header and parameter that the table lists as read."""
    with ObjectStore(tmp_path) as store:
        service = Service(store, "123456789012", "us-east-1")
        store.create_bucket("data")
        read = [
            path
            for path in sorted(read_members(operation) - AT_THE_DOOR)
            if members(operation).get(path) is not None
            and members(operation)[path].serialization.get("location") in ("header", "querystring")
        ]
        for path in read:
            with store.new_upload() as body:
                body.write(b"x")
                body.commit("data", "k")
            upload = service.uploads.create(("data", "k"), Properties()).upload_id
            known = {
                "Bucket": "data",
                "Key": "k",
                "UploadId": upload,
                "PartNumber": 1,
                "CopySource": "data/k",
                "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": "x"}]},
                "LifecycleConfiguration": {"Rules": [RULE]},
                "MetadataDirective": "REPLACE",
                "TaggingDirective": "REPLACE",
            }
            given = {"TaggingDirective": "REPLACE"} if path == "Tagging" and operation == "CopyObject" else {}
            given |= {"MetadataDirective": "REPLACE"} if operation == "CopyObject" else {}
            name = members(operation)[path].serialization["name"]

            asked = asked_for(service, operation, {**request_of(operation, path, known), **given})

            assert name in asked or name.lower() in asked, path


def asked_for(service: Service, operation: str, parameters: dict[str, Any]) -> set[str]:
    """Return the headers and parameters that an operation reads."""
    serialized = create_serializer("rest-xml").serialize_to_request(parameters, MODEL.operation_model(operation))
    path, _, fixed = serialized["url_path"].partition("?")
    query = "&".join([fixed, *(f"{name}={quote(str(value))}" for name, value in serialized["query_string"].items())])
    body = serialized["body"] or b""
    scope = {
        "method": serialized["method"],
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.strip("&").encode(),
        "headers": [(name.lower().encode(), str(value).encode()) for name, value in serialized["headers"].items()],
    }
    scope["headers"] += [(b"content-md5", b64encode(md5(body).digest()))]
    request = S3Request.from_scope(scope)
    assert request.operation == operation
    asked: set[str] = set()
    request = replace(request, query=Recorder(request.query, asked), headers=Recorder(request.headers, asked))
    try:
        if operation in RECEIVERS:
            receiver = RECEIVERS[operation](service, request)
            try:
                receiver.write(body)
                receiver.finish()
            finally:
                receiver.abort()
        else:
            Payload(request, Document())
            HANDLERS[operation](service, request, body)
    except S3Error:
        pass  # such a value may be refused, but only after it was read
    return asked


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ({"IfMatchSize": 2}, {"IfMatchSize": 1}),
        ({"IfMatchLastModifiedTime": datetime(2015, 1, 1, tzinfo=timezone.utc)}, {"IfMatchLastModifiedTime": None}),
        ({"IfMatch": "*", "IfMatchSize": 0}, {"IfMatch": "*", "IfMatchSize": 1}),
    ],
)
def test_a_deletion_under_a_condition(s3: Any, bucket: str, wrong: dict[str, Any], right: dict[str, Any]) -> None:
    """An object is deleted only if its size, time and ETag meet the conditions, alone and in DeleteObjects."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    now = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    right = {name: now if value is None else value for name, value in right.items()}
    names = {"IfMatchSize": "Size", "IfMatchLastModifiedTime": "LastModifiedTime", "IfMatch": "ETag"}

    with pytest.raises(ClientError) as refused:
        s3.delete_object(Bucket=bucket, Key="k", **wrong)
    entry = {"Key": "k", **{names[name]: value for name, value in wrong.items()}}
    told = s3.delete_objects(Bucket=bucket, Delete={"Objects": [entry]})

    assert refused.value.response["Error"]["Code"] == "PreconditionFailed"
    assert [one["Code"] for one in told["Errors"]] == ["PreconditionFailed"]
    s3.head_object(Bucket=bucket, Key="k")
    s3.delete_object(Bucket=bucket, Key="k", **right)
    s3.put_object(Bucket=bucket, Key="k2", Body=b"x")
    if "LastModifiedTime" not in {names[name] for name in right}:
        entry = {"Key": "k2", **{names[name]: value for name, value in right.items()}}
        assert s3.delete_objects(Bucket=bucket, Delete={"Objects": [entry]})["Deleted"] == [{"Key": "k2"}]
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize(
    ("header", "value"), [("x-amz-if-match-size", "many"), ("x-amz-if-match-last-modified-time", "yesterday")]
)
def test_a_condition_that_cannot_be_read_deletes_nothing(s3: Any, bucket: str, header: str, value: str) -> None:
    """A condition that cannot be parsed is refused with 400, not ignored."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")

    def set_header(params: dict[str, Any], **_: Any) -> None:
        params["headers"][header] = value

    s3.meta.events.register("before-call.s3.DeleteObject", set_header)
    try:
        with pytest.raises(ClientError) as refused:
            s3.delete_object(Bucket=bucket, Key="k")
    finally:
        s3.meta.events.unregister("before-call.s3.DeleteObject", set_header)

    assert refused.value.response["Error"]["Code"] == "InvalidArgument"
    s3.head_object(Bucket=bucket, Key="k")
