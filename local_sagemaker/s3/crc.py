"""CRC-32C and CRC-64/NVME, the two checksums of S3 that Python does not bring.

With numpy, and not byte by byte: a loop in Python does 10 MB/s, this does hundreds, and the AWS command line sends a
CRC-64/NVME with everything that it uploads. A C library for it (`awscrt`) would change how boto3 transfers files.
A CRC without its initial value is linear over GF(2), so a block is cut into lanes that are computed side by side, eight
bytes a step, and joined in pairs afterwards. Only `local_sagemaker.s3` imports it.
Check values of the test: https://reveng.sourceforge.io/crc-catalogue/all.htm.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]

CRC32C = (32, 0x82F63B78)  # width and reflected polynomial
CRC64NVME = (64, 0x9A6C9329AC4BC9B5)
_WORD = 8  # bytes a step
_LANE = 32  # steps a lane; 4,096 lanes make a block of 1 MiB
_SHORT = 2048  # bytes up to which the plain loop is faster


class Crc:
    """A running CRC with the interface of `hashlib`'s hashes.

    Args:
        width: 32 or 64 bits.
        polynomial: reflected.
    """

    def __init__(self, width: int, polynomial: int) -> None:
        self._width = width
        self._polynomial = polynomial
        self._ones = (1 << width) - 1
        self._state = self._ones

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Go on with `data`."""
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
    import numpy as np  # noqa: PLC0415 -- 0.1 s, and most clients never ask for these checksums

    lanes = 1 << ((len(data) - 1) // (_WORD * _LANE)).bit_length()
    # Zeros in front change nothing in a CRC that begins with zero; the state enters as if it were data.
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


def _apply(shift: Words, states: Words) -> Words:
    """Apply a linear map, given as one table for each byte of a state, to all states."""
    import numpy as np  # noqa: PLC0415 -- as above

    columns = states.view(np.uint8).reshape(-1, _WORD)
    result: Any = shift[0][columns[:, 0]]
    for index in range(1, _WORD):
        result ^= shift[index][columns[:, index]]
    return result  # type: ignore[no-any-return]


@cache
def _shift(polynomial: int, length: int) -> Words:
    """Return the map that takes a state over `length` zero bytes; a power of two, 8 or more."""
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
