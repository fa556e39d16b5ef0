"""The options of a job that `train`, `process` and `shell` share, and how a run uses them.

They are written once, as the fields of a dataclass. Prefect, `help()` and the documentation read `inspect.signature`,
and a bare `**options` would accept a misspelt name. So the fields become keyword parameters (`__signature__`, PEP 362)
of each function that takes `**shared`, and their descriptions become part of its docstring.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from textwrap import indent
from typing import Any, Literal, TypeVar

Rerun = Literal["when_changed", "if_incomplete", "always"]
StateMode = Literal["task", "none"]
OnBusy = Literal["wait", "fail"]
OnExit = Literal["stop", "leave"]

CAPACITY_MINUTES = 60
"""How long a call retries by default while AWS has insufficient capacity."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What every job may be given; `None` stands for the default that was bound, else the project's.

    Args:
        arguments: Command line arguments, after those of the hyperparameters; at most 256 characters each.
        inputs: By channel: a local path, an S3 URI, a `Channel`, or `output_of(task)`; the code finds channel `x` at
            `$SM_CHANNEL_X`.
        metrics: By metric name the text that the script prints before the value, such as `"auc="`, or a regular
            expression whose first group is the value.
        environment: Environment variables; everybody who may look at the job can read them.
        secrets: By environment variable, where the job finds its value: `arn:aws:secretsmanager:…`,
            `secretsmanager:NAME`, either with `#KEY` for one key of a secret that is JSON, or `ssm:NAME`.
        image: Container image; default the project's.
        instance_type: Instance type, or several in the order in which they are tried where AWS has no capacity; default
            the project's.
        instance_count: Number of hosts; default the project's.
        volume_size_gb: Storage of each host in GB; default the project's.
        max_runtime_minutes: SageMaker stops the job then; default the project's.
        state: `task` (default) keeps `$SSM_STATE` between the task's jobs; `none` keeps nothing.
        tags: Further tags.
        rerun: `when_changed` (default), `if_incomplete` (by name alone, while what the job left is there), or
            `always`.
        clean_state: Empty the state first, and run again.
        on_busy: `wait` (default) or `fail` while other work writes the state.
        on_exit: Where the run is cancelled, timed out or interrupted, `stop` the job (default) unless others wait for
            it, or `leave` it to run for a later attach.
        capacity_minutes: How long to go on asking where AWS has no capacity; default 60.
        overrides: Fields of the request to SageMaker that have no argument of their own; mappings are merged, a list's
            entries are found by their names, `None` removes a field.
    """

    arguments: Sequence[str] = ()
    inputs: Mapping[str, Any] | None = None
    metrics: Mapping[str, str] | None = None
    environment: Mapping[str, str] | None = None
    secrets: Mapping[str, str] | None = None
    image: str | None = None
    instance_type: str | Sequence[str] | None = None
    instance_count: int | None = None
    volume_size_gb: int | None = None
    max_runtime_minutes: float | None = None
    state: StateMode | None = None
    tags: Mapping[str, str] | None = None
    rerun: Rerun | None = None
    clean_state: bool = False
    on_busy: OnBusy | None = None
    on_exit: OnExit | None = None
    capacity_minutes: float | None = None
    overrides: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(JobOptions):
    """What a training job may be given beside that.

    Args:
        hyperparameters: JSON values by name; the code gets them typed, as `--name value` and in `SM_HPS`.
        spot: Use spot instances; `fallback` goes on-demand where there is no spot capacity; default the project's.
        max_wait_minutes: Wait for spot and run together; at least the longest run.
    """

    hyperparameters: Mapping[str, Any] | None = None
    spot: bool | Literal["fallback"] | None = None
    max_wait_minutes: float | None = None


@dataclass(frozen=True)
class RunOptions:
    """Options of a call that say how it runs, not what its job is; none of them enters the fingerprint.

    Args:
        rerun: `when_changed`, `if_incomplete` (by name) or `always`.
        clean_state: Empty `state/` before the job, and run again.
        on_busy: Wait for the state directory, or fail at once, while other work writes it.
        on_exit: Stop the job when the run is cancelled, timed out or interrupted, unless others wait for it; or leave
            it to run for a later attach.
        capacity_seconds: How long to retry while AWS has insufficient capacity.
    """

    rerun: Rerun = "when_changed"
    clean_state: bool = False
    on_busy: OnBusy = "wait"
    on_exit: OnExit = "stop"
    capacity_seconds: float = CAPACITY_MINUTES * 60


def shares(options: type[JobOptions]) -> Callable[[_Function], _Function]:
    """Give a function that takes `**shared` the fields of a dataclass as keyword parameters of its own."""

    def changed(function: _Function) -> _Function:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
        shared = inspect.signature(options).parameters.values()
        function.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
        function.__doc__ = _documented(inspect.getdoc(function) or "", options)
        return function

    return changed


def _documented(text: str, options: type[JobOptions]) -> str:
    """Return a docstring with the entries of the arguments in the place of its entry `**shared`."""
    head, _, tail = text.partition("    **shared: ")
    described = [each for each in reversed(options.__mro__) if issubclass(each, JobOptions)]
    entries = "\n".join(_entries(each) for each in described)
    return f"{head}{entries}\n{tail.partition(chr(10))[2]}"


def _entries(options: type[JobOptions]) -> str:
    return indent(inspect.cleandoc((inspect.getdoc(options) or "").partition("Args:\n")[2]), "    ")
