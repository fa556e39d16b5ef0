"""The two checksums that local_sagemaker computes itself, compared with their definition."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_sagemaker.s3.checksums import new_hash

# Width, polynomial (most significant bit first) and check value of https://reveng.sourceforge.io/crc-catalogue/all.htm.
CRCS = {"crc32c": (32, 0x1EDC6F41, 0xE3069283), "crc64nvme": (64, 0xAD93D23594C93659, 0xAE8B14860A799888)}


def by_definition(data: bytes, width: int, polynomial: int) -> int:
    """Compute a CRC bit by bit, unlike the code under test: reflected input, all ones in and out."""
    state, reflected = (1 << width) - 1, int(f"{polynomial:0{width}b}"[::-1], 2)
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (reflected if state & 1 else 0)
    return state ^ ((1 << width) - 1)


@pytest.mark.parametrize("name", CRCS)
def test_check_value(name: str) -> None:
    """The checksum of the catalogue's test data is its check value, and that of no data is 0."""
    running = new_hash(name)
    assert int.from_bytes(running.digest(), "big") == 0
    running.update(b"123456789")

    assert int.from_bytes(running.digest(), "big") == CRCS[name][2]


@pytest.mark.parametrize("name", CRCS)
@settings(max_examples=15, deadline=None)
@given(
    seed=st.binary(min_size=1, max_size=40),
    sizes=st.lists(st.sampled_from([0, 1, 7, 2048, 2049, 4096, 9001]), max_size=4),
)
def test_any_pieces_give_the_same(name: str, seed: bytes, sizes: list[int]) -> None:
    """The checksum equals its definition, however the data is cut into pieces."""
    data = (seed * (sum(sizes) // len(seed) + 1))[: sum(sizes)]
    width, polynomial, _ = CRCS[name]
    running, start = new_hash(name), 0
    for size in sizes:
        running.update(data[start : start + size])
        start += size

    assert int.from_bytes(running.digest(), "big") == by_definition(data, width, polynomial)
