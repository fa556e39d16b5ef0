"""A request to S3: its bucket, key, parameters and headers."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote_plus, unquote_to_bytes

from local_sagemaker.s3.conditions import DeleteConditions, ReadConditions, WriteConditions
from local_sagemaker.s3.errors import (
    BadRequest,
    InvalidArgument,
    InvalidRedirectLocation,
    InvalidStorageClass,
    InvalidTag,
    InvalidURI,
    MetadataTooLarge,
)
from local_sagemaker.s3.forms import POST_OBJECT, boundary_of
from local_sagemaker.s3.objects import DEFAULT_CONTENT_TYPE, Properties
from local_sagemaker.s3.operations import UNKNOWN, operation_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

    from local_sagemaker.iam.roles import Access

VERSION_2 = "AWS"  # version of a signature, as in `s3:signatureversion`
VERSION_4 = "AWS4-HMAC-SHA256"
_METADATA = "x-amz-meta-"
_MAX_METADATA = (
    2048  # bytes of names and values, https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
)
# Headers that are stored with an object and returned by a read.
_KEPT = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
)
_STORAGE_CLASS = "x-amz-storage-class"
_REDIRECT = "x-amz-website-redirect-location"
# Storage classes of S3 in a region. botocore's list also has those of other products.
_STORAGE_CLASSES = frozenset(
    {
        *("STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER"),
        *("DEEP_ARCHIVE", "GLACIER_IR"),
    }
)
# Response headers that a read may override: API reference of GetObject.
_OVERRIDABLE = frozenset(
    {"cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"}
)
_MAX_TAGS = 10  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
_MAX_TAG_KEY = 128  # characters
_MAX_TAG_VALUE = 256
_TAG_SIGNS = frozenset("+-=._:/@")
_IN_QUERY = re.compile(r"x-amz-[a-z0-9-]+|content-type|content-md5")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class S3Request:
    """A request, without its body.

    Attributes:
        bucket: name of the bucket; empty for the service.
        key: key of the object; empty for the bucket.
        query: decoded query parameters.
        headers: headers by lower-case names.
        operation: name of the operation in botocore, or `Unknown`.
        access: permissions of the caller; None if it may do everything.
        client: address of the client; empty if unknown.
        authentication: how the request is signed, as in `s3:authType`.
        signature_version: version of the signature, as in `s3:signatureversion`.
    """

    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    operation: str
    access: Access | None = None
    client: str = ""
    authentication: str = "REST-HEADER"
    signature_version: str = VERSION_4

    @classmethod
    def from_scope(cls, scope: MutableMapping[str, Any]) -> S3Request:
        """Create a request from an ASGI scope.

        Raises:
            InvalidURI: path or query are not percent-encoded UTF-8.
        """
        # Not `path`: that is decoded, and cannot tell `%2F` in the bucket from the `/` after it.
        raw = scope.get("raw_path") or quote(scope["path"]).encode()
        bucket, _, key = raw.removeprefix(b"/").partition(b"/")
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            lower = name.decode("latin-1").lower()
            headers[lower] = (
                f"{headers[lower]},{value.decode('latin-1')}" if lower in headers else value.decode("latin-1")
            )
        try:
            query = dict(
                parse_qsl(
                    scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=200
                )
            )
            names = unquote_to_bytes(bucket).decode(), unquote_to_bytes(key).decode()
        except ValueError as error:
            raise InvalidURI from error
        # A presigned URL (Version 2, and newer SDKs) has some headers as query parameters.
        headers = {name: value for name, value in query.items() if _IN_QUERY.fullmatch(name)} | headers
        method = scope["method"]
        operation = operation_of(method, *names, query, headers)
        is_form = method == "POST" and names[0] and not names[1] and boundary_of(headers.get("content-type", ""))
        if operation == UNKNOWN and is_form and not query:
            operation = POST_OBJECT
        client = (scope.get("client") or ("",))[0]
        signed = _signed(headers, query)
        return cls(method, *names, query, headers, operation, scope.get("access"), client, *signed)

    @property
    def target(self) -> tuple[str, str]:
        """Bucket and key."""
        return self.bucket, self.key

    def number(self, name: str, default: int, *, lowest: int = 0, highest: int = 2**31 - 1) -> int:
        """Return an integer query parameter, at most `highest`.

        Args:
            name: name of the parameter.
            default: value if the parameter is missing or empty.
            lowest: smallest valid value.
            highest: value that replaces larger ones.

        Raises:
            InvalidArgument: the value is not an integer, or is below `lowest`.
        """
        text = self.query.get(name)
        if not text:
            return default
        if not re.fullmatch(r"\d{1,18}", text) or int(text) < lowest:
            raise InvalidArgument(
                f"Provided {name} not an integer or within range", ArgumentName=name, ArgumentValue=text
            )
        return min(int(text), highest)

    def part_number(self) -> int:
        """Return the part number.

        Raises:
            InvalidArgument: it is not an integer from 1 to 10,000.
        """
        text = self.query.get("partNumber", "")
        if not re.fullmatch(r"\d{1,5}", text) or not 1 <= int(text) <= 10_000:  # noqa: PLR2004 -- S3's limit of parts
            raise InvalidArgument(
                "Part number must be an integer between 1 and 10000, inclusive",
                ArgumentName="partNumber",
                ArgumentValue=text,
            )
        return int(text)

    def write_conditions(self) -> WriteConditions:
        """Return the request's conditions on the present object."""
        return WriteConditions(self.headers.get("if-match"), self.headers.get("if-none-match"))

    def delete_conditions(self) -> DeleteConditions:
        """Return the request's conditions on the object that it deletes.

        Raises:
            InvalidArgument: a condition is invalid; ignoring it would delete the object.
        """
        headers = self.headers
        date, size = headers.get("x-amz-if-match-last-modified-time"), headers.get("x-amz-if-match-size")
        modified = _epoch(date)
        if date is not None and modified is None:
            raise InvalidArgument(ArgumentName="x-amz-if-match-last-modified-time", ArgumentValue=date)
        if size is not None and not re.fullmatch(r"\d{1,18}", size):
            raise InvalidArgument(ArgumentName="x-amz-if-match-size", ArgumentValue=size)
        return DeleteConditions(headers.get("if-match"), modified, None if size is None else int(size))

    def read_conditions(self, prefix: str = "") -> ReadConditions:
        """Return the request's conditions on the object that it reads.

        Args:
            prefix: prefix of the headers, for the source of a copy.
        """
        headers = self.headers
        return ReadConditions(
            match=headers.get(f"{prefix}if-match"),
            none_match=headers.get(f"{prefix}if-none-match"),
            modified_since=_epoch(headers.get(f"{prefix}if-modified-since")),
            unmodified_since=_epoch(headers.get(f"{prefix}if-unmodified-since")),
        )

    def properties(self) -> Properties:
        """Return the properties of a new object from the headers.

        Raises:
            MetadataTooLarge: the user-defined metadata has more than 2 KB.
            InvalidStorageClass: S3 has no such storage class.
            InvalidRedirectLocation: the redirect location is neither a URL nor a key.
            InvalidTag, BadRequest: the tags break S3's rules.
        """
        metadata = {
            name.removeprefix(_METADATA): value for name, value in self.headers.items() if name.startswith(_METADATA)
        }
        size = sum(len(name) + len(value) for name, value in metadata.items())
        if size > _MAX_METADATA:
            raise MetadataTooLarge(Size=size, MaxSizeAllowed=_MAX_METADATA)
        kept = {name: self.headers[name] for name in _KEPT if name in self.headers}
        if kept.get(_STORAGE_CLASS, "STANDARD") not in _STORAGE_CLASSES:
            raise InvalidStorageClass(StorageClassRequested=kept[_STORAGE_CLASS])
        if not kept.get(_REDIRECT, "/").startswith(("/", "http://", "https://")):
            raise InvalidRedirectLocation
        # `aws-chunked` describes the transfer, not the object.
        codings = [one.strip() for one in kept.pop("content-encoding", "").split(",")]
        if encoding := ", ".join(one for one in codings if one and one != "aws-chunked"):
            kept["content-encoding"] = encoding
        content_type = self.headers.get("content-type") or DEFAULT_CONTENT_TYPE
        return Properties(content_type, metadata, kept, self.tags())

    def tags(self) -> dict[str, str]:
        """Return the tags in the header `x-amz-tagging`.

        Raises:
            InvalidTag, BadRequest: the tags break S3's rules.
        """
        pairs = parse_qsl(self.headers.get("x-amz-tagging", ""), keep_blank_values=True)
        return check_tags(pairs)

    def version_of_source(self) -> str | None:
        """Return the version that `x-amz-copy-source` names. Return None if it names none."""
        query = self.headers["x-amz-copy-source"].partition("?")[2]
        return dict(parse_qsl(query, keep_blank_values=True)).get("versionId")

    def copy_source(self) -> tuple[str, str]:
        """Return bucket and key of `x-amz-copy-source`.

        Raises:
            InvalidArgument: the header is malformed, or names a version other than `null`.
        """
        header = self.headers["x-amz-copy-source"]
        path, _, version = header.partition("?")
        try:
            # `+` means a space and `%2B` a plus, as s5cmd and boto3 encode them.
            bucket, _, key = unquote_plus(path.removeprefix("/"), errors="strict").partition("/")
        except UnicodeDecodeError as error:
            raise InvalidArgument("The copy source is not percent-encoded UTF-8.") from error
        check_version(dict(parse_qsl(version, keep_blank_values=True)))
        if not bucket or not key:
            raise InvalidArgument(
                "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
                ArgumentName="x-amz-copy-source",
                ArgumentValue=header,
            )
        return bucket, key

    def overrides(self) -> dict[str, str]:
        """Return the headers that `response-*` parameters request, by lower-case names.

        Raises:
            InvalidArgument: S3 does not have the parameter, or its value contains control characters.
        """
        prefix = "response-"
        for name in self.query:
            if name.startswith(prefix) and name.removeprefix(prefix) not in _OVERRIDABLE:
                raise InvalidArgument(ArgumentName=name, ArgumentValue=self.query[name])
        found = {name: self.query[prefix + name] for name in _OVERRIDABLE if prefix + name in self.query}
        for name, value in found.items():
            if _CONTROL.search(value):
                raise InvalidArgument(ArgumentName=prefix + name, ArgumentValue=value)
        return found

    def choice(self, header: str, default: str, *others: str) -> str:
        """Return a header that has a fixed set of values.

        Raises:
            InvalidArgument: the header has another value.
        """
        value = self.headers.get(header, default)
        if value not in (default, *others):
            raise InvalidArgument(f"Unknown value of {header}.", ArgumentName=header, ArgumentValue=value)
        return value


def _signed(headers: Mapping[str, str], query: Mapping[str, str]) -> tuple[str, str]:
    """Return how a request is signed and the version of its signature, as condition keys name them.

    `signatures.Signature.of` looks in the same order, so that conditions see the signature that was checked.
    """
    if "authorization" in headers:
        return "REST-HEADER", VERSION_4
    if "X-Amz-Signature" in query:
        return "REST-QUERY-STRING", VERSION_4
    return ("REST-QUERY-STRING", VERSION_2) if "AWSAccessKeyId" in query else ("REST-HEADER", VERSION_4)


def check_version(query: Mapping[str, str]) -> None:
    """Check that a request names no version but `null`, the only one in a bucket without versioning.

    Raises:
        InvalidArgument: the request names another version.
    """
    version = query.get("versionId", "null")
    if version != "null":
        raise InvalidArgument("Invalid version id specified", ArgumentName="versionId", ArgumentValue=version)


def check_tags(pairs: Iterable[tuple[str, str]], *, most: int = _MAX_TAGS, what: str = "Object") -> dict[str, str]:
    """Return tags as a dictionary.

    Args:
        pairs: keys and values.
        most: maximum number of tags; by default 10.
        what: what has the tags, for the message.

    Raises:
        BadRequest: there are too many tags.
        InvalidTag: a tag is too long, has invalid characters, is reserved for AWS, or is given twice.
    """
    pairs = list(pairs)
    tags = dict(pairs)
    if len(tags) < len(pairs):
        raise InvalidTag("Cannot provide multiple Tags with the same key")
    if len(tags) > most:
        raise BadRequest(f"{what} tags cannot be greater than {most}")
    for key, value in pairs:
        if key.lower().startswith("aws:"):
            raise InvalidTag("System tags cannot be added/updated by requester", TagKey=key)
        if not 1 <= len(key) <= _MAX_TAG_KEY or not _is_tag_text(key):
            raise InvalidTag("The TagKey you have provided is invalid", TagKey=key)
        if len(value) > _MAX_TAG_VALUE or not _is_tag_text(value):
            raise InvalidTag("The TagValue you have provided is invalid", TagKey=key, TagValue=value)
    return tags


def _is_tag_text(text: str) -> bool:
    """Return whether a text is valid in a tag: letters, digits, spaces and a few other characters."""
    return all(sign in _TAG_SIGNS or unicodedata.category(sign)[0] in "LNZ" for sign in text)


def _epoch(date: str | None) -> float | None:
    """Return an HTTP date in epoch seconds. An invalid date counts as missing (RFC 9110, 13.1.3)."""
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None
