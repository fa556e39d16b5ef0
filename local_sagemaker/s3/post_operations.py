"""The operation `PostObject`: a form with a file, as a presigned POST sends it.

botocore's model lacks this operation. For a request that is signed by its form, authentication has already checked
the signature and the expiry of the policy. The conditions of the policy on fields and file length are checked here.
https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from starlette.responses import Response

from local_sagemaker.s3.documents import parse, text
from local_sagemaker.s3.errors import InvalidArgument, MalformedXML
from local_sagemaker.s3.forms import FormReader, boundary_of
from local_sagemaker.s3.members import check_members
from local_sagemaker.s3.object_operations import PutObject
from local_sagemaker.s3.permissions import check_permissions
from local_sagemaker.s3.post_policy import Lengths, check_form
from local_sagemaker.s3.request import VERSION_2, VERSION_4
from local_sagemaker.s3.responses import xml_response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_sagemaker.s3.request import S3Request
    from local_sagemaker.s3.service import Service

_PROPERTIES = frozenset(
    {"cache-control", "content-type", "content-disposition", "content-encoding", "content-md5", "expires"}
)
_OF_SIGNATURE = frozenset({"x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"})
_CREATED = 201
_SEPARATORS = re.compile(r"[/\\]")  # a browser may send the file's local path


class PostObject:
    """The operation `PostObject`, with its form streamed in."""

    def __init__(self, service: Service, request: S3Request) -> None:
        self._service = service
        self._request = request
        self._form = FormReader(boundary_of(request.headers.get("content-type", "")))
        service.store.configuration.get(request.bucket)
        self._lengths = Lengths()
        self._put: PutObject | None = None
        self._key = ""

    def write(self, data: bytes) -> None:
        """Consume the next bytes of the form."""
        content = self._form.feed(data)
        if not self._form.has_file:
            return
        put = self._put = self._put or self._begin()
        put.write(content)
        self._lengths.check_most(put.size)

    def finish(self) -> Response:
        """Verify the form, put the object, and return the response that the form asks for."""
        self._form.finish()
        put = self._put or self._begin()
        self._lengths.check(put.size)
        stored = put.finish()
        return self._answer(stored)

    def abort(self) -> None:
        """Drop what was received so far; do nothing after `finish`."""
        if self._put:
            self._put.abort()

    def _begin(self) -> PutObject:
        fields = self._form.fields
        if not fields.get("key"):
            raise InvalidArgument(
                "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the"
                " fields.",
                ArgumentName="key",
            )
        self._key = fields["key"].replace("${filename}", _SEPARATORS.split(self._form.filename)[-1])
        fields = {**fields, "key": self._key}
        self._lengths = check_form(fields, self._request.bucket)
        headers = _headers_of(fields)
        inner = replace(
            self._request,
            method="PUT",
            operation="PutObject",
            key=self._key,
            query={},
            headers=headers,
            authentication="POST",
            signature_version=VERSION_2 if {"awsaccesskeyid", "signature"} <= fields.keys() else VERSION_4,
        )
        check_members(inner.operation, (), headers)
        check_permissions(self._service, inner)
        return PutObject(self._service, inner)

    def _answer(self, stored: Response) -> Response:
        fields = self._form.fields
        headers = dict(stored.headers)
        headers.pop("content-length", None)
        target = {"bucket": self._request.bucket, "key": self._key}
        redirect = fields.get("success_action_redirect") or fields.get("redirect", "")
        if urlsplit(redirect).scheme in ("http", "https"):
            joined = "&" if urlsplit(redirect).query else "?"
            headers["location"] = f"{redirect}{joined}{urlencode({**target, 'etag': headers['etag']})}"
            return Response(status_code=303, headers=headers)
        headers["location"] = f"http://{self._request.headers.get('host', '')}/{target['bucket']}/{self._key}"
        if fields.get("success_action_status") == str(_CREATED):
            content = [("Location", headers["location"]), ("Bucket", target["bucket"]), ("Key", self._key)]
            answer = xml_response("PostResponse", [*content, ("ETag", headers["etag"])], headers)
            answer.status_code = _CREATED
            return answer
        status = 200 if fields.get("success_action_status") == "200" else 204
        return Response(status_code=status, headers=headers)


def _headers_of(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that a `PutObject` of the same object would have."""
    headers = {
        name: value
        for name, value in fields.items()
        if name in _PROPERTIES or (name.startswith("x-amz-") and name not in _OF_SIGNATURE)
    }
    if "acl" in fields:
        headers["x-amz-acl"] = fields["acl"]
    if "tagging" in fields:
        headers["x-amz-tagging"] = _tagging(fields["tagging"])
    return headers


def _tagging(document: str) -> str:
    """Return the form's tags, an XML document, as the value of the header `x-amz-tagging`."""
    tags = parse(document.encode(), "Tagging").findall("TagSet/Tag")
    if not tags:
        raise MalformedXML
    return urlencode([(text(tag, "Key"), text(tag, "Value")) for tag in tags])
