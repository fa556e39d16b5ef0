"""The request of SageMaker's Create operation, and the parts that several kinds share."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from tasks_lib.jobs.capacity import InstanceChoice
from tasks_lib.jobs.channels import Distribution
from tasks_lib.jobs.overrides import with_overrides
from tasks_lib.jobs.s3_layout import TaskFolder
from tasks_lib.jobs.secret_references import secret_variables
from tasks_lib.jobs.spec import JobPlace, JobSpec
from worker_toolkit.arguments import LaunchOptions
from worker_toolkit.contract import SOURCE_ARCHIVE, SOURCE_CHANNEL, STARTER
from worker_toolkit.paths import ROOT_VARIABLE

_STARTER = f'exec sh "${ROOT_VARIABLE}{{channel}}/{STARTER}" "$@"'


def to_request(spec: JobSpec, place: JobPlace) -> dict[str, Any]:
    """Return the arguments of the Create operation of the spec's kind."""
    return with_overrides(spec.kind, _without_empty(spec.kind.request(spec, place)), spec.overrides)


def launch(spec: JobSpec, place: JobPlace) -> dict[str, Any]:
    """Return how the container starts: by our bootstrap with its arguments, or as the image defines it."""
    if not spec.ships_code:
        return {"ContainerArguments": list(spec.arguments)}
    extract = {channel.name: channel.subdir or "" for channel in place.channels if channel.extract}
    options = LaunchOptions(spec.entry_point, spec.command, extract, spec.arguments)
    return {
        "ContainerEntrypoint": ["/bin/sh", "-c", _STARTER.format(channel=spec.kind.layout.source), "ssm"],
        "ContainerArguments": options.to_arguments(),
    }


def sources(place: JobPlace) -> Iterable[tuple[str, str, Distribution]]:
    """Yield name, URI and distribution of each input, including the code's."""
    for channel in place.channels:
        yield channel.name, channel.uri, channel.distribution
    if place.bundle_uri:
        yield SOURCE_CHANNEL, place.bundle_uri, "FullyReplicated"


def cluster(spec: JobSpec, choice: InstanceChoice) -> dict[str, Any]:
    """Return the instances that one attempt asks for."""
    choices = [{"InstanceType": one, "InstanceCount": spec.instance_count} for one in choice.types]
    hosts = choices[0] if len(choices) == 1 else {"InstancePreferences": choices}
    return {**hosts, "VolumeSizeInGB": spec.volume_size_gb, "VolumeKmsKeyId": spec.volume_kms_key}


def vpc(spec: JobSpec) -> dict[str, Any] | None:
    """Return the VPC of the containers; None if the spec has none."""
    if not spec.subnets:
        return None
    return {"Subnets": list(spec.subnets), "SecurityGroupIds": list(spec.security_group_ids)}


def environment(spec: JobSpec, place: JobPlace) -> dict[str, str]:
    """Return the environment variables: the user's, the references of secrets, and ours."""
    return {**spec.environment, **secret_variables(spec.secrets), **place.environment}


def tags(spec: JobSpec, place: JobPlace) -> list[dict[str, str]]:
    """Return the tags, the user's first."""
    return [{"Key": key, "Value": value} for key, value in {**spec.tags, **place.tags}.items()]


def _without_empty(value: Any) -> Any:
    """Return a request without the entries that are None or empty, which AWS expects to be absent."""
    if isinstance(value, dict):
        cleaned = {key: _without_empty(below) for key, below in value.items()}
        return {key: below for key, below in cleaned.items() if below is not None and below not in ({}, [])}
    return value


def outputs_of(
    spec: JobSpec, folder: TaskFolder, job: str, left: Collection[str], *, bundle_uri: str | None, has_state: bool
) -> dict[str, str]:
    """Return the URI of each output that exists, by name.

    Args:
        spec: The job.
        folder: The task's folder.
        job: The job's name.
        left: Names of the objects in the job's output folder.
        bundle_uri: URI of the code's bundle; None if the image ran as it is.
        has_state: Whether the task's state directory holds any object.
    """
    outputs = spec.kind.existing_outputs(folder.output(job).uri, left)
    if has_state:
        outputs["state"] = folder.state.uri
    if bundle_uri:
        outputs["source"] = f"{bundle_uri}{SOURCE_ARCHIVE}"
    return outputs
