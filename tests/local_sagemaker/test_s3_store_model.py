"""The object store compared with a dictionary: after any operations, both have the same content."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from local_sagemaker.s3.errors import NoSuchKey, PreconditionFailed
from local_sagemaker.s3.listing import list_page, start_behind
from local_sagemaker.s3.store import ObjectStore, Properties

# Few letters, so that keys collide; with neighbours in byte order and both ends of Unicode.
_ENDS = "\0é\ud7ff\ue000\uffff\U0010ffff"
_KEYS = st.text("ab/", min_size=1, max_size=3) | st.text("a" + _ENDS, min_size=1, max_size=2)
_PREFIXES = st.text("ab/", max_size=2) | st.text(_ENDS, max_size=1)
_BODIES = st.binary(max_size=3)


class StoreAgainstDictionary(RuleBasedStateMachine):
    """Puts, copies, deletions and listings with all conditions."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="store-model-"))
        self.store = ObjectStore(self.directory / "s3")
        self.store.create_bucket("data")
        self.model: dict[str, bytes] = {}

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)

    def put(self, key: str, body: bytes, **condition: str) -> None:
        with self.store.new_upload() as upload:
            upload.write(body)
            upload.commit("data", key, **condition)  # type: ignore[arg-type]
        self.model[key] = body

    @rule(key=_KEYS, body=_BODIES)
    def put_always(self, key: str, body: bytes) -> None:
        self.put(key, body)

    @rule(folder=st.sampled_from(["a/", "b/", "/", "a"]))
    def put_folder(self, folder: str) -> None:
        for name in ("a", "b"):
            self.put(folder + name, b"")

    @rule(key=_KEYS, body=_BODIES)
    def put_if_absent(self, key: str, body: bytes) -> None:
        if key in self.model:
            with pytest.raises(PreconditionFailed):
                self.put(key, body, if_none_match="*")
        else:
            self.put(key, body, if_none_match="*")

    @rule(key=_KEYS, body=_BODIES, known=_BODIES)
    def put_if_known(self, key: str, body: bytes, known: bytes) -> None:
        etag = hashlib.md5(known).hexdigest()
        if key not in self.model:
            with pytest.raises(NoSuchKey):
                self.put(key, body, if_match=etag)
        elif self.model[key] != known:
            with pytest.raises(PreconditionFailed):
                self.put(key, body, if_match=etag)
        else:
            self.put(key, body, if_match=etag)

    @rule(source=_KEYS, to=_KEYS)
    def copy(self, source: str, to: str) -> None:
        if source in self.model:
            self.store.copy(("data", source), ("data", to), judge=lambda found: (Properties(), found.checksums))
            self.model[to] = self.model[source]
        else:
            with pytest.raises(NoSuchKey):
                self.store.copy(("data", source), ("data", to), judge=lambda found: (Properties(), found.checksums))

    @rule(key=_KEYS)
    def delete(self, key: str) -> None:
        self.store.delete("data", key)
        self.model.pop(key, None)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = ObjectStore(self.directory / "s3")
        assert self.store.sweep() == 0

    @rule(prefix=_PREFIXES, start_after=_PREFIXES)
    def list_keys(self, prefix: str, start_after: str) -> None:
        expected = [key for key in self.ordered() if key.startswith(prefix) and key.encode() > start_after.encode()]

        assert expected == [one.key for one in self.store.list("data", prefix, start_after)]

    @rule(prefix=_PREFIXES, delimiter=st.sampled_from(["", "/", "a", "ab"]), limit=st.integers(1, 3))
    def list_pages(self, prefix: str, delimiter: str, limit: int) -> None:
        """All pages together have each key and common prefix once, whether they continue by token or by marker."""
        expected: list[str] = []
        for key in self.ordered():
            if key.startswith(prefix):
                cut = key.find(delimiter, len(prefix)) if delimiter else -1
                entry = key if cut < 0 else key[: cut + len(delimiter)]
                if entry not in expected:
                    expected.append(entry)
        for by_marker in (False, True):
            found: list[str] = []
            start: str | None = ""
            while start is not None:
                page = list_page(self.store, "data", prefix, delimiter, start=start, limit=limit)
                found += sorted([*(one.key for one in page.objects), *page.prefixes], key=str.encode)
                start = page.following
                if start is not None and by_marker:
                    start = start_behind(page.last, prefix, delimiter)

            assert expected == found

    @invariant()
    def same_content(self) -> None:
        found = {}
        for one in self.store.list("data"):
            found[one.key] = one.path.read_bytes()
            assert one.etag == hashlib.md5(found[one.key]).hexdigest()

        assert self.model == found

    def ordered(self) -> list[str]:
        return sorted(self.model, key=str.encode)


TestStoreAgainstDictionary = StoreAgainstDictionary.TestCase
TestStoreAgainstDictionary.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
