"""One output of a job: download it, open a file of it, or hand it to pandas and fsspec.

A training job's output is one tarball. `open` and `download` hide that; `path` does not.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tasks_lib.aws.objects import Objects
from tasks_lib.aws.sync import download, extract
from tasks_lib.errors import MissingPath
from tasks_lib.jobs.channels import is_tarball
from tasks_lib.jobs.s3_layout import Location

if TYPE_CHECKING:
    from s3fs import S3FileSystem


class Output:
    """One output of a job: a tarball, or everything under a prefix.

    Args:
        uri: URI of the output; a prefix ends in `/`.
        objects: Access to S3.
    """

    def __init__(self, uri: str, objects: Objects) -> None:
        self.uri = uri
        self._objects = objects

    def __repr__(self) -> str:
        return f"Output({self.uri!r})"

    @property
    def is_tarball(self) -> bool:
        """Whether the output is a tarball."""
        return is_tarball(self.uri)

    @property
    def path(self) -> str:
        """The output for pandas and fsspec: `s3://bucket/key`, without a slash at the end."""
        return self.uri.rstrip("/")

    @property
    def storage_options(self) -> dict[str, Any]:
        """What pandas and fsspec need to reach the output: `pd.read_csv(f"{output.path}/a.csv", storage_options=…)`.

        They hold credentials that are valid now, and expire as those do: read the property again for each use.
        """
        return self._objects.storage_options

    @property
    def filesystem(self) -> S3FileSystem:
        """The project's bucket as a file system of fsspec: `output.filesystem.glob(f"{output.path}/*.parquet")`."""
        return self._objects.filesystem()

    def download(self, target: str | Path, *, unpack: bool = True) -> list[Path]:
        """Download the output into a directory.

        Args:
            target: The directory; created if it does not exist.
            unpack: Whether to unpack a tarball instead of keeping it; by default True.

        Returns:
            The files written.

        Raises:
            MissingPath: There is no object at the URI.
            UnsafeArchive: The tarball would write outside the directory; nothing is written.
        """
        folder = Path(target)
        if not (self.is_tarball and unpack):
            return download(self._objects, Location.parse(self.uri), folder)
        with tempfile.TemporaryDirectory() as scratch:
            (archive,) = download(self._objects, Location.parse(self.uri), Path(scratch))
            return extract(archive, folder, origin=self.uri)

    def open(self, name: str) -> IO[bytes]:
        """Open one file of the output for reading bytes; the caller closes it (`with`).

        The file can seek, as readers of Parquet need it. Of a file below a prefix only the parts that are read are
        downloaded. A tarball is downloaded and unpacked first.

        Raises:
            MissingPath: The output has no such file.
        """
        if not self.is_tarball:
            return self._open_object(name)
        with tempfile.TemporaryDirectory() as scratch:
            self.download(scratch)
            path = Path(scratch) / name
            if not path.is_file():
                raise self._no_file(name)
            return path.open("rb")  # stays readable after the directory is deleted

    def read_bytes(self, name: str) -> bytes:
        """Return the content of one file of the output.

        Raises:
            MissingPath: The output has no such file.
        """
        with self.open(name) as file:
            return file.read()

    def read_text(self, name: str) -> str:
        """Return one file of the output as UTF-8 text."""
        return self.read_bytes(name).decode()

    def read_json(self, name: str) -> Any:
        """Return one file of the output, parsed as JSON."""
        return json.loads(self.read_bytes(name))

    def _open_object(self, name: str) -> IO[bytes]:
        place = Location.parse(self.uri).below(name)
        if "" not in self._objects.listing(place).items:
            raise self._no_file(name)
        file: IO[bytes] = self._objects.filesystem().open(place.uri, "rb")
        return file

    def _no_file(self, name: str) -> MissingPath:
        return MissingPath(
            f"There is no {name!r} in {self.uri}.", fix="look at the job's log (`result.logs()`) for what it wrote."
        )
