"""Ranges of bytes; pure, only `local_sagemaker.s3` imports it. RFC 9110, section 14."""

from __future__ import annotations

import re
from dataclasses import dataclass

from local_sagemaker.s3.errors import InvalidArgument, InvalidPartNumber, InvalidRange

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_MOST_DIGITS = 20  # more than the size of any object has


@dataclass(frozen=True)
class ByteRange:
    """A part of a body: `length` bytes from `start` on, of `size` in all."""

    start: int
    length: int
    size: int

    @property
    def content_range(self) -> str:
        """The value of the header `Content-Range`."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{self.size}"


def read_range(header: str | None, size: int) -> ByteRange | None:
    """Return what a `Range` header asks of a body of `size` bytes; None: all of it.

    A header that is malformed or has several ranges asks for all: S3 serves one range at a time.

    Raises:
        InvalidRange: it begins behind the end, or is empty.
    """
    first, last = _numbers(header) if header else (None, None)
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        return None
    if first is not None:
        start = first
        length = min(last + 1 if last is not None else size, size) - start
    else:
        length = min(last or 0, size)
        start = size - length
    if length <= 0:
        raise InvalidRange(RangeRequested=header or "", ActualObjectSize=size)
    return ByteRange(start, length, size)


def _numbers(header: str) -> tuple[int | None, int | None]:
    """Return the two numbers of a range; None for one that is missing, and for both if it is malformed."""
    found = _RANGE.fullmatch(header.strip())
    first, last = found.groups() if found else ("", "")
    return _number(first), _number(last)


def _number(digits: str) -> int | None:
    # Python reads no number of thousands of digits, and a range may have one (RFC 9110, 14.1.2).
    if not digits:
        return None
    kept = digits.lstrip("0") or "0"
    return int(kept) if len(kept) <= _MOST_DIGITS else 10**_MOST_DIGITS


def copy_range(header: str | None, size: int) -> ByteRange:
    """Return what `x-amz-copy-source-range` asks: `bytes=first-last`, both given and inside the source.

    Raises:
        InvalidArgument: it is anything else.
    """
    if header is None:
        return ByteRange(0, size, size)
    first, last = _numbers(header)
    if first is None or last is None or not first <= last < size:
        raise InvalidArgument(
            f"Range specified is not valid for source object of size: {size}",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=header,
        )
    return ByteRange(first, last - first + 1, size)


def part_range(number: int, part_sizes: tuple[int, ...], size: int) -> ByteRange:
    """Return where part `number` of an object lies; an object that was put in one piece is its own part 1.

    Raises:
        InvalidPartNumber: there is no such part.
    """
    sizes = part_sizes or (size,)
    if not 1 <= number <= len(sizes):
        raise InvalidPartNumber(ActualPartCount=len(sizes))
    return ByteRange(sum(sizes[: number - 1]), sizes[number - 1], size)
