"""The operation `GetObjectAttributes`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from local_sagemaker.s3.checksums import TYPE
from local_sagemaker.s3.documents import Value
from local_sagemaker.s3.errors import InvalidArgument
from local_sagemaker.s3.request import check_version
from local_sagemaker.s3.responses import checksum_elements, http_date, xml_response

if TYPE_CHECKING:
    from starlette.responses import Response

    from local_sagemaker.s3.objects import ObjectPart, StoredObject
    from local_sagemaker.s3.request import S3Request
    from local_sagemaker.s3.service import Handlers, Service

_HEADER = "x-amz-object-attributes"
_MOST_PARTS = 1000
_KNOWN = frozenset({"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"})


def get_object_attributes(service: Service, request: S3Request, _body: bytes) -> Response:
    """Serve `GetObjectAttributes`: the requested ones of ETag, checksum, parts, storage class and size."""
    check_version(request.query)
    wanted = {one.strip() for one in request.headers.get(_HEADER, "").split(",")}
    if not wanted <= _KNOWN:
        raise InvalidArgument("Invalid attribute name specified.", ArgumentName=_HEADER)
    first, limit = _number(request, "x-amz-part-number-marker", 0), _number(request, "x-amz-max-parts", _MOST_PARTS)
    found = service.store.get(*request.target)
    parts = _parts(found, first, min(limit, _MOST_PARTS)) if found.parts else None
    content: list[tuple[str, Value]] = [
        ("ETag", found.etag),
        ("Checksum", checksum_elements(found.checksums) or None),
        ("ObjectParts", parts),
        ("StorageClass", found.headers.get("x-amz-storage-class", "STANDARD")),
        ("ObjectSize", found.size),
    ]
    shown = [(name, value) for name, value in content if name in wanted]
    headers = {"last-modified": http_date(found.last_modified)}
    return xml_response("GetObjectAttributesResponse", shown, headers)


def _number(request: S3Request, header: str, default: int) -> int:
    text = request.headers.get(header)
    if text is None:
        return default
    if not re.fullmatch(r"\d{1,9}", text):
        raise InvalidArgument(ArgumentName=header, ArgumentValue=text)
    return int(text)


def _parts(found: StoredObject, first: int, limit: int) -> list[tuple[str, Value]]:
    """Return a page of the parts, with their checksums if they have any."""
    algorithm = next((name for name in found.checksums if name != TYPE), "")
    numbered = list(enumerate(found.parts, 1))[first:]
    shown = numbered[:limit]
    return [
        ("PartsCount", len(found.parts)),
        ("PartNumberMarker", first),
        ("NextPartNumberMarker", shown[-1][0] if shown else 0),
        ("MaxParts", limit),
        ("IsTruncated", len(numbered) > len(shown)),
        *(("Part", _part(number, part, algorithm)) for number, part in shown),
    ]


def _part(number: int, part: ObjectPart, algorithm: str) -> list[tuple[str, Value]]:
    checksum = checksum_elements({algorithm: part.checksum}) if part.checksum else []
    return [("PartNumber", number), ("Size", part.size), *checksum]


HANDLERS: Handlers = {"GetObjectAttributes": get_object_attributes}
