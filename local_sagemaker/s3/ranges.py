"""Ranges of bytes; pure, only `local_sagemaker.s3` imports it. RFC 9110, section 14."""

from __future__ import annotations

import re
from dataclasses import dataclass

from local_sagemaker.s3.errors import InvalidArgument, InvalidPartNumber, InvalidRange

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_LONGEST = 20  # digits; more than any size has, and Python reads no number of thousands of them


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
        InvalidArgument: it has numbers that no size has.
    """
    found = _found(header) if header else None
    if not found or not (found[1] or found[2]) or (found[1] and found[2] and int(found[2]) < int(found[1])):
        return None
    if found[1]:
        start = int(found[1])
        length = min(int(found[2]) + 1 if found[2] else size, size) - start
    else:
        length = min(int(found[2]), size)
        start = size - length
    if length <= 0:
        raise InvalidRange(RangeRequested=header or "", ActualObjectSize=size)
    return ByteRange(start, length, size)


def _found(header: str) -> re.Match[str] | None:
    found = _RANGE.fullmatch(header.strip())
    if found and max(map(len, found.groups())) > _LONGEST:
        raise InvalidArgument("The range has numbers that are too large.", ArgumentName="Range")
    return found


def copy_range(header: str | None, size: int) -> ByteRange:
    """Return what `x-amz-copy-source-range` asks: `bytes=first-last`, both given and inside the source.

    Raises:
        InvalidArgument: it is anything else.
    """
    if header is None:
        return ByteRange(0, size, size)
    found = _found(header)
    if not found or not found[1] or not found[2] or not int(found[1]) <= int(found[2]) < size:
        raise InvalidArgument(
            f"Range specified is not valid for source object of size: {size}",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=header,
        )
    return ByteRange(int(found[1]), int(found[2]) - int(found[1]) + 1, size)


def part_range(number: int, part_sizes: tuple[int, ...], size: int) -> ByteRange:
    """Return where part `number` of an object lies; an object that was put in one piece is its own part 1.

    Raises:
        InvalidPartNumber: there is no such part.
    """
    sizes = part_sizes or (size,)
    if not 1 <= number <= len(sizes):
        raise InvalidPartNumber(ActualPartCount=len(sizes))
    return ByteRange(sum(sizes[: number - 1]), sizes[number - 1], size)
