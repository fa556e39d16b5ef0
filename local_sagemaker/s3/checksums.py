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
_NO_ALGORITHMS = frozenset({"algorithm", "type", "mode"})
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


def is_crc(algorithm: str) -> bool:
    """Tell whether the checksum of a whole object can be asked of an upload in parts; AWS takes CRCs only."""
    return algorithm.startswith("crc")


def named_checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """Pick `x-amz-checksum-<algorithm>` out of headers or trailers; algorithm to value, which is not looked at.

    Raises:
        InvalidRequest: there is more than one.
    """
    names = [name for name in headers if name.startswith(HEADER) and name.removeprefix(HEADER) not in _NO_ALGORITHMS]
    if len(names) > 1:
        raise InvalidRequest("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
    return {name.removeprefix(HEADER): headers[name] for name in names}


def given_checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """Pick `x-amz-checksum-<algorithm>` out of headers or trailers; algorithm to value.

    Raises:
        InvalidRequest: a value is no base64 of the algorithm's length, or there is more than one.
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
    """Return the type of a multipart upload's checksum; empty without an algorithm.

    Args:
        algorithm: in lower case; empty: none.
        asked: `COMPOSITE` or `FULL_OBJECT`; empty: the algorithm's default.

    Raises:
        InvalidRequest: the algorithm has no checksum of this type.
    """
    if not algorithm:
        if asked:
            raise InvalidRequest(f"The {HEADER}type header can only be used with the {HEADER}algorithm header.")
        return ""
    new_hash(algorithm)  # refuses one that is not there
    default = FULL_OBJECT if algorithm == "crc64nvme" else COMPOSITE
    kind = asked or default
    # Only a CRC of the whole can be had from those of its parts.
    if (kind == FULL_OBJECT and not is_crc(algorithm)) or (kind == COMPOSITE and default == FULL_OBJECT):
        raise InvalidRequest(f"The {kind} checksum type cannot be used with the {algorithm} checksum algorithm.")
    return kind


def composite(algorithm: str, parts: list[str]) -> str:
    """Return the checksum of a multipart upload from those of its parts, all in base64."""
    return f"{checksum_of(algorithm, (base64.b64decode(part) for part in parts))}-{len(parts)}"
