"""Naming rules of buckets, objects and metadata, and the sort order of keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from local_sagemaker.s3.errors import InvalidArgument, InvalidBucketName, KeyTooLongError

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_KEY = 1024  # bytes of UTF-8, https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_RESERVED_STARTS = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_ENDS = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")
_TOKEN = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_HIGHEST = chr(0x10FFFF)


def check_bucket_name(bucket: str) -> None:
    """Check the name of a new bucket.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html

    Raises:
        InvalidBucketName: the name breaks a rule.
    """
    torn = any(pair in bucket for pair in ("..", ".-", "-."))
    reserved = bucket.startswith(_RESERVED_STARTS) or bucket.endswith(_RESERVED_ENDS)
    if not _BUCKET.fullmatch(bucket) or torn or reserved or _ADDRESS.fullmatch(bucket):
        raise InvalidBucketName(BucketName=bucket)


def check_key(key: str) -> None:
    """Check the key of a new object: 1 to 1,024 bytes of UTF-8, without other restrictions.

    Raises:
        KeyTooLongError: the key is longer.
        InvalidArgument: the key is empty or cannot be encoded in UTF-8.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument("An object's key must be valid Unicode.", ArgumentName="Key") from error
    if size > _MAX_KEY:
        raise KeyTooLongError(Size=size, MaxSizeAllowed=_MAX_KEY)
    if not size:
        raise InvalidArgument("An object's key must not be empty.", ArgumentName="Key")


def check_metadata(names: Iterable[str]) -> None:
    """Check the names of user-defined metadata, which become names of HTTP headers.

    Raises:
        InvalidArgument: a name has a capital letter or a character that RFC 9110, 5.6.2, does not allow.
    """
    for name in names:
        if not _TOKEN.fullmatch(name):
            raise InvalidArgument(f"Metadata cannot be named {name!r}.", ArgumentName="Metadata", ArgumentValue=name)


def after(key: str) -> str:
    """Return the smallest string that sorts after `key`."""
    return key + "\0"


def behind(prefix: str) -> str | None:
    """Return the smallest string that sorts after all strings with `prefix`. Return None if there is none.

    The order is that of UTF-8 bytes, which is the order of code points.
    """
    stem = prefix.rstrip(_HIGHEST)
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    # Surrogates are not characters: UTF-8 has nothing between U+D7FF and U+E000.
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)  # noqa: PLR2004 -- the first surrogate
