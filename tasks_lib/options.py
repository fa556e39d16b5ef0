"""The options that `train`, `process` and `shell` share, and those of a run.

The shared options are written once, as the fields of a dataclass. Prefect, `help()` and the documentation read
`inspect.signature`, and a bare `**options` would accept a misspelt name. So the fields become keyword parameters
(`__signature__`, PEP 362) of each function that takes `**shared`. Their descriptions become part of its docstring.
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
    """Options of every job. `None` means the bound default, or else the project's value.

    Args:
        arguments: Command line arguments, after those of the hyperparameters; at most 256 characters each.
        inputs: By channel: a local path, an S3 URI, a `Channel`, or `output_of(task)`. The code finds channel `x` at
            `$SM_CHANNEL_X`.
        metrics: By metric name, the text that the script prints before the value, such as `"auc="`, or a regular
            expression whose first group is the value.
        environment: Environment variables. Every user who may describe the job can read them.
        secrets: By environment variable, where its value is kept: `secretsmanager:NAME` or
            `arn:aws:secretsmanager:…`, each with `#KEY` for one key of a JSON secret; `ssm:NAME` or
            `arn:aws:ssm:…:parameter/…`.
        image: Container image; default the project's.
        instance_type: Instance type, or several in order of preference: if AWS has insufficient capacity for one, the
            next is tried. Default the project's.
        instance_count: Number of hosts; default the project's.
        volume_size_gb: Storage of each host in GB; default the project's.
        max_runtime_minutes: Minutes after which SageMaker stops the job; default the project's.
        state: `task` (default) keeps `$SSM_STATE` between the task's jobs; `none` keeps nothing.
        tags: Additional tags.
        rerun: `when_changed` (default); `if_incomplete`, which accepts the task's newest completed job while its
            outputs are unchanged; or `always`.
        clean_state: Whether to empty the state and run the job again; default False.
        on_busy: Whether to `wait` (default) or `fail` while other work writes the state.
        on_exit: What to do if the run is cancelled, timed out or interrupted: `stop` the job (default) unless other
            runs wait for it, or `leave` it running for a later run to attach to.
        capacity_minutes: How long to retry while AWS has insufficient capacity, in minutes; default 60.
        overrides: Fields of the request to SageMaker that have no argument of their own. Mappings are merged, entries
            of a list are found by their names, and `None` removes a field.
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
    """Options of every job, and those of training jobs alone.

    Args:
        hyperparameters: JSON values by name. A script gets them as `--name value`, and as JSON in `SM_HPS`.
        spot: Whether to use spot instances; default the project's. `fallback` tries on-demand instances if there is no
            spot capacity.
        max_wait_minutes: Time limit of the wait for spot instances and the run together, in minutes; at least
            `max_runtime_minutes`.
    """

    hyperparameters: Mapping[str, Any] | None = None
    spot: bool | Literal["fallback"] | None = None
    max_wait_minutes: float | None = None


@dataclass(frozen=True)
class RunOptions:
    """Options of how a call runs; none is part of the fingerprint.

    Args:
        rerun: `when_changed` (default), `if_incomplete` (by name) or `always`.
        clean_state: Whether to empty `state/` before the job and run it again; default False.
        on_busy: Whether to `wait` (default) for the state directory while other work writes it, or `fail` at once.
        on_exit: What to do if the run is cancelled, timed out or interrupted: `stop` the job (default) unless other
            runs wait for it, or `leave` it running for a later run to attach to.
        capacity_seconds: How long to retry while AWS has insufficient capacity, in seconds; default one hour.
    """

    rerun: Rerun = "when_changed"
    clean_state: bool = False
    on_busy: OnBusy = "wait"
    on_exit: OnExit = "stop"
    capacity_seconds: float = CAPACITY_MINUTES * 60


def shares(options: type[JobOptions]) -> Callable[[_Function], _Function]:
    """Return a decorator that replaces a function's `**shared` by keyword parameters: the fields of a dataclass."""

    def changed(function: _Function) -> _Function:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
        shared = inspect.signature(options).parameters.values()
        function.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
        function.__doc__ = _documented(inspect.getdoc(function) or "", options)
        return function

    return changed


def _documented(text: str, options: type[JobOptions]) -> str:
    """Return a docstring in which the entries of the options replace the entry `**shared`."""
    head, _, tail = text.partition("    **shared: ")
    described = [each for each in reversed(options.__mro__) if issubclass(each, JobOptions)]
    entries = "\n".join(_entries(each) for each in described)
    return f"{head}{entries}\n{tail.partition(chr(10))[2]}"


def _entries(options: type[JobOptions]) -> str:
    return indent(inspect.cleandoc((inspect.getdoc(options) or "").partition("Args:\n")[2]), "    ")
