"""Decoder of `aws-chunked` bodies: a state machine without I/O.

This is S3's own framing inside the body, not HTTP's chunked transfer coding, which uvicorn decodes. Chunk signatures
are not checked. Trailers carry a checksum.
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html and sigv4-streaming-trailers.html
"""

from __future__ import annotations

from enum import Enum, auto

from local_sagemaker.s3.errors import IncompleteBody

_LONGEST_LINE = 16 * 1024  # bytes; a chunk's header or a trailer is far shorter


class _State(Enum):
    HEAD = auto()  # the line with the chunk's size
    DATA = auto()
    END = auto()  # the empty line after the data
    TRAILER = auto()


class ChunkedDecoder:
    """Decodes the body of a request to its payload, piece by piece.

    Attributes:
        trailers: the trailers after the last chunk, by lower-case names.
    """

    def __init__(self) -> None:
        self.trailers: dict[str, str] = {}
        self._buffer = bytearray()
        self._missing = 0
        self._state = _State.HEAD

    def feed(self, data: bytes) -> bytes:
        """Decode the next bytes of the body and return their payload.

        Raises:
            IncompleteBody: the framing is malformed.
        """
        self._buffer += data
        payload = bytearray()
        while self._step(payload):
            pass
        return bytes(payload)

    def finish(self) -> None:
        """Check that the body is complete.

        Raises:
            IncompleteBody: the last chunk is missing.
        """
        # Trailers may end with the body instead of an empty line.
        if self._state is _State.TRAILER and self._buffer:
            self._trailer(bytes(self._buffer))
        if self._state is not _State.TRAILER:
            raise IncompleteBody("The aws-chunked body ended before its last chunk.")

    def _step(self, payload: bytearray) -> bool:
        """Advance by one step. Return False if more bytes are needed."""
        if self._state is _State.DATA:
            return self._data(payload)
        line = self._line()
        if line is None:
            return False
        if self._state is _State.HEAD:
            self._head(line)
        elif self._state is _State.END:
            self._end(line)
        else:
            self._trailer(line)
        return True

    def _data(self, payload: bytearray) -> bool:
        piece = self._buffer[: self._missing]
        payload += piece
        del self._buffer[: len(piece)]
        self._missing -= len(piece)
        if not self._missing:
            self._state = _State.END
        return bool(piece)

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n")
        if max(end, 0 if end >= 0 else len(self._buffer)) > _LONGEST_LINE:
            raise IncompleteBody("A line of the aws-chunked framing is too long.")
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.strip()

    def _head(self, line: bytes) -> None:
        size = line.partition(b";")[0]
        # int() also accepts signs, underscores and blanks.
        if not size or size.strip(b"0123456789abcdefABCDEF"):
            raise IncompleteBody("A chunk of the aws-chunked body has no size.")
        self._missing = int(size, 16)
        self._state = _State.DATA if self._missing else _State.TRAILER

    def _end(self, line: bytes) -> None:
        if line:
            raise IncompleteBody("A chunk of the aws-chunked body is longer than its size says.")
        self._state = _State.HEAD

    def _trailer(self, line: bytes) -> None:
        # Some clients send an empty line between a signed trailer and its signature, so it does not end the trailers.
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            self.trailers[name.strip().lower()] = value.strip()
