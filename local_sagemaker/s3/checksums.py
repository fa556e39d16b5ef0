"""The checksums that S3 takes, by algorithm; pure, only `local_sagemaker.s3` imports it.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from typing import TYPE_CHECKING, Protocol

from local_sagemaker.s3.crc import CRC32C, CRC64NVME, Crc
from local_sagemaker.s3.errors import InvalidRequest, NotImplementedByThisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

HEADER = "x-amz-checksum-"
FULL_OBJECT = "FULL_OBJECT"
COMPOSITE = "COMPOSITE"
TYPE = "type"  # where a mapping of checksums keeps which of the two it is


class Hash(Protocol):
    """What `hashlib` calls a hash, as far as it is used here."""

    def update(self, data: bytes, /) -> None:
        """Go on with `data`."""

    def digest(self) -> bytes:
        """Return the value."""


class _Crc32:
    def __init__(self) -> None:
        self._state = 0

    def update(self, data: bytes, /) -> None:
        self._state = zlib.crc32(data, self._state)

    def digest(self) -> bytes:
        return self._state.to_bytes(4, "big")


_ALGORITHMS: dict[str, Callable[[], Hash]] = {
    "crc32": _Crc32,
    "crc32c": lambda: Crc(*CRC32C),
    "crc64nvme": lambda: Crc(*CRC64NVME),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
}
_NOT_BUILT = frozenset({"xxhash3", "xxhash64", "xxhash128"})
# Only a CRC of the whole can be had from those of its parts; AWS offers the others as COMPOSITE alone.
_DEFAULT_TYPE = {"crc64nvme": FULL_OBJECT}


def new_hash(algorithm: str) -> Hash:
    """Begin a checksum; `algorithm` in any case of letters, as in `x-amz-checksum-algorithm`.

    Raises:
        NotImplementedByThisServer: S3 has it, this server does not.
        InvalidRequest: nobody has it.
    """
    name = algorithm.lower()
    if name in _NOT_BUILT:
        raise NotImplementedByThisServer(f"The checksum {algorithm} is not built into this server.")
    if name not in _ALGORITHMS:
        raise InvalidRequest(f"Checksum algorithm {algorithm} is unknown; take one of {', '.join(_ALGORITHMS)}.")
    return _ALGORITHMS[name]()


def encoded(digest: bytes) -> str:
    """Return a digest as S3 writes it, in base64."""
    return base64.b64encode(digest).decode()


def checksum_of(algorithm: str, pieces: Iterable[bytes]) -> str:
    """Return the checksum of all pieces in a row, as S3 writes it."""
    running = new_hash(algorithm)
    for piece in pieces:
        running.update(piece)
    return encoded(running.digest())


def given_checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """Pick `x-amz-checksum-<algorithm>` out of headers or trailers; algorithm to value.

    Raises:
        InvalidRequest: a value is no base64 of the algorithm's length, or there is more than one.
    """
    plain = {f"{HEADER}algorithm", f"{HEADER}type", f"{HEADER}mode"}
    found = {
        name.removeprefix(HEADER): value
        for name, value in headers.items()
        if name.startswith(HEADER) and name not in plain
    }
    if len(found) > 1:
        raise InvalidRequest("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
    for algorithm, value in found.items():
        if len(_decoded(value)) != len(new_hash(algorithm).digest()):
            raise InvalidRequest(f"Value for {HEADER}{algorithm} header is invalid.")
    return found


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""


def default_type(algorithm: str) -> str:
    """Return the type of a multipart upload's checksum when the client names none."""
    return _DEFAULT_TYPE.get(algorithm, COMPOSITE)


def composite(algorithm: str, parts: list[str]) -> str:
    """Return the checksum of a multipart upload from those of its parts, all in base64."""
    return f"{checksum_of(algorithm, (base64.b64decode(part) for part in parts))}-{len(parts)}"
