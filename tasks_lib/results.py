"""What a task gives back: names, places and numbers. Never bulk data.

A `JobResult` travels through Prefect as a plain value and reaches for S3 only when it is asked to.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, PrivateAttr

from blocks import SageMakerProject
from tasks_lib.errors import InvalidInput, MissingPath
from tasks_lib.objects import Location, Objects
from tasks_lib.status import JobKind
from tasks_lib.sync import download, extract


class Artifact:
    """One output of a job: a tarball, or everything under a prefix.

    Args:
        uri: Where it is; a prefix ends in `/`.
        objects: Access to S3.
    """

    def __init__(self, uri: str, objects: Objects) -> None:
        self.uri = uri
        self._objects = objects

    def __repr__(self) -> str:
        return f"Artifact({self.uri!r})"

    @property
    def is_tarball(self) -> bool:
        """Whether it is packed."""
        return self.uri.endswith(".tar.gz")

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
            return extract(archive, folder)

    def read_bytes(self, name: str) -> bytes:
        """Return the content of one file of it.

        Raises:
            MissingPath: There is no such file in it.
        """
        if not self.is_tarball:
            place = Location.parse(self.uri)
            return self._read_object(Location(place.bucket, place.key + name))
        with tempfile.TemporaryDirectory() as scratch:
            self.download(scratch)
            path = Path(scratch) / name
            if not path.is_file():
                raise _no_file(name, self.uri)
            return path.read_bytes()

    def read_text(self, name: str) -> str:
        """Return one file of it as UTF-8 text."""
        return self.read_bytes(name).decode()

    def read_json(self, name: str) -> Any:
        """Return one file of it, read as JSON."""
        return json.loads(self.read_bytes(name))

    def _read_object(self, place: Location) -> bytes:
        if "" not in self._objects.listing(place).items:
            raise _no_file(place.key.rpartition("/")[2], self.uri)
        content: bytes = self._objects.open(place).read()
        return content


def _no_file(name: str, uri: str) -> MissingPath:
    return MissingPath(f"There is no {name!r} in {uri}.", fix="look at the job's log for what it wrote.")


class JobResult(BaseModel):
    """The outcome of a task: of a job that ran now, or of the one that made a new one needless.

    Args:
        project: The project's name.
        task: The task's name.
        job: The job's name.
        arn: Its ARN.
        kind: `training` or `processing`.
        cached: Whether no job had to run.
        reason: Why it ran or did not.
        seconds: Wall time of this call.
        job_seconds: From the job's creation to its end.
        billable_seconds: As SageMaker counts them; none where it does not.
        metrics: Last value by metric.
        metric_history: All values, as (epoch seconds, value).
        outputs: URI by output: `model`, `output`, `state`, `source`.
        fingerprint: The work.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    project: str
    task: str
    job: str
    arn: str
    kind: JobKind
    cached: bool
    reason: str
    seconds: float
    job_seconds: float | None = None
    billable_seconds: float | None = None
    metrics: dict[str, float] = {}
    metric_history: dict[str, list[tuple[float, float]]] = {}
    outputs: dict[str, str] = {}
    fingerprint: str

    _home: SageMakerProject | None = PrivateAttr(default=None)

    def __getstate__(self) -> dict[Any, Any]:
        """Leave the project behind: its clients cannot be pickled, and its credentials must not be."""
        return {**super().__getstate__(), "__pydantic_private__": {"_home": None}}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> JobResult:
        """Return the result itself: it does not change."""
        return self

    def bound(self, project: SageMakerProject) -> JobResult:
        """Return this result with the project by which its outputs are reached.

        Needed only for a result that was read back from JSON or a pickle; a task's own is bound.
        """
        self._home = project
        return self

    @property
    def model(self) -> Artifact:
        """The model, `model.tar.gz` (training)."""
        return self._artifact("model")

    @property
    def output(self) -> Artifact:
        """The output: `output.tar.gz` of training, a prefix of processing."""
        return self._artifact("output")

    @property
    def state(self) -> Artifact:
        """The task's state directory, as it is now."""
        return self._artifact("state")

    @property
    def source(self) -> Artifact:
        """The code that ran."""
        return self._artifact("source")

    def _artifact(self, name: str) -> Artifact:
        if name not in self.outputs:
            raise InvalidInput(
                f"The job {self.job} has no {name!r}.", fix=f"it has {', '.join(sorted(self.outputs)) or 'none'}."
            )
        if self._home is None:
            raise InvalidInput(
                f"This result of {self.job} does not know how to reach S3.", fix="call result.bound(project) first."
            )
        return Artifact(self.outputs[name], Objects(self._home))
