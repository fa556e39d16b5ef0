"""Byte ranges (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from local_sagemaker.s3.errors import InvalidArgument, InvalidPartNumber, InvalidRange

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_MOST_DIGITS = 20  # more than the size of any object


@dataclass(frozen=True)
class ByteRange:
    """A part of a body: `length` bytes from `start` on, of `size` bytes in total."""

    start: int
    length: int
    size: int

    @property
    def content_range(self) -> str:
        """The value of the header `Content-Range`."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{self.size}"


def read_range(header: str | None, size: int) -> ByteRange | None:
    """Return the range that a `Range` header requests from a body. Return None for the whole body.

    A malformed header, or one with several ranges, requests the whole body: S3 serves one range at a time.

    Args:
        header: the value of the header; None if there is none.
        size: size of the body in bytes.

    Raises:
        InvalidRange: the range begins after the end, or is empty.
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
    """Return the two numbers of a range: None for a missing one, and for both if the range is malformed."""
    found = _RANGE.fullmatch(header.strip())
    first, last = found.groups() if found else ("", "")
    return _number(first), _number(last)


def _number(digits: str) -> int | None:
    # `int` refuses thousands of digits, which a range may have (RFC 9110, 14.1.2).
    if not digits:
        return None
    kept = digits.lstrip("0") or "0"
    return int(kept) if len(kept) <= _MOST_DIGITS else 10**_MOST_DIGITS


def copy_range(header: str | None, size: int) -> ByteRange:
    """Return the range of `x-amz-copy-source-range`: `bytes=first-last`, both given and within the source.

    Raises:
        InvalidArgument: the header has another form, or the range is not within the source.
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
    """Return the range of part `number` of an object. An object that was put in one piece is its own part 1.

    Raises:
        InvalidPartNumber: there is no such part.
    """
    sizes = part_sizes or (size,)
    if not 1 <= number <= len(sizes):
        raise InvalidPartNumber(ActualPartCount=len(sizes))
    return ByteRange(sum(sizes[: number - 1]), sizes[number - 1], size)
