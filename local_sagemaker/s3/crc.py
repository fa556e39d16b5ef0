"""CRC-32C and CRC-64/NVME, the two CRCs of S3 that Python's standard library lacks.

Computed with numpy: a Python loop over the bytes reaches 10 MB/s, this code hundreds. The AWS command line sends a
CRC-64/NVME with every upload. A C library (`awscrt`) would change how boto3 transfers files.

A CRC without its initial value is linear over GF(2). So a block is cut into lanes, which are computed side by side,
eight bytes a step, and then joined in pairs.
Check values of the test: https://reveng.sourceforge.io/crc-catalogue/all.htm.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    ErrorContent = NDArray[np.uint64]

CRC32C = (32, 0x82F63B78)  # width and reflected polynomial
CRC64NVME = (64, 0x9A6C9329AC4BC9B5)
_WORD = 8  # bytes per step
_LANE = 32  # steps per lane; 4,096 lanes make a block of 1 MiB
_SHORT = 2048  # bytes; up to this length the plain loop is faster


class Crc:
    """A running CRC with the interface of `hashlib`'s hashes.

    Args:
        width: 32 or 64 bits.
        polynomial: reflected polynomial.
    """

    def __init__(self, width: int, polynomial: int) -> None:
        self._width = width
        self._polynomial = polynomial
        self._ones = (1 << width) - 1
        self._state = self._ones

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Continue with `data`."""
        if len(data) <= _SHORT:
            self._state = _short(self._polynomial, self._state, data)
        else:
            self._state = _long(self._polynomial, self._state, data)

    def digest(self) -> bytes:
        """Return the value, most significant byte first."""
        return (self._state ^ self._ones).to_bytes(self._width // 8, "big")


def _short(polynomial: int, state: int, data: bytes | bytearray | memoryview) -> int:
    table = _byte_table(polynomial)
    for byte in data:
        state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state


def _long(polynomial: int, state: int, data: bytes | bytearray | memoryview) -> int:
    import numpy as np  # noqa: PLC0415 -- takes 0.1 s, and most clients do not use these checksums

    lanes = 1 << ((len(data) - 1) // (_WORD * _LANE)).bit_length()
    # Leading zeros do not change a CRC that begins with zero. XOR the state into the data's first bytes instead.
    padded = np.zeros(lanes * _LANE * _WORD, np.uint8)
    padded[-len(data) :] = np.frombuffer(data, np.uint8)
    start = len(padded) - len(data)
    padded[start : start + _WORD] ^= np.frombuffer(state.to_bytes(_WORD, "little"), np.uint8)
    steps = np.ascontiguousarray(padded.view("<u8").reshape(lanes, _LANE).T)
    states = np.zeros(lanes, "<u8")
    for step in steps:
        states = _apply(_shift(polynomial, _WORD), states ^ step)
    length = _LANE * _WORD
    while len(states) > 1:
        states = _apply(_shift(polynomial, length), np.ascontiguousarray(states[0::2])) ^ states[1::2]
        length *= 2
    return int(states[0])


def _apply(shift: ErrorContent, states: ErrorContent) -> ErrorContent:
    """Apply a linear map to all states. `shift` has one table for each byte of a state."""
    import numpy as np  # noqa: PLC0415 -- as above

    columns = states.view(np.uint8).reshape(-1, _WORD)
    result: Any = shift[0][columns[:, 0]]
    for index in range(1, _WORD):
        result ^= shift[index][columns[:, index]]
    return result  # type: ignore[no-any-return]


@cache
def _shift(polynomial: int, length: int) -> ErrorContent:
    """Return the map that advances a state over `length` zero bytes. `length` is a power of two, at least 8."""
    import numpy as np  # noqa: PLC0415 -- as above

    if length > _WORD:
        half = _shift(polynomial, length // 2)
        return np.stack([_apply(half, table) for table in half])
    one = np.array(_byte_table(polynomial), "<u8")
    tables = [one]
    while len(tables) < _WORD:
        last = tables[0]
        tables.insert(0, one[last & np.uint64(0xFF)] ^ (last >> np.uint64(8)))
    return np.stack(tables)


@cache
def _byte_table(polynomial: int) -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (polynomial if value & 1 else 0)
        table.append(value)
    return table
