"""S3's checksum algorithms, and the checksums in headers and trailers.

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
_NO_ALGORITHMS = frozenset({"algorithm", "type", "mode"})
TYPE = "type"  # key of the checksum type in a mapping of checksums


class Hash(Protocol):
    """The part of `hashlib`'s hash interface that this package uses."""

    def update(self, data: bytes, /) -> None:
        """Continue with `data`."""

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


def new_hash(algorithm: str) -> Hash:
    """Begin a checksum.

    Args:
        algorithm: name in upper or lower case, as in `x-amz-checksum-algorithm`.

    Raises:
        NotImplementedByThisServer: S3 has this algorithm, but this server does not.
        InvalidRequest: the algorithm is unknown.
    """
    name = algorithm.lower()
    if name in _NOT_BUILT:
        raise NotImplementedByThisServer(f"The checksum {algorithm} is not built into this server.")
    if name not in _ALGORITHMS:
        raise InvalidRequest(f"Checksum algorithm {algorithm} is unknown; take one of {', '.join(_ALGORITHMS)}.")
    return _ALGORITHMS[name]()


def encoded(digest: bytes) -> str:
    """Return a digest in base64, as S3 writes it."""
    return base64.b64encode(digest).decode()


def checksum_of(algorithm: str, pieces: Iterable[bytes]) -> str:
    """Return the checksum of the concatenated pieces, as S3 writes it."""
    running = new_hash(algorithm)
    for piece in pieces:
        running.update(piece)
    return encoded(running.digest())


def is_crc(algorithm: str) -> bool:
    """Return whether a multipart upload can have a full-object checksum; AWS allows it for CRCs only."""
    return algorithm.startswith("crc")


def named_checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the `x-amz-checksum-<algorithm>` values of headers or trailers by algorithm, unchecked.

    Raises:
        InvalidRequest: there is more than one.
    """
    names = [name for name in headers if name.startswith(HEADER) and name.removeprefix(HEADER) not in _NO_ALGORITHMS]
    if len(names) > 1:
        raise InvalidRequest("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
    return {name.removeprefix(HEADER): headers[name] for name in names}


def given_checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the `x-amz-checksum-<algorithm>` values of headers or trailers by algorithm.

    Raises:
        InvalidRequest: there is more than one, the algorithm is unknown, or the value is not base64 of its length.
        NotImplementedByThisServer: this server does not have the algorithm.
    """
    found = named_checksums(headers)
    for algorithm, value in found.items():
        if len(_decoded(value)) != len(new_hash(algorithm).digest()):
            raise InvalidRequest(f"Value for {HEADER}{algorithm} header is invalid.")
    return found


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""


def upload_type(algorithm: str, asked: str) -> str:
    """Return the checksum type of a multipart upload. Return "" if it has no algorithm.

    Args:
        algorithm: name in lower case; "" if there is none.
        asked: `COMPOSITE` or `FULL_OBJECT`; "" for the algorithm's default.

    Raises:
        InvalidRequest: the algorithm is unknown or does not support this type, or a type comes without an algorithm.
        NotImplementedByThisServer: this server does not have the algorithm.
    """
    if not algorithm:
        if asked:
            raise InvalidRequest(f"The {HEADER}type header can only be used with the {HEADER}algorithm header.")
        return ""
    new_hash(algorithm)  # raises for an unknown algorithm
    default = FULL_OBJECT if algorithm == "crc64nvme" else COMPOSITE
    kind = asked or default
    # AWS computes a full-object checksum from those of the parts, which only CRCs allow. CRC-64/NVME has no other type.
    if (kind == FULL_OBJECT and not is_crc(algorithm)) or (kind == COMPOSITE and default == FULL_OBJECT):
        raise InvalidRequest(f"The {kind} checksum type cannot be used with the {algorithm} checksum algorithm.")
    return kind


def composite(algorithm: str, parts: list[str]) -> str:
    """Return the composite checksum of a multipart upload from the checksums of its parts, all in base64."""
    return f"{checksum_of(algorithm, (base64.b64decode(part) for part in parts))}-{len(parts)}"
