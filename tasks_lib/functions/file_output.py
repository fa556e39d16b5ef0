"""A file or directory that a function task returned: a `Path` in the job, an object in S3 for the caller.

The caller does not get a `Path`, since nothing is on this machine. A `FileOutput` can be passed as a `Path` argument to
another function task, used as an input of any task, or downloaded.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tasks_lib.jobs.channels import TaskOutput, is_tarball, output_of
from tasks_lib.results.job_result import JobResult


@dataclass(frozen=True)
class FileOutput:
    """A file or directory among a job's outputs.

    It is a dataclass, because Prefect looks for futures and results of other tasks inside dataclasses.

    Args:
        result: The job that wrote it.
        part: Its folder in the job's output, which holds nothing else, such as `paths/0`.
        name: Its name in the job; empty in a plan, where it is not known yet.
        is_directory: Whether it is a directory.
    """

    result: JobResult
    part: str
    name: str
    is_directory: bool = False

    def __repr__(self) -> str:
        return f"FileOutput({self.uri!r})"

    @property
    def uri(self) -> str:
        """Its S3 URI; after a training job, that of the tarball that contains it."""
        whole = self.result.outputs["output"]
        return whole if self._is_packed else f"{whole}{self._place}{'/' if self.is_directory else ''}"

    @property
    def _is_packed(self) -> bool:
        return is_tarball(self.result.outputs["output"])

    @property
    def _place(self) -> str:
        return f"{self.part}/{self.name}"

    def as_input(self) -> TaskOutput:
        """Return it as an input: a channel that contains nothing else."""
        return output_of(self.result, "output", subdir=self.part, extract=self._is_packed)

    def open(self, name: str = "") -> IO[bytes]:
        """Open it for reading; the caller closes it (`with`). In a directory, open the file `name`.

        Raises:
            MissingPath: There is no such file in it.
        """
        return self.result.output.open(f"{self._place}/{name}" if name else self._place)

    def read_bytes(self, name: str = "") -> bytes:
        """Return its content, or that of one file of a directory."""
        with self.open(name) as file:
            return file.read()

    def read_text(self, name: str = "") -> str:
        """Return its content as UTF-8 text."""
        return self.read_bytes(name).decode()

    def read_json(self, name: str = "") -> Any:
        """Return its content, parsed as JSON."""
        return json.loads(self.read_bytes(name))

    def download(self, target: str | Path = ".") -> Path:
        """Download it to a directory, which is created if it does not exist.

        Returns:
            The file or directory, under its name in the job.
        """
        place = Path(target) / self.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if self.is_directory:
            with tempfile.TemporaryDirectory() as scratch:
                self.result.output.download(scratch)
                shutil.copytree(Path(scratch) / self._place, place, dirs_exist_ok=True)
            return place
        with self.open() as source, place.open("wb") as file:
            shutil.copyfileobj(source, file)
        return place
