"""One call of a task as its author wrote it, checked and completed with defaults: what `execution.py` works on.

Everything that can be wrong with a call by itself is said here, before S3 or SageMaker is asked for anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import ValidationError

from blocks import SageMakerProject
from tasks_lib.errors import InvalidTask
from tasks_lib.execution import Execution
from tasks_lib.jobs.channels import Channel, TaskOutput, as_channels
from tasks_lib.jobs.hyperparameters import encode_hyperparameters
from tasks_lib.jobs.kind import JobKind
from tasks_lib.jobs.metrics import metric_patterns
from tasks_lib.jobs.naming import check_task_name
from tasks_lib.jobs.overrides import check_overrides, combined, deep_merge
from tasks_lib.jobs.secret_references import check_secrets
from tasks_lib.jobs.spec import JobSpec, check_arguments
from tasks_lib.options import CAPACITY_MINUTES, JobOptions, OnBusy, OnExit, Rerun, RunOptions, StateMode
from tasks_lib.run_context import RunContext
from tasks_lib.shipping.bundle import Source

_Execution = TypeVar("_Execution", bound=Execution)

_OF_BLOCK = {"image", "instance_type", "instance_count", "volume_size_gb", "max_runtime_minutes", "spot"}
_OF_CALL = {
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
"""What is given by name, each with an example."""


@dataclass(frozen=True)
class Code:
    """What is run, as the author names it.

    Args:
        entry_point: File to run: relative to `source_dir`, or a path of its own.
        source_dir: Directory whose content becomes `/opt/ml/code`.
        command: Shell command to run instead of a file.
        dependencies: Further files and directories, laid beside the entry point under their own names.
    """

    entry_point: str | None = None
    source_dir: str | Path | None = None
    command: str | None = None
    dependencies: Sequence[str | Path] = ()

    def collect(self, task: str) -> tuple[Source | None, str | None]:
        """Return the files, and the entry point's name among them; nothing for an image that is complete in itself.

        Raises:
            InvalidTask: Both a file and a command are to be run, or there is code and nothing of it to run.
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


class JobCall:
    """One call of a task.

    Args:
        project: The project.
        defaults: What was bound for every task that does not say otherwise (`check_defaults`).
        kind: Kind of job.
        name: The task's name.
        code: What is run.
        arguments: All else.
    """

    def __init__(
        self,
        project: SageMakerProject,
        defaults: Mapping[str, Any],
        *,
        kind: JobKind,
        name: str,
        code: Code,
        arguments: JobOptions,
    ) -> None:
        self._project, self._defaults = project, defaults
        self._kind, self._name, self._code, self._arguments = kind, name, code, arguments

    def execution(self, run: RunContext, as_: type[_Execution]) -> _Execution:
        """Return the execution of this call: the real one, or a plan's `Prospect`.

        Raises:
            InvalidTask: Something in the call cannot be; see the tree in `errors.py`.
        """
        (source, _), inputs, spec, options = self._source, self._inputs, self._spec, self._run_options
        self._project.wake()
        return as_(self._project, spec, source=source, inputs=inputs, options=options, run=run)

    @cached_property
    def _source(self) -> tuple[Source | None, str | None]:
        return self._code.collect(self._name)

    @property
    def _inputs(self) -> dict[str, Channel | TaskOutput]:
        return as_channels(self._arguments.inputs)

    @property
    def _run_options(self) -> RunOptions:
        return RunOptions(
            rerun=_one_of(Rerun, "rerun", self._chosen("rerun", "when_changed")),
            clean_state=self._arguments.clean_state,
            on_busy=_one_of(OnBusy, "on_busy", self._chosen("on_busy", "wait")),
            on_exit=_one_of(OnExit, "on_exit", self._chosen("on_exit", "stop")),
            capacity_seconds=_seconds("capacity_minutes", self._chosen("capacity_minutes", CAPACITY_MINUTES)) or 0,
        )

    @property
    def _spec(self) -> JobSpec:
        overrides, project = self._overrides, self._project
        return _checked_spec(
            kind=self._kind,
            task=check_task_name(self._name),
            image=self._image,
            entry_point=self._source[1],
            command=self._code.command or None,
            arguments=check_arguments(self._name, _texts("arguments", self._arguments.arguments)),
            hyperparameters=_checked_hyperparameters(getattr(self._arguments, "hyperparameters", None)),
            environment=_variables(self._merged("environment")),
            secrets=self._secrets(overrides),
            metrics=metric_patterns(_by_name("metrics", self._arguments.metrics)),
            instance_types=_types(self._chosen("instance_type")),
            instance_count=self._chosen("instance_count"),
            volume_size_gb=self._chosen("volume_size_gb"),
            max_runtime_seconds=_seconds("max_runtime_minutes", self._chosen("max_runtime_minutes")),
            spot=self._kind.has_spot and bool(self._spot),
            on_demand_after_spot=self._spot == "fallback",
            max_wait_seconds=_seconds("max_wait_minutes", self._chosen("max_wait_minutes")),
            state=_one_of(StateMode, "state", self._chosen("state", "task")),
            subnets=tuple(project.subnets),
            security_group_ids=tuple(project.security_group_ids),
            volume_kms_key=project.volume_kms_key,
            output_kms_key=project.output_kms_key,
            network_isolation=project.network_isolation,
            encrypt_between_containers=project.encrypt_between_containers,
            tags={**project.tags, **self._merged("tags")},
            overrides=overrides,
        )

    @property
    def _overrides(self) -> dict[str, Any]:
        bound, own = self._defaults.get("overrides"), self._arguments.overrides
        overrides = combined(self._kind, _by_name("overrides", bound), _by_name("overrides", own))
        check_overrides(self._kind, overrides, inputs=self._inputs, ships_code=self._source[0] is not None)
        return overrides

    @property
    def _spot(self) -> bool | Literal["fallback"]:
        spot = self._chosen("spot")
        if not isinstance(spot, bool) and spot != "fallback":
            raise InvalidTask(f"spot is {spot!r}.", fix="use True, False or 'fallback'.")
        return "fallback" if spot == "fallback" else bool(spot)

    def _secrets(self, overrides: dict[str, Any]) -> dict[str, str]:
        return check_secrets(
            self._name,
            self._merged("secrets"),
            environment=self._merged("environment"),
            ships_code=self._source[0] is not None,
            network_isolation=self._project.network_isolation,
            overrides=overrides,
        )

    @property
    def _image(self) -> str:
        image = self._chosen("image")
        if not image:
            raise InvalidTask(
                f"The task {self._name!r} names no image, and neither does the project {self._project.project!r}.",
                fix="set image=… on the task or in the project block: an ECR image such as one of AWS's deep "
                "learning containers; any image with Python 3.8 or newer will do.",
            )
        return str(image)

    def _chosen(self, name: str, otherwise: Any = None) -> Any:
        """Return what the call says, else what was bound, else what the project says."""
        for value in (getattr(self._arguments, name, None), self._defaults.get(name)):
            if value is not None:
                return value
        return getattr(self._project, name) if name in _OF_BLOCK else otherwise

    def _merged(self, name: str) -> dict[str, Any]:
        return deep_merge(_by_name(name, self._defaults.get(name)), _by_name(name, getattr(self._arguments, name)))


def check_defaults(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return defaults for all tasks of a project.

    Raises:
        InvalidTask: One that there is not.
    """
    unknown = defaults.keys() - _OF_BLOCK - _OF_CALL
    if unknown:
        raise InvalidTask(
            f"sagemaker_tasks has no default for {', '.join(sorted(unknown))}.",
            fix=f"use any of {', '.join(sorted(_OF_BLOCK | _OF_CALL))}.",
        )
    return dict(defaults)


def _checked_spec(**values: Any) -> JobSpec:
    try:
        return JobSpec(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidTask(
            f"The task {values['task']!r} has {first['loc'][0]}={first['input']!r}: {first['msg']}.",
            fix="mend that argument.",
        ) from error


def _types(chosen: Any) -> tuple[Any, ...]:
    """Return instance types in their order, each once."""
    return tuple(dict.fromkeys([chosen] if isinstance(chosen, str) or not isinstance(chosen, Sequence) else chosen))


def _seconds(what: str, minutes: Any) -> int | None:
    if minutes is None:
        return None
    if not isinstance(minutes, (int, float)):
        raise InvalidTask(f"{what} is {minutes!r}, not a number.", fix="give minutes, such as 90.")
    if not math.isfinite(minutes):
        raise InvalidTask(f"{what} is {minutes!r}, not a finite number.", fix="give minutes, such as 90.")
    return round(minutes * 60)


def _checked_hyperparameters(values: Mapping[str, Any] | None) -> dict[str, Any]:
    given = _by_name("hyperparameters", values)
    encode_hyperparameters(given)
    return given


def _by_name(what: str, values: Any) -> dict[str, Any]:
    """Return values by name; none where none are given."""
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
    """Return a list of paths; one path alone would be read letter by letter.

    Raises:
        InvalidTask: It is one path, or one of them is not a path.
    """
    if isinstance(paths, (str, Path)):
        raise InvalidTask(f"{what} is one path, {str(paths)!r}, not a list.", fix=f"give a list: [{str(paths)!r}].")
    wrong = [path for path in paths if not isinstance(path, (str, PathLike))]
    if wrong:
        raise InvalidTask(f"{what} has {wrong[0]!r}, not a path.", fix="give a text or a `Path`.")
    return [Path(path) for path in paths]
