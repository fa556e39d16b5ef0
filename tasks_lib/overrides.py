"""The rules of `overrides`: which fields of a Create request a user may set, and how they are merged. Pure.

One row for each field that we write or read, and for each other top-level member. What has an argument of its own is
refused with that argument's name, since two ways to say one thing can contradict each other. Our entries of a list are
found by their names, so that a further channel does not replace ours. A path without a row is free: AWS's model is
newer than this table, or it lies inside a free field. `spec.py`, `job_call.py` and the documentation read the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tasks_lib.channels import Channel, TaskOutput
from tasks_lib.errors import InvalidTask
from tasks_lib.naming import SOURCE_CHANNEL, STATE_CHANNEL, check_channel_name, check_variables
from tasks_lib.status import JobKind


class How(Enum):
    """What happens to a field that `overrides` has."""

    MEMBERS = "merged member by member"
    ENTRIES = "merged entry by entry, which are found by their names"
    REPLACED = "replaces ours"
    INSTEAD = "replaces several of ours"
    FREE = "passed on"
    REFUSED = "refused"


@dataclass(frozen=True)
class Row:
    """The rule of one field.

    Args:
        how: What happens to it.
        advice: What to do instead of a refused field, or what there is to know.
        removable: Whether `None` may remove what we write there.
        key: The member that names an entry of a list.
        instead_of: Members beside it that it excludes, and which are removed.
        with_code: Refuse it only where our bootstrap starts the job.
    """

    how: How
    advice: str = ""
    removable: bool = False
    key: str = ""
    instead_of: tuple[str, ...] = ()
    with_code: bool = False


def _refused(advice: str, *, removable: bool = False, with_code: bool = False) -> Row:
    return Row(How.REFUSED, advice, removable=removable, with_code=with_code)


_MEMBERS, _REPLACED, _FREE = Row(How.MEMBERS), Row(How.REPLACED, removable=True), Row(How.FREE, removable=True)
_KEPT = Row(How.REPLACED)
_REMOVABLE = Row(How.MEMBERS, removable=True)
_NAME = _refused("the task's name gives the stem of its jobs' names")
_CONTENT = _refused("say in `inputs` what the input reads")
_OTHER_SOURCE = _refused("name another channel: this one is among the task's `inputs`")
_MEANS_CODE = (
    "name the program by a file or `command`; the entry point of an image that is complete in itself may be set"
)
_ANSWER = _refused("leave it out: SageMaker says there what it chose")
_VPC = {"Subnets": _KEPT, "SecurityGroupIds": _KEPT}
_CLUSTER = {
    "InstanceType": _refused("use `instance_type`"),
    "InstanceCount": _refused("use `instance_count`"),
    "InstancePreferences": _refused("give `instance_type` a list"),
    "VolumeSizeInGB": _refused("use `volume_size_gb`", removable=True),
    "VolumeKmsKeyId": _REPLACED,
    "SelectedInstanceType": _ANSWER,
    "SelectedInstanceCount": _ANSWER,
}
_BOTH = {
    "RoleArn": _KEPT,
    "Environment": _refused("use `environment`, which the log masks, or `secrets`"),
    "Tags": _refused("use `tags`", removable=True),
    "ExperimentConfig": _FREE,
}


def _below(path: str, rows: Mapping[str, Row]) -> dict[str, Row]:
    return {f"{path}.{name}": row for name, row in rows.items()}


TRAINING: dict[str, Row] = {
    **_BOTH,
    "TrainingJobName": _NAME,
    "HyperParameters": _refused("use `hyperparameters`"),
    "AlgorithmSpecification": _MEMBERS,
    **_below(
        "AlgorithmSpecification",
        {
            "TrainingImage": _refused("use `image`"),
            "AlgorithmName": _refused("use `image` with the algorithm's image"),
            "TrainingInputMode": Row(How.REPLACED, "for each input but those with `extract=True`"),
            "MetricDefinitions": _refused("use `metrics`", removable=True),
            "EnableSageMakerMetricsTimeSeries": _REPLACED,
            "ContainerEntrypoint": _refused(_MEANS_CODE, with_code=True),
            "ContainerArguments": _refused("use `arguments`"),
            "TrainingImageConfig": _FREE,
        },
    ),
    "InputDataConfig": Row(How.ENTRIES, "what a further channel reads is not in the fingerprint", key="ChannelName"),
    **_below(
        "InputDataConfig[]",
        {
            "DataSource": _MEMBERS,
            "DataSource.S3DataSource": _MEMBERS,
            "DataSource.S3DataSource.S3Uri": _CONTENT,
            "DataSource.S3DataSource.S3DataType": _CONTENT,
            "DataSource.S3DataSource.S3DataDistributionType": _refused("use `Channel(…, distribution=…)`"),
            "DataSource.S3DataSource.AttributeNames": _FREE,
            "DataSource.S3DataSource.InstanceGroupNames": _FREE,
            "DataSource.S3DataSource.ModelAccessConfig": _FREE,
            "DataSource.S3DataSource.HubAccessConfig": _FREE,
            "DataSource.FileSystemDataSource": _OTHER_SOURCE,
            "DataSource.DatasetSource": _OTHER_SOURCE,
            "InputMode": Row(How.REPLACED, "not of an input with `extract=True`"),
            "ContentType": _FREE,
            "CompressionType": _FREE,
            "RecordWrapperType": _FREE,
            "ShuffleConfig": _FREE,
        },
    ),
    "OutputDataConfig": _MEMBERS,
    **_below(
        "OutputDataConfig",
        {
            "S3OutputPath": _refused("read the place from the result: the ledger looks for the outputs there"),
            "KmsKeyId": _REPLACED,
            "CompressionType": Row(
                How.REPLACED, "with `NONE`, `result.model` and `result.output` are prefixes", removable=True
            ),
        },
    ),
    "ResourceConfig": _MEMBERS,
    **_below("ResourceConfig", _CLUSTER),
    **_below(
        "ResourceConfig",
        {
            "InstanceGroups": Row(
                How.INSTEAD,
                "removes `InstanceType` and `InstanceCount`",
                instead_of=("InstanceType", "InstanceCount", "InstancePreferences"),
                removable=True,
            ),
            "KeepAlivePeriodInSeconds": _FREE,
            "TrainingPlanArn": _FREE,
            "InstancePlacementConfig": _FREE,
        },
    ),
    "StoppingCondition": _MEMBERS,
    **_below(
        "StoppingCondition",
        {
            "MaxRuntimeInSeconds": _refused("use `max_runtime_minutes`, which may be a fraction"),
            "MaxWaitTimeInSeconds": _refused("use `max_wait_minutes`, which may be a fraction"),
            "MaxPendingTimeInSeconds": _FREE,
        },
    ),
    "CheckpointConfig": _refused("write to `$SSM_STATE`; `state='none'` keeps nothing"),
    "EnableManagedSpotTraining": _refused("use `spot`"),
    "EnableNetworkIsolation": _REPLACED,
    "EnableInterContainerTrafficEncryption": _REPLACED,
    "VpcConfig": _REMOVABLE,
    **_below("VpcConfig", _VPC),
    "ServerlessJobConfig": _refused(
        "give the job an image and an instance type: a serverless job runs no code of ours"
    ),
    "ModelPackageConfig": _FREE,
    "DebugHookConfig": _FREE,
    "DebugRuleConfigurations": _FREE,
    "TensorBoardOutputConfig": _FREE,
    "ProfilerConfig": _FREE,
    "ProfilerRuleConfigurations": _FREE,
    "RetryStrategy": _FREE,
    "RemoteDebugConfig": _FREE,
    "InfraCheckConfig": _FREE,
    "SessionChainingConfig": _FREE,
    "MlflowConfig": _FREE,
}

PROCESSING: dict[str, Row] = {
    **_BOTH,
    "ProcessingJobName": _NAME,
    "AppSpecification": _MEMBERS,
    **_below(
        "AppSpecification",
        {
            "ImageUri": _refused("use `image`"),
            "ContainerEntrypoint": _refused(_MEANS_CODE, with_code=True),
            "ContainerArguments": _refused("use `arguments`"),
        },
    ),
    "ProcessingInputs": Row(How.ENTRIES, "what a further input reads is not in the fingerprint", key="InputName"),
    **_below(
        "ProcessingInputs[]",
        {
            "S3Input": _MEMBERS,
            "S3Input.S3Uri": _CONTENT,
            "S3Input.S3DataType": _CONTENT,
            "S3Input.LocalPath": _refused("read the directory from `$SM_CHANNEL_…`"),
            "S3Input.S3DataDistributionType": _refused("use `Channel(…, distribution=…)`"),
            "S3Input.S3InputMode": Row(How.REPLACED, "not of an input with `extract=True`"),
            "S3Input.S3CompressionType": _REPLACED,
            "DatasetDefinition": _OTHER_SOURCE,
            "AppManaged": _OTHER_SOURCE,
        },
    ),
    "ProcessingOutputConfig": _MEMBERS,
    "ProcessingOutputConfig.KmsKeyId": _REPLACED,
    "ProcessingOutputConfig.Outputs": Row(How.ENTRIES, "the ledger does not see a further output", key="OutputName"),
    **_below(
        "ProcessingOutputConfig.Outputs[]",
        {
            name: _refused("name another output: this one is the task's own")
            for name in ("S3Output", "FeatureStoreOutput", "AppManaged")
        },
    ),
    "ProcessingResources": _MEMBERS,
    "ProcessingResources.ClusterConfig": _MEMBERS,
    **_below("ProcessingResources.ClusterConfig", _CLUSTER),
    "ProcessingResources.ClusterConfig.VolumeSizeInGB": _refused("use `volume_size_gb`"),
    "StoppingCondition": _MEMBERS,
    "StoppingCondition.MaxRuntimeInSeconds": _refused("use `max_runtime_minutes`, which may be a fraction"),
    "NetworkConfig": _REMOVABLE,
    "NetworkConfig.EnableNetworkIsolation": _REPLACED,
    "NetworkConfig.EnableInterContainerTrafficEncryption": _REPLACED,
    "NetworkConfig.VpcConfig": _REMOVABLE,
    **_below("NetworkConfig.VpcConfig", _VPC),
}

TABLES: dict[JobKind, dict[str, Row]] = {"training": TRAINING, "processing": PROCESSING}

_OUR_OUTPUTS = frozenset({"output", "state"})
_UNREAD = Row(How.FREE)


# -- merging ---------------------------------------------------------------------------------------------------------


def deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid upon it: mappings are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = deep_merge(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged


def combined(kind: JobKind, first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides of two levels as one; the second level is the task's own, and wins."""
    return _laid_over(TABLES[kind], "", _plain(first), _plain(second), keeps_none=True)


def with_overrides(kind: JobKind, request: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request with overrides that `check_overrides` has let pass; `None` removes a field."""
    return _laid_over(TABLES[kind], "", request, overrides, keeps_none=False)


def _plain(value: Any) -> Any:
    """Return overrides as JSON has them. boto3 takes tuples too, which the rules for lists would not see."""
    if isinstance(value, Mapping):
        return {name: _plain(below) for name, below in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _laid_over(
    table: Mapping[str, Row], path: str, base: Mapping[str, Any], over: Mapping[str, Any], *, keeps_none: bool
) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        here = _join(path, name)
        row = table.get(here, _UNREAD)
        below = merged.get(name)
        for other in row.instead_of if value is not None else ():
            merged.pop(other, None)
        if value is None and not keeps_none:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            merged[name] = _laid_over(
                table, here, below if isinstance(below, Mapping) else {}, value, keeps_none=keeps_none
            )
        elif row.how is How.ENTRIES and isinstance(value, list) and isinstance(below or [], list):
            merged[name] = _entries(table, f"{here}[]", row.key, below or [], value, keeps_none=keeps_none)
        else:
            merged[name] = value
    return merged


def _entries(
    table: Mapping[str, Row], path: str, key: str, base: list[Any], over: list[Any], *, keeps_none: bool
) -> list[Any]:
    merged = list(base)
    places = {entry[key]: place for place, entry in enumerate(base) if _has_name(entry, key)}
    for entry in over:
        place = places.get(entry[key]) if _has_name(entry, key) else None
        if place is None:
            if _has_name(entry, key):
                places[entry[key]] = len(merged)
            merged.append(
                _laid_over(table, path, {}, entry, keeps_none=keeps_none) if isinstance(entry, Mapping) else entry
            )
        else:
            merged[place] = _laid_over(table, path, merged[place], entry, keeps_none=keeps_none)
    return merged


# -- checking --------------------------------------------------------------------------------------------------------


def check_overrides(
    kind: JobKind,
    overrides: Mapping[str, Any],
    *,
    inputs: Mapping[str, Channel | TaskOutput],
    ships_code: bool,
) -> None:
    """Refuse overrides of what has another way to be set, or of what makes the job findable again.

    Args:
        kind: Kind of job.
        overrides: As `combined` returns them.
        inputs: The task's inputs, which a further channel must not be named like.
        ships_code: Whether our bootstrap starts the job.

    Raises:
        InvalidTask: With each field, and what to do instead.
        InvalidName: Two channels would share a variable in the job.
    """
    found = list(_refusals(TABLES[kind], "", overrides, inputs, ships_code=ships_code))
    if found:
        raise InvalidTask(
            f"overrides cannot set {', '.join(path for path, _ in found)}.",
            fix="; ".join(f"{path}: {advice}" for path, advice in found) + ".",
        )
    names = [
        entry[row.key]
        for path, row in TABLES[kind].items()
        if path in {"InputDataConfig", "ProcessingInputs"}
        for entry in _named(overrides.get(path), row.key)
    ]
    for name in names:
        check_channel_name(name)
    check_variables("inputs", "SM_CHANNEL_", [*inputs, *names])


def _refusals(
    table: Mapping[str, Row],
    path: str,
    over: Mapping[str, Any],
    inputs: Mapping[str, Channel | TaskOutput],
    *,
    ships_code: bool,
) -> Iterator[tuple[str, str]]:
    for name, value in over.items():
        here = _join(path, name)
        row = table.get(here, _UNREAD)
        if row.how is How.REFUSED and not (row.with_code and not ships_code) and not (value is None and row.removable):
            yield here, row.advice
        elif value is None and row.how is not How.FREE and not row.removable:
            whole = row.how in {How.MEMBERS, How.ENTRIES}
            yield here, "give the members to change: the job needs the others" if whole else "give a value, not None"
        elif row.how is How.ENTRIES:
            for entry in _named(value, row.key):
                yield from _refusals_of_entry(table, here, row.key, entry, inputs)
        elif row.how is How.MEMBERS and isinstance(value, Mapping):
            yield from _refusals(table, here, value, inputs, ships_code=ships_code)


def _refusals_of_entry(
    table: Mapping[str, Row],
    path: str,
    key: str,
    entry: Mapping[str, Any],
    inputs: Mapping[str, Channel | TaskOutput],
) -> Iterator[tuple[str, str]]:
    """Yield what an entry may not say; one that is not ours may say anything."""
    name = entry[key]
    if name in (SOURCE_CHANNEL, STATE_CHANNEL):
        yield f"{path}[{name}]", "choose another name: the task's code and state travel by this one"
        return
    if name not in (_OUR_OUTPUTS if key == "OutputName" else inputs):
        return
    without_name = {below: value for below, value in entry.items() if below != key}
    for below, advice in _refusals(table, f"{path}[]", without_name, inputs, ships_code=True):
        yield below.replace(f"{path}[]", f"{path}[{name}]", 1), advice
    mode = member(entry, "S3Input", "S3InputMode") or entry.get("InputMode") or "File"
    if mode != "File" and getattr(inputs.get(name), "extract", False):
        yield f"{path}[{name}] {mode}", "leave `extract` out: only in File mode the directory can be written to"


def member(tree: Mapping[str, Any], *path: str) -> Any:
    """Return what lies at a path of overrides, or None; AWS's model refuses what is no mapping on the way."""
    found: Any = tree
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _named(entries: Any, key: str) -> list[Mapping[str, Any]]:
    """Return the entries of a list that have a text as their name; AWS's model refuses all others."""
    rows = entries if isinstance(entries, list) else []
    return [entry for entry in rows if _has_name(entry, key)]


def _has_name(entry: Any, key: str) -> bool:
    return isinstance(entry, Mapping) and isinstance(entry.get(key), str)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
