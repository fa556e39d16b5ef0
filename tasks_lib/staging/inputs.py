"""Resolves the channels of a task to channels that SageMaker can read.

Local directories, S3 listings and other tasks' records are read here, before any job is created. Nothing is written:
uploads are only noted here, and made when a job is going to run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks_lib.aws.objects import Objects
from tasks_lib.aws.sync import local_files, manifest_of, upload
from tasks_lib.backend import Backend
from tasks_lib.errors import BucketMissing, InputNotReady, InputsChanged, InvalidInput, MissingPath
from tasks_lib.jobs.channels import Channel, TaskOutput, output_place
from tasks_lib.jobs.kinds import JobKind, kind_of
from tasks_lib.jobs.manifest import Manifest
from tasks_lib.jobs.naming import check_channel_name, check_task_name
from tasks_lib.jobs.s3_layout import Location, TaskFolder
from tasks_lib.jobs.spec import ResolvedChannel
from tasks_lib.ledger.records import Ledger, Record
from tasks_lib.results.job_result import JobResult
from tasks_lib.staging.source import Source, toolkit
from worker_toolkit.contract import SOURCE_ARCHIVE, STARTER, TOOLKIT_ARCHIVE


@dataclass(frozen=True)
class Upload:
    """Local files that a channel will read from S3."""

    channel: str
    files: Mapping[str, Path]
    manifest: Manifest
    folder: TaskFolder

    @property
    def target(self) -> Location:
        """The S3 prefix that the files are uploaded to."""
        return self.location_of(self.manifest.digest)

    def location_of(self, digest: str) -> Location:
        """Return the S3 prefix of this channel's content with the given digest."""
        return self.folder.input(self.channel, digest)


@dataclass(frozen=True)
class ResolvedInputs:
    """A task's resolved inputs, ready for a request."""

    channels: tuple[ResolvedChannel, ...]
    uploads: tuple[Upload, ...]


@dataclass(frozen=True)
class _Producer:
    """The completed job that produced the output."""

    kind: JobKind
    job: str
    outputs: Mapping[str, str]


class InputResolver:
    """Resolves the inputs of one task.

    Args:
        backend: The project, S3 and SageMaker. SageMaker is asked only about an input task without a completed job.
        folder: The task's folder.
    """

    def __init__(self, backend: Backend, folder: TaskFolder) -> None:
        self._backend, self._folder = backend, folder
        self._project, self._objects, self._jobs = backend.project, backend.objects, backend.jobs

    def resolve(self, inputs: Mapping[str, Channel | TaskOutput]) -> ResolvedInputs:
        """Return all inputs, sorted by name, so that the order of a dict does not enter the fingerprint."""
        channels: list[ResolvedChannel] = []
        uploads: list[Upload] = []
        for name, wanted in sorted(inputs.items()):
            check_channel_name(name)
            if isinstance(wanted, TaskOutput):
                channels.append(self._from_task(name, wanted))
            elif wanted.is_s3:
                channels.append(self._from_s3(name, wanted))
            else:
                upload = self._from_disk(name, wanted)
                uploads.append(upload)
                channels.append(_uploaded(upload, wanted))
        return ResolvedInputs(tuple(channels), tuple(uploads))

    def _from_disk(self, name: str, wanted: Channel) -> Upload:
        path = Path(wanted.source) / wanted.subdir
        files = local_files(path)
        return Upload(name, files, manifest_of(files), self._folder)

    def _from_s3(self, name: str, wanted: Channel) -> ResolvedChannel:
        uri = str(wanted.source).rstrip("/") + (f"/{wanted.subdir}" if wanted.subdir else "")
        prefix = Location.parse(f"{uri}/")
        try:
            manifest = self._objects.listing(prefix)
        except BucketMissing as error:
            raise MissingPath(
                f"There is no bucket {prefix.bucket}: the input {name!r} is {uri}.",
                fix="correct the URI, or make the bucket and put the data there.",
            ) from error
        if not len(manifest):
            prefix = Location.parse(uri)
            manifest = self._single_object(name, prefix, uri if wanted.subdir else str(wanted.source))
        elif all(not key or key.endswith("/") for key, _ in manifest):
            raise MissingPath(
                f"There are only empty folders under {prefix.uri}, the input {name!r}.",
                fix="put the data there: what S3's console makes of a folder is an object without content.",
            )
        identity = {"uri": prefix.uri, "digest": manifest.digest}
        return ResolvedChannel(name, prefix.uri, wanted.distribution, identity, manifest=manifest, foreign=True)

    def _single_object(self, name: str, place: Location, given: str) -> Manifest:
        found = self._objects.listing(place)
        if "" not in found.items:
            raise MissingPath(
                f"There is no object under {given}, the input {name!r}.",
                fix="correct the URI, or put the data there: SageMaker refuses an empty input.",
            )
        if len(found) > 1:
            # SageMaker reads everything under a prefix, so `data.csv` would bring `data.csv.bak` along.
            sibling = next(key for key, _ in found if key)
            raise InvalidInput(
                f"The input {name!r}, {place.uri}, is also the beginning of {place.uri}{sibling}.",
                fix="put the object into a prefix of its own, or name the prefix.",
            )
        return found

    def _from_task(self, name: str, wanted: TaskOutput) -> ResolvedChannel:
        producer = self._producer(name, wanted)
        output, uri = output_place(name, wanted, producer.kind, producer.outputs)
        if output != "state":
            identity = {"job": producer.job, "output": output, "part": wanted.subdir}
            return ResolvedChannel(name, uri, wanted.distribution, identity, wanted.extract, wanted.subdir)
        manifest = self._objects.listing(Location.parse(uri))
        if not len(manifest):
            raise InputNotReady(
                f"The input {name!r} asks for the state of job {producer.job}, and {uri} is empty.",
                fix="use its model or output, or let it write to $SSM_STATE.",
            )
        identity = {"uri": uri, "digest": manifest.digest}
        return ResolvedChannel(name, uri, wanted.distribution, identity, manifest=manifest, foreign=True)

    def _producer(self, name: str, wanted: TaskOutput) -> _Producer:
        source: Any = wanted.source
        if isinstance(source, JobResult):
            return _Producer(kind_of(source.kind), source.job, source.outputs)
        if not isinstance(source, str):
            raise InvalidInput(
                f"The input {name!r} is the output of something of type {type(source).__name__}.",
                fix="give output_of a task's future, its JobResult, or its name.",
            )
        project = wanted.project or self._project.project
        record = Ledger(self._objects, self._backend.folder(check_task_name(source), project)).latest()
        if record is None:
            raise self._not_ready(name, source, project)
        return _Producer(record.kind, record.job, record.outputs)

    def _not_ready(self, name: str, task: str, project: str) -> InputNotReady:
        job = self._jobs.newest_of(task, project)
        state = f"its newest job {job.name} is {job.status}" if job else "it never ran"
        return InputNotReady(
            f"The input {name!r} needs the task {task!r} of project {project!r}, which has no completed job: {state}.",
            fix="run that task first, in the same flow by passing its future to output_of.",
        )


def _uploaded(upload: Upload, wanted: Channel) -> ResolvedChannel:
    identity = {"digest": upload.manifest.digest}
    return ResolvedChannel(upload.channel, upload.target.uri, wanted.distribution, identity, manifest=upload.manifest)


def check_inputs_exist(
    task: str, channels: Collection[ResolvedChannel], objects: Objects, *, to_come: Collection[str] = ()
) -> None:
    """Check that the outputs of other tasks are still in S3.

    Inputs that were listed for the fingerprint are not checked again.

    Args:
        task: The task's name.
        channels: Its inputs.
        objects: Access to S3.
        to_come: Names of channels whose producing jobs have not run yet; default none.

    Raises:
        InputNotReady: An input is gone.
    """
    for channel in channels:
        listed = channel.manifest is not None or channel.name in to_come
        if not listed and not len(objects.listing(Location.parse(channel.uri))):
            raise InputNotReady(
                f"The input {channel.name!r} of task {task!r} is gone: nothing is at {channel.uri}.",
                fix="run the task that makes it: it sees that its output is gone, and runs again.",
            )


def changed_inputs(
    task: str, job: str, channels: Collection[ResolvedChannel], objects: Objects
) -> Iterator[InputsChanged]:
    """Yield an error for each foreign input whose listing differs from the one in the fingerprint."""
    for channel in channels:
        if not channel.foreign or channel.manifest is None:
            continue
        changed = objects.listing(Location.parse(channel.uri)).changed(channel.manifest)
        if changed:
            yield InputsChanged(
                f"The input {channel.name!r} of task {task!r} changed while job {job} was reading it: "
                f"{len(changed)} object(s), such as {channel.uri}{changed[0]}. Its result is not recorded.",
                fix="run again when that input no longer changes.",
            )


class JobFiles:
    """Uploads the files of one job.

    Args:
        objects: Access to S3.
        ledger: The task's ledger, which has the listings of earlier uploads.
    """

    def __init__(self, objects: Objects, ledger: Ledger) -> None:
        self._objects, self._ledger = objects, ledger

    def send(
        self, inputs: ResolvedInputs, source: Source | None, bundle_uri: str | None, latest: Record | None
    ) -> None:
        """Upload inputs, listings and code; what exists already is not uploaded again.

        Args:
            inputs: The job's resolved inputs.
            source: Its code; None if the image runs without any.
            bundle_uri: Where the code goes; None if there is none.
            latest: The task's newest completed job, whose unchanged inputs are copied within S3; None if there is none.
        """
        for wanted in inputs.uploads:
            earlier = self._earlier(wanted, latest) if latest else None
            upload(self._objects, wanted.files, wanted.manifest, wanted.target, earlier)
        for channel in inputs.channels:
            if channel.manifest is not None:
                self._ledger.save_manifest(channel.manifest)
        if source and bundle_uri:
            self._send_code(source, Location.parse(bundle_uri))

    def _earlier(self, wanted: Upload, latest: Record) -> tuple[Location, Manifest] | None:
        """Return the prefix and the listing of a channel's previous content; None if unknown or unchanged."""
        digest = latest.ingredients.get("inputs", {}).get(wanted.channel, {}).get("digest")
        manifest = self._ledger.manifest(digest) if digest and digest != wanted.manifest.digest else None
        if manifest is None:
            return None
        return wanted.location_of(digest), manifest

    def _send_code(self, source: Source, target: Location) -> None:
        present = self._objects.listing(target).items
        files: dict[str, Callable[[], bytes]] = {
            SOURCE_ARCHIVE: source.archive,
            TOOLKIT_ARCHIVE: lambda: toolkit().package,
            STARTER: lambda: toolkit().starter,
        }
        for name in files.keys() - present.keys():
            self._objects.put(target.below(name), files[name]())
