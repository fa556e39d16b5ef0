"""Validation of Create requests beyond the service model: how the members of a request fit together. Pure.

Sources: the text of the API reference, and errors seen at AWS. Each rule raises one `ApiError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from local_sagemaker.wire.errors import ApiError

Document = Mapping[str, Any]

_S3_URI = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?")
_MAX_RUNTIME = 28 * 86_400  # seconds; API reference, StoppingCondition
_MAX_TAGS = 50
_CHANNEL_SOURCES = ("S3DataSource", "FileSystemDataSource", "DatasetSource")


def invalid(message: str) -> ApiError:
    """Return SageMaker's error for an invalid request."""
    return ApiError("ValidationException", message)


def check_training_job(request: Document) -> None:
    """Raise `ApiError` for the first rule that a `CreateTrainingJob` request breaks."""
    check_tags(request.get("Tags", []))
    if "ServerlessJobConfig" in request:
        raise invalid("ServerlessJobConfig is not built in local_sagemaker; name a TrainingImage and a ResourceConfig.")
    _check_algorithm(request)
    _check_training_cluster(request)
    _check_limits(request)
    _check_s3_uris(request, ("OutputDataConfig", "S3OutputPath"), ("CheckpointConfig", "S3Uri"))
    channels = request.get("InputDataConfig", [])
    _check_unique("ChannelName", channels)
    groups = [group["InstanceGroupName"] for group in request["ResourceConfig"].get("InstanceGroups", [])]
    for channel in channels:
        _check_channel(channel, groups)


def _check_channel(channel: Document, groups: list[str]) -> None:
    """Check the data source of a channel.

    Its `InstanceGroupNames` must be among those of the `ResourceConfig` (API reference, Channel and S3DataSource).
    """
    name, source = channel["ChannelName"], channel["DataSource"]
    form = _check_one_of(f"DataSource of channel {name}", source, _CHANNEL_SOURCES)
    if form != "S3DataSource":
        raise invalid(
            f"{form} of channel {name} is not built in local_sagemaker: no file system of AWS can be mounted on this "
            "machine. Use an S3DataSource here."
        )
    _check_s3_uris(source, ("S3DataSource", "S3Uri"))
    unknown = [group for group in source["S3DataSource"].get("InstanceGroupNames", []) if group not in groups]
    if unknown:
        raise invalid(
            f"InstanceGroupNames of channel {name} has {unknown[0]!r}, which is not among the InstanceGroups of the "
            f"ResourceConfig: {', '.join(groups) or 'none'}."
        )


def check_processing_job(request: Document) -> None:
    """Raise `ApiError` for the first rule that a `CreateProcessingJob` request breaks."""
    check_tags(request.get("Tags", []))
    _check_processing_cluster(request)
    inputs = request.get("ProcessingInputs", [])
    _check_unique("InputName", inputs)
    for one in inputs:
        _check_side(f"Input {one['InputName']}", one, ("S3Input", "DatasetDefinition"), "/opt/ml/processing/")
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", [])
    _check_unique("OutputName", outputs)
    for one in outputs:
        _check_side(f"Output {one['OutputName']}", one, ("S3Output", "FeatureStoreOutput"), "/")


def check_tags(tags: Iterable[Document], present: Iterable[str] = ()) -> None:
    """Raise `ApiError` unless the tags may be added to a resource that already has the keys `present`."""
    keys = [tag["Key"] for tag in tags]
    if len(set(keys)) < len(keys):
        raise invalid(f"Duplicate tag keys found: {', '.join(_repeated(keys))}. Each key may be given once.")
    reserved = [key for key in keys if key.lower().startswith("aws:")]
    if reserved:
        raise invalid(f"Tag key {reserved[0]!r} begins with 'aws:', which is reserved; choose another key.")
    if len({*keys, *present}) > _MAX_TAGS:
        raise invalid(f"A resource has at most {_MAX_TAGS} tags; remove some with DeleteTags.")


def _check_algorithm(request: Document) -> None:
    algorithm = request.get("AlgorithmSpecification", {})
    if "AlgorithmName" in algorithm and "TrainingImage" in algorithm:
        raise invalid("AlgorithmName and TrainingImage are mutually exclusive; give one of them.")
    if "AlgorithmName" in algorithm:
        raise invalid(
            f"Cannot find algorithm {algorithm['AlgorithmName']!r}: algorithm resources are not built in "
            "local_sagemaker. Name a TrainingImage."
        )
    if "TrainingImage" not in algorithm:
        raise invalid("Give AlgorithmSpecification.TrainingImage or AlgorithmSpecification.AlgorithmName.")


def _check_training_cluster(request: Document) -> None:
    cluster = request.get("ResourceConfig")
    if cluster is None:
        raise invalid("ResourceConfig is required.")
    form = _check_one_of("ResourceConfig", cluster, ("InstanceType", "InstanceGroups", "InstancePreferences"))
    if form == "InstanceGroups":
        _check_unique("InstanceGroupName", cluster["InstanceGroups"])
    if form == "InstanceType" and cluster.get("InstanceCount", 0) < 1:
        raise invalid("ResourceConfig.InstanceCount must be at least 1.")
    if form == "InstancePreferences":
        if request.get("EnableManagedSpotTraining") or "InstancePlacementConfig" in cluster:
            raise invalid(
                "InstancePreferences is mutually exclusive with InstancePlacementConfig and EnableManagedSpotTraining."
            )
        _check_counts_of_preferences("ResourceConfig", cluster)


def _check_processing_cluster(request: Document) -> None:
    """Check the cluster of a processing job.

    `InstancePreferences` need an explicit count, unlike one type (Developer Guide, "Instance preference lists").
    """
    cluster = request["ProcessingResources"]["ClusterConfig"]
    form = _check_one_of("ClusterConfig", cluster, ("InstanceType", "InstancePreferences"))
    if form == "InstancePreferences":
        _check_counts_of_preferences("ClusterConfig", cluster)


def _check_counts_of_preferences(what: str, cluster: Document) -> None:
    """Check that the job has one count, or every preference has its own (API reference, InstancePreference)."""
    counted = sum("InstanceCount" in preference for preference in cluster["InstancePreferences"])
    expected = 0 if "InstanceCount" in cluster else len(cluster["InstancePreferences"])
    if counted != expected:
        raise invalid(f"Set InstanceCount on every one of {what}.InstancePreferences, or once in {what}.")


def _check_limits(request: Document) -> None:
    """Check the time limits and spot training. Messages on MaxWaitTimeInSeconds are AWS's (sagify issue 111)."""
    condition = request.get("StoppingCondition", {})
    runtime = condition.get("MaxRuntimeInSeconds", 86_400)
    wait = condition.get("MaxWaitTimeInSeconds")
    spot = request.get("EnableManagedSpotTraining", False)
    if runtime > _MAX_RUNTIME:
        raise invalid(f"MaxRuntimeInSeconds must not exceed {_MAX_RUNTIME} (28 days).")
    if wait is not None and not spot:
        raise invalid(
            "Invalid MaxWaitTimeInSeconds. It is only supported when EnableManagedSpotTraining is set to true"
        )
    if spot and (wait is None or wait < runtime):
        raise invalid(
            "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds "
            "when EnableManagedSpotTraining is set to true"
        )
    if spot and request.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds", 0):
        raise invalid("KeepAlivePeriodInSeconds is not supported when EnableManagedSpotTraining is set to true")


def _check_unique(name: str, members: Iterable[Document]) -> None:
    repeated = _repeated([member[name] for member in members])
    if repeated:
        raise invalid(f"{name} must be unique within a job; given more than once: {', '.join(repeated)}.")


def _repeated(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _check_one_of(what: str, holder: Document, alternatives: tuple[str, ...]) -> str:
    """Return the one alternative that is given. Raise `ApiError` unless there is exactly one."""
    given = [name for name in alternatives if name in holder]
    if len(given) != 1:
        raise invalid(f"{what} must have exactly one of {', '.join(alternatives)}; it has {len(given)}.")
    return given[0]


def _check_side(what: str, holder: Document, alternatives: tuple[str, str], folder: str) -> None:
    """Check an input or output of a processing job (API reference, ProcessingS3Input and ProcessingS3Output)."""
    if holder.get("AppManaged"):
        return
    in_s3 = holder.get(alternatives[0])
    _check_one_of(what, holder, alternatives)
    _check_s3_uris(holder, (alternatives[0], "S3Uri"))
    if in_s3 is not None and not in_s3.get("LocalPath", "").startswith(folder):
        raise invalid(f"{what}: LocalPath is required and must begin with {folder}")


def _check_s3_uris(holder: Document, *paths: tuple[str, str]) -> None:
    """Check that members are S3 URIs. The service model also allows https://, but AWS documents no use of it."""
    for path, uri in _present(holder, paths):
        if not _S3_URI.fullmatch(uri):
            raise invalid(f"{path} {uri!r} is not an S3 URI; write s3://bucket/key.")


def _present(holder: Document, paths: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for outer, inner in paths:
        if inner in holder.get(outer, {}):
            yield f"{outer}.{inner}", holder[outer][inner]
