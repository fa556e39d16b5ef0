"""Pages of a listing, with keys grouped into common prefixes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from local_sagemaker.s3.names import after, behind

if TYPE_CHECKING:
    from local_sagemaker.s3.objects import StoredObject
    from local_sagemaker.s3.store import ObjectStore

_PAGE = 1000  # rows read from the index at a time
# With a delimiter, most rows read may belong to one common prefix. A new scan after the prefix skips its other rows.
_PAGE_WITH_DELIMITER = 100


@dataclass
class Page:
    """One page of a listing.

    Attributes:
        objects: objects in the order of their keys.
        prefixes: common prefixes, in order.
        following: key at which the next page starts (inclusive); None if nothing is left.
    """

    objects: list[StoredObject] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    following: str | None = None

    @property
    def count(self) -> int:
        """Number of objects and prefixes together, as `max-keys` counts them."""
        return len(self.objects) + len(self.prefixes)

    @property
    def last(self) -> str:
        """The last key or prefix; empty for an empty page."""
        return max([*(one.key for one in self.objects[-1:]), *self.prefixes[-1:]], default="")

    @property
    def last_is_object(self) -> bool:
        """Whether the page ends with an object rather than a prefix."""
        return bool(self.objects) and self.objects[-1].key == self.last


def list_page(store: ObjectStore, bucket: str, prefix: str, delimiter: str, *, start: str, limit: int) -> Page:
    """Return up to `limit` objects and common prefixes, with keys from `start` on (inclusive).

    Raises:
        NoSuchBucket: the bucket does not exist.
    """
    page = Page()
    end = behind(prefix)
    position: str | None = max(prefix, start)
    size = _PAGE_WITH_DELIMITER if delimiter else min(_PAGE, limit + 1)
    while position is not None:
        rows = store.scan(bucket, position, end, size)
        for row in rows:
            if position is None or row.key < position:
                continue  # belongs to the previous common prefix
            if page.count >= limit:
                page.following = row.key if limit else None
                return page
            position = _take(page, row, prefix, delimiter)
        if len(rows) < size:
            break
    return page


def _take(page: Page, row: StoredObject, prefix: str, delimiter: str) -> str | None:
    """Add an object or its common prefix to the page, and return where to continue."""
    group = common_prefix(row.key, prefix, delimiter)
    if not group:
        page.objects.append(row)
        return after(row.key)
    page.prefixes.append(group)
    return behind(group)


def common_prefix(key: str, prefix: str, delimiter: str) -> str:
    """Return the common prefix under which a listing groups a key. Return "" if the key is listed itself."""
    cut = key.find(delimiter, len(prefix)) if delimiter else -1
    return "" if cut < 0 else key[: cut + len(delimiter)]


def start_behind(marker: str, prefix: str, delimiter: str) -> str:
    """Return the position at which a listing continues after `marker`.

    The marker is a key or a common prefix of the previous page. After a common prefix, the listing skips all keys in
    its group; otherwise the prefix would be listed again.
    """
    rolled_up = delimiter and marker.endswith(delimiter) and marker.startswith(prefix) and len(marker) > len(prefix)
    return (behind(marker) if rolled_up else None) or after(marker)
