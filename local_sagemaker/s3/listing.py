"""One page of a listing, with keys rolled up into common prefixes; only `local_sagemaker.s3` imports it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from local_sagemaker.s3.names import after, behind

if TYPE_CHECKING:
    from local_sagemaker.s3.objects import StoredObject
    from local_sagemaker.s3.store import ObjectStore

_PAGE = 1000  # rows read from the index at a time
# With a delimiter most rows of a page may fall into one prefix, and are skipped by a look-up behind it.
_PAGE_WITH_DELIMITER = 100


@dataclass
class Page:
    """What a listing answers.

    Attributes:
        objects: in the order of their keys.
        prefixes: common prefixes, in order.
        following: the key to go on from (itself included); None: nothing is left.
    """

    objects: list[StoredObject] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    following: str | None = None

    @property
    def count(self) -> int:
        """Objects and prefixes together, as `max-keys` counts them."""
        return len(self.objects) + len(self.prefixes)

    @property
    def last(self) -> str:
        """The last key or prefix; empty for an empty page."""
        return max([*(one.key for one in self.objects[-1:]), *self.prefixes[-1:]], default="")

    @property
    def last_is_object(self) -> bool:
        """Whether the page ends with an object, not with a prefix."""
        return bool(self.objects) and self.objects[-1].key == self.last


def list_page(store: ObjectStore, bucket: str, prefix: str, delimiter: str, *, start: str, limit: int) -> Page:
    """Return up to `limit` objects and common prefixes with keys from `start` on, itself included.

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
                continue  # rolled up into the prefix before
            if page.count >= limit:
                page.following = row.key if limit else None
                return page
            position = _take(page, row, prefix, delimiter)
        if len(rows) < size:
            break
    return page


def _take(page: Page, row: StoredObject, prefix: str, delimiter: str) -> str | None:
    """Add an object, or the common prefix that it belongs to; return where to go on."""
    group = common_prefix(row.key, prefix, delimiter)
    if not group:
        page.objects.append(row)
        return after(row.key)
    page.prefixes.append(group)
    return behind(group)


def common_prefix(key: str, prefix: str, delimiter: str) -> str:
    """Return the common prefix that stands for a key in a listing; empty: the key stands for itself."""
    cut = key.find(delimiter, len(prefix)) if delimiter else -1
    return "" if cut < 0 else key[: cut + len(delimiter)]


def start_behind(marker: str, prefix: str, delimiter: str) -> str:
    """Return where a listing goes on behind `marker`, a key or a common prefix of the page before.

    Behind a common prefix means behind everything that it stands for, else it would come again.
    """
    rolled_up = delimiter and marker.endswith(delimiter) and marker.startswith(prefix) and len(marker) > len(prefix)
    return (behind(marker) if rolled_up else None) or after(marker)
