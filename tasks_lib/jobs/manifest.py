"""The content of a directory or S3 prefix: names, sizes, and a digest or ETag of each file. Pure.

Local trees and S3 listings share one class, so that one comparison finds what changed in either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Item:
    """One file or object.

    Args:
        size: Size in bytes.
        digest: SHA-256 of a local file's content, or the ETag of an object.
        executable: Whether a local file is executable. The rest of its mode depends on the umask and does not count.
    """

    size: int
    digest: str
    executable: bool = False


@dataclass(frozen=True)
class Manifest:
    """Files or objects by their relative names, in the order of their UTF-8 bytes, as in S3."""

    items: Mapping[str, Item] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[str, Item]]:
        return iter(sorted(self.items.items(), key=lambda pair: pair[0].encode()))

    def __len__(self) -> int:
        return len(self.items)

    @property
    def digest(self) -> str:
        """SHA-256 over names, sizes, contents and executable flags."""
        lines = [[name, item.size, item.digest, item.executable] for name, item in self]
        return hashlib.sha256(json.dumps(lines).encode()).hexdigest()

    @property
    def size(self) -> int:
        """The sum of the sizes in bytes."""
        return sum(item.size for item in self.items.values())

    def changed(self, other: Manifest) -> list[str]:
        """Return the names that were added, removed or changed between this manifest and another."""
        names = self.items.keys() | other.items.keys()
        return sorted(name for name in names if self.items.get(name) != other.items.get(name))

    def to_json(self) -> list[list[str | int | bool]]:
        """Return the manifest as JSON values."""
        return [[name, item.size, item.digest, item.executable] for name, item in self]

    @classmethod
    def from_json(cls, rows: list[list[str | int | bool]]) -> Manifest:
        """Return the manifest that `to_json` wrote."""
        return cls({str(name): Item(int(size), str(digest), bool(flag)) for name, size, digest, flag in rows})
