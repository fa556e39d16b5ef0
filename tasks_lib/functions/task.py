"""`@sagemaker_task`: a Python function whose calls are SageMaker jobs.

    @sagemaker_task(requirements=["scikit-learn"], instance_type="ml.m5.large")
    def fit(data: Path, C: float = 1.0) -> dict[str, float]: ...

It is an alternative to a script with arguments and files. A call becomes a call of `sm.process` or `sm.train`, so
fingerprint, ledger, attaching, cancelling and logs are the same. `code.py` says which files are sent, `values.py` how
values are, and `worker_toolkit/function.py` runs in the job.
"""

from __future__ import annotations

import asyncio
import difflib
import functools
import inspect
import tempfile
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, get_args, overload

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFutureList
from prefect.states import Completed

from blocks import SageMakerProject
from tasks_lib.errors import DuplicateTask, InvalidTask
from tasks_lib.functions.code import FunctionCode
from tasks_lib.functions.grid import function_points
from tasks_lib.functions.names import call_name, check_template
from tasks_lib.functions.values import Arguments, Signature, read_result
from tasks_lib.jobs.kinds import KINDS, JobKind
from tasks_lib.prefect_runtime.prefect_task import JobTask, as_list, in_a_flow, mapped_over
from tasks_lib.results.job_result import JobResult
from tasks_lib.run.prepare import Code
from tasks_lib.tasks import SageMakerTasks, sagemaker_tasks
from worker_toolkit.contract import ARGUMENTS_CHANNEL

Serializer = Literal["json", "pickle"]
Project = str | SageMakerProject | SageMakerTasks

_NOT_OURS = {"arguments", "hyperparameters"}  # the function's own arguments take their place


@dataclass(frozen=True, eq=False)
class FunctionWork:
    """What a call of a function task runs.

    Args:
        code: The function and its files.
        project: The project of the job.
        kind: The kind of job that runs it.
        name: Template of the task's name; None for the function's name and its arguments.
        requirements: Lines of `requirements.txt`.
        dependencies: Further files and directories.
        source_dir: Directory whose content is sent as well; None for none.
        serializer: `json` or `pickle`.
        options: Further options of `sm.process` or `sm.train`.
        mapped: The parameters that a `.map` runs over; default none.
    """

    code: FunctionCode
    project: Project
    kind: JobKind
    name: str | None
    requirements: tuple[str, ...]
    dependencies: tuple[str | Path, ...]
    source_dir: str | Path | None
    serializer: Serializer
    options: Mapping[str, Any]
    mapped: frozenset[str] = frozenset()

    @cached_property
    def signature(self) -> Signature:
        """The function's parameters and result.

        Read on first use: annotations may name what is defined further down.
        """
        return Signature(self.code.function)

    def run_name(self, parameters: dict[str, Any]) -> str:
        """Return the name of a task run: the task's name for these arguments."""
        return call_name(self.signature, parameters, template=self.name, mapped=self.mapped)

    def run(self, values: dict[str, Any]) -> Any:
        """Run the job of one call, or find its result.

        Args:
            values: The given arguments, by parameter.

        Returns:
            What the function returned; a Prefect state if nothing had to run or the run was cancelled.
        """
        with tempfile.TemporaryDirectory(prefix="sagemaker-function-") as scratch:
            try:
                answer = self._call(Path(scratch), values)
            except DuplicateTask as error:
                raise DuplicateTask(error.message, fix=self._names_apart(error.parts), parts=error.parts) from error
        if not isinstance(answer, State):
            return self._value(answer)
        if not answer.is_completed():
            return answer
        return Completed(name=answer.name, message=answer.message, data=self._value(cast(JobResult, answer.data)))

    def _names_apart(self, parts: AbstractSet[str]) -> str:
        """Return the fix for two calls with one name.

        If only inputs differ, the arguments can be put into the name. Otherwise one of the two tasks needs another
        name.
        """
        first = next(iter(self.signature.parameters), None)
        if first is None or not parts <= {"inputs"}:
            return f"give one of the two tasks a name of its own: @sagemaker_task(name='{self.code.name}-2')."
        return f"use .map, or name the calls apart: @sagemaker_task(name='{self.code.name}-{{{first}}}')."

    def _call(self, scratch: Path, values: dict[str, Any]) -> Any:
        if self.serializer == "json":
            self.signature.check_result()
        tasks = _tasks(self.project)
        source = scratch / "code"
        source.mkdir()
        entry_point = self.code.lay_out(
            source,
            requirements=self.requirements,
            source_dir=self.source_dir,
            dependencies=self.dependencies,
            serializer=self.serializer,
        )
        options = {"state": "none", **self.options, "inputs": self._inputs(scratch, values)}
        name = self.run_name(values)
        return tasks.run(self.kind, name, Code(entry_point, source), self.kind.options(**options))

    def _inputs(self, scratch: Path, values: dict[str, Any]) -> dict[str, Any]:
        arguments = Arguments(self.signature, values, self.serializer)
        more = dict(self.options.get("inputs") or {})
        if taken := sorted(more.keys() & {*arguments.inputs, ARGUMENTS_CHANNEL}):
            raise InvalidTask(f"{self.code.name}() has two inputs {taken[0]!r}.", fix="name the channel otherwise.")
        if arguments.files:
            folder = scratch / ARGUMENTS_CHANNEL
            folder.mkdir()
            for name, content in arguments.files.items():
                (folder / name).write_bytes(content)
            more[ARGUMENTS_CHANNEL] = folder
        return more | arguments.inputs

    def _value(self, result: JobResult) -> Any:
        renamed = {self.code.module: self.code.function.__module__}
        return read_result(result, self.signature, renamed, self.serializer)


class FunctionTask(JobTask):
    """A Prefect task that runs a function as a SageMaker job and returns what the function returned."""

    submit: Any  # as Prefect's, but its futures hold what the function returns

    @classmethod
    def running(cls, work: FunctionWork) -> FunctionTask:
        """Return the task that runs some work."""
        name: Any = work.run_name  # Prefect's type for a function of `parameters` does not fit a method
        return cls(fn=_body(work), task_run_name=name, cache_policy=NO_CACHE, persist_result=False)

    @property
    def work(self) -> FunctionWork:
        """The task's work. It is an attribute of the body, which every copy that Prefect makes of a task shares."""
        return cast(FunctionWork, self.fn.work)  # type: ignore[attr-defined]

    @property
    def sagemaker_function(self) -> Callable[..., Any]:
        """The function itself: calling it runs it in this process, without a job."""
        return self.work.code.function

    def on(self, project: Project) -> FunctionTask:
        """Return this task bound to another project.

        Args:
            project: A `SageMakerProject`, the name of a saved one, `local`, or the tasks of one (`sagemaker_tasks`)
                with their defaults.
        """
        return self._doing(replace(self.work, project=project))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task and return what the function returns. In an event loop, return an awaitable if it is `async`."""
        call = super().__call__
        if inspect.iscoroutinefunction(self.sagemaker_function) and _in_event_loop():
            return asyncio.to_thread(call, *args, **kwargs)
        return call(*args, **kwargs)

    def map(self, *args: Any, **kwargs: Any) -> PrefectFutureList[Any]:  # type: ignore[override] # one of Prefect's
        """Run the task once for each element of its arguments; each call is a task with its own name."""
        over = mapped_over(self.fn, args, _without_options(kwargs))
        task = self._doing(replace(self.work, mapped=frozenset(over)))
        return cast("PrefectFutureList[Any]", super(FunctionTask, task).map(*args, **kwargs))

    def sweep(self, *args: Any, over: Mapping[str, Any], **kwargs: Any) -> PrefectFutureList[Any]:
        """Submit one call for each point of a grid, each a task with its own name: `fit-C0.1-epochs10`.

        In a flow they run side by side, as any submitted tasks do. Outside a flow, a flow run `sweep` is created for
        them, and all of them are finished when this returns.

        Args:
            *args: Arguments that are the same at each point; futures in them are resolved.
            over: Values by parameter. A list is an axis, and the last axis varies fastest. Any other value, a tuple
                too, is the same at each point and part of the names.
            **kwargs: As `args`, by name.

        Returns:
            A future for each point, in the order of the grid.

        Raises:
            InvalidTask: Before any task is submitted: an axis is empty, is not a parameter, is given twice or is
                missing in the template of the name, or a point is there twice.
            TypeError: Another argument is not a parameter of the function.
        """
        given = inspect.signature(self.fn).bind_partial(*args, **_without_options(kwargs)).arguments
        points = function_points(self.work.signature, over, given=given, template=self.work.name)
        task = self._doing(replace(self.work, mapped=frozenset(over)))
        return in_a_flow(lambda: as_list(task.submit(*args, **kwargs, **point) for point in points))

    def _doing(self, work: FunctionWork) -> FunctionTask:
        changed = self.with_options()
        changed.fn = _body(work)
        if self.task_run_name == self.work.run_name:
            changed.task_run_name = cast(Any, work.run_name)
        return changed


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _without_options(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the function's own arguments, without those of Prefect's `submit` and `map`."""
    return {name: kwargs[name] for name in kwargs.keys() - {"return_state", "wait_for", "deferred"}}


def _body(work: FunctionWork) -> Callable[..., Any]:
    """Return the function that Prefect calls.

    It has the signature of the user's function, by which Prefect binds and maps.
    """

    @functools.wraps(work.code.function)
    def body(*args: Any, **kwargs: Any) -> Any:
        return work.run(inspect.signature(work.code.function).bind(*args, **kwargs).arguments)

    body.work = work  # type: ignore[attr-defined]
    return body


_known: dict[str, SageMakerTasks] = {}


def _tasks_of(name: str) -> SageMakerTasks:
    """Return the tasks of a project by its name, cached while it does not change: clients are slow to create."""
    project = SageMakerProject.named(name)
    known = _known.get(name)
    if known is None or known.project.model_dump() != project.model_dump():
        known = _known[name] = SageMakerTasks(project, {})
    return known


def _tasks(project: Project) -> SageMakerTasks:
    if isinstance(project, SageMakerTasks):
        return project
    return _tasks_of(project) if isinstance(project, str) else sagemaker_tasks(project)


@overload
def sagemaker_task(function: Callable[..., Any], /) -> FunctionTask: ...


@overload
def sagemaker_task(
    *,
    project: Project = "local",
    kind: Literal["processing", "training"] = "processing",
    name: str | None = None,
    requirements: Sequence[str] = (),
    dependencies: Sequence[str | Path] = (),
    source_dir: str | Path | None = None,
    serializer: Serializer = "json",
    **options: Any,
) -> Callable[[Callable[..., Any]], FunctionTask]: ...


def sagemaker_task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    project: Project = "local",
    kind: str = "processing",
    name: str | None = None,
    requirements: Sequence[str] = (),
    dependencies: Sequence[str | Path] = (),
    source_dir: str | Path | None = None,
    serializer: Serializer = "json",
    **options: Any,
) -> Any:
    """Turn every call of a function into a SageMaker job; used bare or with options.

    Arguments and result are typed by the function's annotations and sent as JSON: JSON values, dates, enums, tuples,
    sets, dataclasses and pydantic models (if the job has pydantic). A parameter annotated `Path` is an input. Give it a
    local path, an S3 URI, what another function task returned, a `JobResult`, or `output_of(…)`; in the job it is a
    local path. A returned `Path` is kept as an output, and comes back as a `FileOutput`. With several hosts, each runs
    the function, and the first one's result counts.

    The job runs again if one of these changes: the function's own file (the whole package if it is in one),
    `source_dir`, `dependencies`, `requirements`, or the arguments. A helper module beside the file has to be declared;
    a package only if the image does not have it. Imports of `prefect`, `tasks_lib` and `blocks` at the top of the file
    get stand-ins in the job, which do nothing. A function in a notebook is sent alone, with the imports that it uses.

    Args:
        function: The function, defined by `def` at the top of a file or in a notebook.
        project: A `SageMakerProject`, the name of a saved one, `local` (default) for this machine, or
            `sagemaker_tasks(…)`. `.on(…)` returns the same task on another project.
        kind: Run it as a `processing` (default) or a `training` job.
        name: Template of the task's name over the arguments, such as `fit-{C}`. By default the name has the function's
            name, the scalar arguments that differ from their defaults (a long text with a hash), and what a `.map` runs
            over.
        requirements: Lines of a `requirements.txt`, which the job installs first; default none.
        dependencies: Further files and directories, placed beside the function's module under their own names; default
            none.
        source_dir: A directory whose content is sent as well; default none.
        serializer: `json` (default), or `pickle` for values that JSON cannot represent. Unpickling runs any code that
            is in a pickle. So with it, anyone who may write to the project's bucket can run code in your jobs and on
            your machine. Its digest is not stable either: a set in it may make the job run again.
        **options: As for `sm.process` or `sm.train`: `image`, `instance_type`, `environment`, `inputs`, `metrics` and
            so on. `state` is `none` by default. Relative paths above start at the function's file.

    Raises:
        InvalidTask: An option does not exist, or a job could not find the function by its name.
    """
    if function is None:
        return functools.partial(
            sagemaker_task,
            project=project,
            kind=kind,
            name=name,
            requirements=requirements,
            dependencies=dependencies,
            source_dir=source_dir,
            serializer=serializer,
            **options,
        )
    code = FunctionCode.of(function)
    _check_choice("kind", kind, [each.name for each in KINDS.values() if each.runs_code])
    _check_choice("serializer", serializer, get_args(Serializer))
    _check_options(code.name, KINDS[kind], options)
    work = FunctionWork(
        code,
        project,
        KINDS[kind],
        None if name is None else check_template(name, code.name, [*inspect.signature(function).parameters]),
        _lines("requirements", requirements),
        _lines("dependencies", dependencies),
        source_dir,
        serializer,
        options,
    )
    return FunctionTask.running(work)


def _check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InvalidTask(f"{what} is {value!r}.", fix=f"use one of {', '.join(choices)}.")


def _check_options(function: str, kind: JobKind, options: Mapping[str, Any]) -> None:
    known = _options_of(kind) - _NOT_OURS
    for name in sorted(options.keys() - known):
        near = difflib.get_close_matches(name, [*known, *inspect.signature(sagemaker_task).parameters], 1)
        fix = f"did you mean {near[0]!r}?" if near else f"use any of {', '.join(sorted(known))}."
        others = [each.name for each in KINDS.values() if each.runs_code and name in _options_of(each)]
        if name in _NOT_OURS:
            fix = "the function's own arguments take their place."
        elif others:
            fix = f"say kind={others[0]!r}."
        raise InvalidTask(f"@sagemaker_task on {function}() has no option {name!r}.", fix=fix)


def _options_of(kind: JobKind) -> set[str]:
    return {each.name for each in fields(kind.options)}


def _lines(what: str, values: Sequence[Any]) -> tuple[Any, ...]:
    if isinstance(values, str | Path):
        raise InvalidTask(f"{what} is one text, {str(values)!r}, not a list.", fix=f"give a list: [{str(values)!r}].")
    return tuple(values)
