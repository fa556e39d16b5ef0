"""Manifests: one digest for the content of a tree, and the names of what changed."""

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given

from tasks_lib.jobs.manifest import Item, Manifest

NAMES = st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=20)
ITEMS = st.builds(Item, st.integers(min_value=0), st.text(alphabet="0123456789abcdef", max_size=8), st.booleans())
MANIFESTS = st.builds(Manifest, st.dictionaries(NAMES, ITEMS, max_size=6))


@given(MANIFESTS)
def test_round_trip(manifest):
    """A manifest is restored from its JSON with the same items and digest."""
    again = Manifest.from_json(manifest.to_json())

    assert dict(manifest.items) == dict(again.items)
    assert manifest.digest == again.digest


@given(MANIFESTS)
def test_order_is_that_of_utf8_bytes(manifest):
    """Items are sorted by UTF-8 bytes, as S3 does; Python's order of strings can differ."""
    names = [name.encode() for name, _ in manifest]

    assert sorted(names) == names
    assert len(manifest) == len(names)


def test_order_beyond_the_first_plane():
    """U+FFFF comes before U+10000 in UTF-8, and after it in UTF-16."""
    manifest = Manifest({"\U00010000": Item(1, "a"), "\uffff": Item(1, "b")})

    assert [name for name, _ in manifest] == ["\uffff", "\U00010000"]


@given(st.dictionaries(NAMES, ITEMS, min_size=1, max_size=5), st.randoms())
def test_digest_is_blind_to_the_order_of_insertion(items, random):
    """The order of insertion does not change the digest."""
    shuffled = list(items.items())
    random.shuffle(shuffled)

    assert Manifest(items).digest == Manifest(dict(shuffled)).digest


@pytest.mark.parametrize(
    "other",
    [
        {"b": Item(1, "x")},
        {"a": Item(2, "x")},
        {"a": Item(1, "y")},
        {"a": Item(1, "x", executable=True)},
        {"a": Item(1, "x"), "b": Item(0, "")},
        {},
    ],
    ids=["name", "size", "content", "executable", "one more", "one less"],
)
def test_digest_changes_with_each_part(other):
    """Name, size, content and executable bit change the digest."""
    assert Manifest({"a": Item(1, "x")}).digest != Manifest(other).digest


@given(MANIFESTS, MANIFESTS)
def test_different_manifests_have_different_digests(one, other):
    """Different manifests have different digests; names cannot run into each other."""
    assume(dict(one.items) != dict(other.items))

    assert one.digest != other.digest


@given(MANIFESTS, MANIFESTS)
def test_changed_is_symmetric_and_complete(one, other):
    """`changed` has exactly the names that were added, removed or changed, from either side."""
    names = one.items.keys() | other.items.keys()
    expected = sorted(name for name in names if one.items.get(name) != other.items.get(name))

    assert expected == one.changed(other) == other.changed(one)
    assert (expected == []) == (one.digest == other.digest)


@given(MANIFESTS)
def test_size_is_the_sum(manifest):
    """The size is the sum of all items' sizes in bytes."""
    assert sum(item.size for item in manifest.items.values()) == manifest.size
