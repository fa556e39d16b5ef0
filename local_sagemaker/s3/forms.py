"""Parser of `multipart/form-data` forms with one file: a state machine without I/O (RFC 7578).

Form libraries spool the file before its fields can be checked. An upload that its policy does not allow must not be
written at all.
"""

from __future__ import annotations

import re
from email.message import Message
from enum import Enum, auto

from local_sagemaker.s3.errors import IncompleteBody, MalformedPOSTRequest, MaxPostPreDataLengthExceededError

POST_OBJECT = "PostObject"
"""The operation that takes a form; botocore's model lacks it."""

FILE = "file"  # the last field: S3 ignores what comes after it
_MOST_FIELDS = 20 << 10  # bytes before the file: https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html
_HEAD_END = b"\r\n\r\n"


class _State(Enum):
    PREAMBLE = auto()
    HEAD = auto()  # the headers of a part
    FIELD = auto()
    CONTENT = auto()  # the file's bytes
    DONE = auto()


def boundary_of(content_type: str) -> str:
    """Return the boundary of a form. Return "" if the content type is not that of a form."""
    told = Message()
    told["content-type"] = content_type
    if told.get_content_type() != "multipart/form-data":
        return ""
    return str(told.get_boundary(""))


class FormReader:
    """Parses a form piece by piece.

    Attributes:
        fields: the fields before the file, by lower-case names.
        filename: name of the file; empty if the client did not send one.
        has_file: whether the file has begun. All fields are known then.
    """

    def __init__(self, boundary: str) -> None:
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.has_file = False
        # The first boundary has no line break before it.
        self._buffer = bytearray(b"\r\n")
        self._delimiter = f"\r\n--{boundary}".encode("utf-8", "surrogateescape")
        self._state = _State.PREAMBLE
        self._name = ""
        self._read = 0

    def feed(self, data: bytes) -> bytes:
        """Parse the next bytes of the form and return the bytes of the file among them.

        Raises:
            MalformedPOSTRequest: the body is not a form.
            MaxPostPreDataLengthExceededError: the fields before the file are too long.
        """
        self._buffer += data
        content = bytearray()
        while self._step(content):
            pass
        if self._read + (0 if self.has_file else len(self._buffer)) > _MOST_FIELDS:
            raise MaxPostPreDataLengthExceededError
        return bytes(content)

    def finish(self) -> None:
        """Check that the form is complete.

        Raises:
            MalformedPOSTRequest: the form has no file.
            IncompleteBody: the form ended before its last boundary.
        """
        if not self.has_file:
            raise MalformedPOSTRequest("POST requires exactly one file upload per request.")
        if self._state is not _State.DONE:
            raise IncompleteBody("The form ended before its last boundary.")

    def _step(self, content: bytearray) -> bool:
        """Advance by one step. Return False if nothing more can be read from the bytes so far."""
        if self._state is _State.DONE:
            self._buffer.clear()
            return False
        if self._state is _State.HEAD:
            return self._head()
        end = self._buffer.find(self._delimiter)
        if self._state is _State.CONTENT:
            # Keep back the bytes that may be the beginning of the delimiter.
            cut = end if end >= 0 else max(len(self._buffer) - len(self._delimiter), 0)
            content += self._buffer[:cut]
            del self._buffer[:cut]
            end = 0 if end >= 0 else -1
        if end < 0:
            return False
        value = bytes(self._buffer[:end])
        del self._buffer[: end + len(self._delimiter)]
        self._part_ended(value)
        return True

    def _part_ended(self, value: bytes) -> None:
        if self._state is _State.CONTENT:
            self._state = _State.DONE
            return
        if self._state is _State.FIELD:
            self._read += len(value)
            try:
                self.fields[self._name.lower()] = value.decode()
            except UnicodeDecodeError as error:
                raise MalformedPOSTRequest(f"The field {self._name} is not UTF-8.") from error
        self._state = _State.HEAD

    def _head(self) -> bool:
        if self._buffer.startswith(b"--"):
            self._state = _State.DONE
            return True
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return False
        head = bytes(self._buffer[:end])
        del self._buffer[: end + len(_HEAD_END)]
        self._read += len(head)
        self._name, filename = _disposition(head)
        if self._name.lower() == FILE:
            self.has_file, self.filename, self._state = True, filename, _State.CONTENT
        else:
            self._state = _State.FIELD
        return True


def _disposition(head: bytes) -> tuple[str, str]:
    """Return the name of a part and the name of its file.

    Raises:
        MalformedPOSTRequest: the part has no name.
    """
    text = head.decode("utf-8", "replace")
    found = re.search(r"^content-disposition:\s*form-data;(.*)$", text, re.IGNORECASE | re.MULTILINE)
    told = dict(re.findall(r'\b(name|filename)="([^"]*)"', found[1])) if found else {}
    if "name" not in told:
        raise MalformedPOSTRequest("A part of the form has no name.")
    return told["name"], told.get("filename", "")
