"""Preparation of a call: its arguments are checked and completed with defaults.

Errors of the call itself are found here, before any request to S3 or SageMaker. Only botocore's validation of the
request comes later, just before the job is created.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from blocks import SageMakerProject
from tasks_lib.errors import InvalidTask
from tasks_lib.jobs.channels import Channel, TaskOutput, as_channels
from tasks_lib.jobs.kind import JobKind
from tasks_lib.jobs.metrics import metric_patterns
from tasks_lib.jobs.naming import check_task_name
from tasks_lib.jobs.overrides import check_overrides, combined, deep_merge
from tasks_lib.jobs.secret_references import check_secrets
from tasks_lib.jobs.spec import JobSpec, check_arguments, encode_hyperparameters
from tasks_lib.options import CAPACITY_MINUTES, JobOptions, OnBusy, OnExit, Rerun, RunOptions, StateMode
from tasks_lib.staging.source import Source

_PROJECT_FIELDS = {"image", "instance_type", "instance_count", "volume_size_gb", "max_runtime_minutes", "spot"}
_OTHER_DEFAULTS = {
    *("environment", "secrets", "tags", "overrides", "state", "rerun", "on_busy", "on_exit", "capacity_minutes"),
    "max_wait_minutes",
}


_EXAMPLES = {
    "environment": "{'OMP_NUM_THREADS': '4'}",
    "hyperparameters": "{'C': 0.1}",
    "metrics": "{'auc': 'auc='}",
    "overrides": "{'RetryStrategy': {'MaximumRetryAttempts': 2}}",
    "secrets": "{'DB_PASSWORD': 'ssm:/team/db'}",
    "tags": "{'team': 'churn'}",
}
"""Options that are mappings, each with an example for an error's fix."""


@dataclass(frozen=True)
class Code:
    """The code of a task, as its author gives it.

    Args:
        entry_point: File to run: relative to `source_dir`, or a path of its own if that is None.
        source_dir: Directory whose content becomes `/opt/ml/code`.
        command: Shell command to run instead of a file.
        dependencies: Further files and directories, each placed beside the entry point under its own name.
    """

    entry_point: str | None = None
    source_dir: str | Path | None = None
    command: str | None = None
    dependencies: Sequence[str | Path] = ()

    def collect(self, task: str) -> tuple[Source | None, str | None]:
        """Return the files and the entry point's name among them, None for a command.

        Without a file and a command, the image runs as it is, and both are None.

        Raises:
            InvalidTask: There are both a file and a command to run, or there is code but neither of them.
            MissingPath: One of the paths does not exist.
        """
        if self.entry_point and self.command:
            raise InvalidTask(f"The task {task!r} has both a file and a command to run.", fix="give one of the two.")
        dependencies = check_paths("dependencies", self.dependencies)
        folder = check_paths("source_dir", [self.source_dir])[0] if self.source_dir is not None else None
        if not (self.entry_point or self.command):
            if folder is not None or dependencies:
                raise InvalidTask(
                    f"The task {task!r} has code and nothing of it to run.",
                    fix="name the file to run, or a command; an image that is complete in itself needs no code.",
                )
            return None, None
        return Source.collect(folder, str(self.entry_point) if self.entry_point else None, dependencies)


@dataclass(frozen=True)
class Call:
    """One call of a task, before anything is read from S3.

    Args:
        spec: The job.
        source: The code; None if the image runs as it is.
        inputs: The inputs by channel.
        options: How the call runs.
    """

    spec: JobSpec
    source: Source | None
    inputs: Mapping[str, Channel | TaskOutput]
    options: RunOptions


def prepare(
    project: SageMakerProject,
    defaults: Mapping[str, Any],
    *,
    kind: JobKind,
    name: str,
    code: Code,
    options: JobOptions,
) -> Call:
    """Return a call, checked and completed with defaults.

    Args:
        project: The project. Its values apply if neither the call nor the defaults give one.
        defaults: The defaults that were bound for all tasks (`check_defaults`).
        kind: Kind of job.
        name: The task's name.
        code: The code to run.
        options: All other options.

    Raises:
        InvalidTask: The call is invalid; the tree in `errors.py` has the subclasses.
    """
    given = _Values(options, defaults, project)
    source, entry_point = code.collect(name)
    inputs = as_channels(options.inputs)
    overrides = combined(kind, _as_dict("overrides", defaults.get("overrides")), given.from_call("overrides"))
    check_overrides(kind, overrides, inputs=inputs, ships_code=source is not None)
    environment, spot = given.merged("environment"), _spot(given.chosen("spot"))
    spec = _checked_spec(
        kind=kind,
        task=check_task_name(name),
        image=_image(name, given),
        entry_point=entry_point,
        command=code.command or None,
        arguments=check_arguments(name, _texts("arguments", options.arguments)),
        hyperparameters=_checked_hyperparameters(given.from_call("hyperparameters")),
        environment=_variables(environment),
        secrets=check_secrets(
            name,
            given.merged("secrets"),
            environment=environment,
            ships_code=source is not None,
            network_isolation=project.network_isolation,
            overrides=overrides,
        ),
        metrics=metric_patterns(given.from_call("metrics")),
        instance_types=_types(given.chosen("instance_type")),
        instance_count=given.chosen("instance_count"),
        volume_size_gb=given.chosen("volume_size_gb"),
        max_runtime_seconds=_seconds("max_runtime_minutes", given.chosen("max_runtime_minutes")),
        spot=kind.has_spot and bool(spot),
        on_demand_after_spot=spot == "fallback",
        max_wait_seconds=_seconds("max_wait_minutes", given.chosen("max_wait_minutes")),
        state=_one_of(StateMode, "state", given.chosen("state", "task")),
        subnets=tuple(project.subnets),
        security_group_ids=tuple(project.security_group_ids),
        volume_kms_key=project.volume_kms_key,
        output_kms_key=project.output_kms_key,
        network_isolation=project.network_isolation,
        encrypt_between_containers=project.encrypt_between_containers,
        tags={**project.tags, **given.merged("tags")},
        overrides=overrides,
    )
    return Call(spec, source, inputs, _run_options(given))


class _Values:
    """The values for a task that the call, the bound defaults and the project give."""

    def __init__(self, options: JobOptions, defaults: Mapping[str, Any], project: SageMakerProject) -> None:
        self._options, self._defaults, self._project = options, defaults, project

    def chosen(self, name: str, otherwise: Any = None) -> Any:
        """Return the call's value, else the bound default, else the project's value if it has such a field."""
        for value in (getattr(self._options, name, None), self._defaults.get(name)):
            if value is not None:
                return value
        return getattr(self._project, name) if name in _PROJECT_FIELDS else otherwise

    def from_call(self, name: str) -> dict[str, Any]:
        """Return the mapping that the call gives."""
        return _as_dict(name, getattr(self._options, name, None))  # training has options that processing has not

    def merged(self, name: str) -> dict[str, Any]:
        """Return the mapping that the call gives, merged over the bound default."""
        return deep_merge(_as_dict(name, self._defaults.get(name)), self.from_call(name))

    @property
    def project(self) -> str:
        """The project's name."""
        return self._project.project


def _run_options(given: _Values) -> RunOptions:
    return RunOptions(
        rerun=_one_of(Rerun, "rerun", given.chosen("rerun", "when_changed")),
        clean_state=given.chosen("clean_state"),
        on_busy=_one_of(OnBusy, "on_busy", given.chosen("on_busy", "wait")),
        on_exit=_one_of(OnExit, "on_exit", given.chosen("on_exit", "stop")),
        capacity_seconds=_seconds("capacity_minutes", given.chosen("capacity_minutes", CAPACITY_MINUTES)) or 0,
    )


def _spot(spot: Any) -> bool | Literal["fallback"]:
    if not isinstance(spot, bool) and spot != "fallback":
        raise InvalidTask(f"spot is {spot!r}.", fix="use True, False or 'fallback'.")
    return "fallback" if spot == "fallback" else bool(spot)


def _image(task: str, given: _Values) -> str:
    image = given.chosen("image")
    if not image:
        raise InvalidTask(
            f"The task {task!r} names no image, and neither does the project {given.project!r}.",
            fix="set image=… on the task or in the project block: an ECR image such as one of AWS's deep "
            "learning containers; any image with Python 3.8 or newer will do.",
        )
    return str(image)


def check_defaults(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Check and return the defaults for all tasks of a project.

    Raises:
        InvalidTask: There is no default of such a name.
    """
    unknown = defaults.keys() - _PROJECT_FIELDS - _OTHER_DEFAULTS
    if unknown:
        raise InvalidTask(
            f"sagemaker_tasks has no default for {', '.join(sorted(unknown))}.",
            fix=f"use any of {', '.join(sorted(_PROJECT_FIELDS | _OTHER_DEFAULTS))}.",
        )
    return dict(defaults)


def _checked_spec(**values: Any) -> JobSpec:
    try:
        return JobSpec(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidTask(
            f"The task {values['task']!r} has {first['loc'][0]}={first['input']!r}: {first['msg']}.",
            fix="correct that argument.",
        ) from error


def _types(chosen: Any) -> tuple[Any, ...]:
    """Return the instance types in their order, without duplicates."""
    return tuple(dict.fromkeys([chosen] if isinstance(chosen, str) or not isinstance(chosen, Sequence) else chosen))


def _seconds(what: str, minutes: Any) -> int | None:
    if minutes is None:
        return None
    if not isinstance(minutes, (int, float)):
        raise InvalidTask(f"{what} is {minutes!r}, not a number.", fix="give minutes, such as 90.")
    if not math.isfinite(minutes):
        raise InvalidTask(f"{what} is {minutes!r}, not a finite number.", fix="give minutes, such as 90.")
    return round(minutes * 60)


def _checked_hyperparameters(values: dict[str, Any]) -> dict[str, Any]:
    encode_hyperparameters(values)
    return values


def _as_dict(what: str, values: Any) -> dict[str, Any]:
    """Check and return a mapping as a dict; empty for None."""
    if values is not None and not isinstance(values, Mapping):
        raise InvalidTask(
            f"{what} is of type {type(values).__name__}, not values by name.", fix=f"give a dict: {_EXAMPLES[what]}."
        )
    return dict(values or {})


def _variables(values: Mapping[str, Any]) -> dict[str, str]:
    wrong = [name for name, value in values.items() if not isinstance(value, (str, int, float))]
    if wrong:
        raise InvalidTask(
            f"The environment variable {wrong[0]!r} is a {type(values[wrong[0]]).__name__}.", fix="give a text."
        )
    return {str(name): str(value) for name, value in values.items()}


def _one_of(choices: Any, what: str, value: Any) -> Any:
    if value not in get_args(choices):
        raise InvalidTask(f"{what} is {value!r}.", fix=f"use one of {', '.join(get_args(choices))}.")
    return value


def _texts(what: str, values: Any) -> tuple[str, ...]:
    if isinstance(values, str):
        raise InvalidTask(f"{what} is one text, {values!r}, not a list.", fix=f"give a list: {values.split()!r}.")
    in_order = isinstance(values, Iterable) and not isinstance(values, (Mapping, AbstractSet))
    texts = list(values) if in_order else []
    if not in_order or any(text is None for text in texts):
        wrong = "has a None" if in_order else f"is of type {type(values).__name__}, not a list"
        raise InvalidTask(f"{what} {wrong}.", fix="give a list of texts and numbers: ['--C', 0.1].")
    return tuple(str(text) for text in texts)


def check_paths(what: str, paths: Sequence[str | Path]) -> list[Path]:
    """Check and return a list of paths. A single text would be read letter by letter, so it is refused.

    Raises:
        InvalidTask: It is a single path, or an entry is not a path.
    """
    if isinstance(paths, (str, Path)):
        raise InvalidTask(f"{what} is one path, {str(paths)!r}, not a list.", fix=f"give a list: [{str(paths)!r}].")
    wrong = [path for path in paths if not isinstance(path, (str, PathLike))]
    if wrong:
        raise InvalidTask(f"{what} has {wrong[0]!r}, not a path.", fix="give a text or a `Path`.")
    return [Path(path) for path in paths]
