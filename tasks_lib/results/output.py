"""One output of a job, within reach: download it, open a file of it.

Not a file-system object (`s3fs`): a training job's output is one tarball, and who reads `model/weights` should not have
to know that.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import IO, Any

from tasks_lib.aws.objects import Objects
from tasks_lib.aws.sync import download, extract
from tasks_lib.errors import MissingPath
from tasks_lib.jobs.channels import is_tarball
from tasks_lib.jobs.s3_layout import Location


class Output:
    """One output of a job: a tarball, or everything under a prefix.

    Args:
        uri: Where it is; a prefix ends in `/`.
        objects: Access to S3.
    """

    def __init__(self, uri: str, objects: Objects) -> None:
        self.uri = uri
        self._objects = objects

    def __repr__(self) -> str:
        return f"Output({self.uri!r})"

    @property
    def is_tarball(self) -> bool:
        """Whether it is packed."""
        return is_tarball(self.uri)

    def download(self, target: str | Path, *, unpack: bool = True) -> list[Path]:
        """Fetch it into a directory.

        Args:
            target: The directory; made where it is missing.
            unpack: Unpack a tarball instead of keeping it.

        Returns:
            The files written.

        Raises:
            MissingPath: The job left nothing there.
            UnsafeArchive: The tarball would write outside the directory; nothing is written.
        """
        folder = Path(target)
        if not (self.is_tarball and unpack):
            return download(self._objects, Location.parse(self.uri), folder)
        with tempfile.TemporaryDirectory() as scratch:
            (archive,) = download(self._objects, Location.parse(self.uri), Path(scratch))
            return extract(archive, folder, origin=self.uri)

    def open(self, name: str) -> IO[bytes]:
        """Open one file of it for reading: bytes, to be closed by the caller (`with`).

        A prefix is read as a stream from S3; of a tarball, all is fetched and unpacked first.

        Raises:
            MissingPath: There is no such file in it.
        """
        if not self.is_tarball:
            return self._open_object(name)
        with tempfile.TemporaryDirectory() as scratch:
            self.download(scratch)
            path = Path(scratch) / name
            if not path.is_file():
                raise self._no_file(name)
            return path.open("rb")  # stays readable when the directory is gone

    def read_bytes(self, name: str) -> bytes:
        """Return the content of one file of it.

        Raises:
            MissingPath: There is no such file in it.
        """
        with self.open(name) as file:
            return file.read()

    def read_text(self, name: str) -> str:
        """Return one file of it as UTF-8 text."""
        return self.read_bytes(name).decode()

    def read_json(self, name: str) -> Any:
        """Return one file of it, read as JSON."""
        return json.loads(self.read_bytes(name))

    def _open_object(self, name: str) -> IO[bytes]:
        place = Location.parse(self.uri).below(name)
        if "" not in self._objects.listing(place).items:
            raise self._no_file(name)
        body: IO[bytes] = self._objects.open(place)
        return body

    def _no_file(self, name: str) -> MissingPath:
        return MissingPath(
            f"There is no {name!r} in {self.uri}.", fix="look at the job's log (`result.logs()`) for what it wrote."
        )
