"""`@sagemaker_task`: a Python function whose calls are SageMaker jobs.

    @sagemaker_task(requirements=["scikit-learn"], instance_type="ml.m5.large")
    def fit(data: Path, C: float = 1.0) -> dict[str, float]: ...

Beside a script with arguments and files, for those who would rather write a function; there is no second machinery:
the call becomes one of `sm.process` or `sm.train`, so fingerprint, ledger, attaching, cancelling and logs are theirs.
What travels is in `code.py`, how values do in `values.py`, what runs in the job in
`worker_toolkit/function.py`.
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
from prefect.futures import PrefectFuture, PrefectFutureList
from prefect.states import Completed
from prefect.utilities.annotations import unmapped
from prefect.utilities.callables import get_call_parameters
from prefect.utilities.collections import isiterable

from blocks import SageMakerProject
from tasks_lib.errors import DuplicateTask, InvalidTask
from tasks_lib.functions.code import FunctionCode
from tasks_lib.functions.grid import function_points
from tasks_lib.functions.names import call_name, check_template
from tasks_lib.functions.values import Arguments, Signature, read_result
from tasks_lib.jobs.kinds import KINDS, JobKind
from tasks_lib.prefect_runtime.prefect_task import JobTask, as_list, in_a_flow
from tasks_lib.results.job_result import JobResult
from tasks_lib.run.prepare import Code
from tasks_lib.tasks import SageMakerTasks, sagemaker_tasks
from worker_toolkit.contract import ARGUMENTS_CHANNEL

Serializer = Literal["json", "pickle"]
Project = str | SageMakerProject | SageMakerTasks

_NOT_OURS = {"arguments", "hyperparameters"}  # the function's arguments are what they would be


@dataclass(frozen=True, eq=False)
class FunctionWork:
    """What a function task does, whoever calls it.

    Args:
        code: The function and its files.
        project: Where.
        kind: Which job runs it.
        name: Template of the task's name; none for the function's name and its arguments.
        requirements: Lines of `requirements.txt`.
        dependencies: Further files and directories.
        source_dir: Directory whose content goes along.
        serializer: `json` or `pickle`.
        options: What `sm.process` or `sm.train` take beside that.
        mapped: The parameters that a `.map` runs over.
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
        """What the function takes and returns; read late, since annotations may name what comes further down."""
        return Signature(self.code.function)

    def run_name(self, parameters: dict[str, Any]) -> str:
        """Return the name of a task run: the task's name for these arguments."""
        return call_name(self.signature, parameters, template=self.name, mapped=self.mapped)

    def run(self, values: dict[str, Any]) -> Any:
        """Run the job of one call, or find its result.

        Args:
            values: The given arguments, by parameter.

        Returns:
            What the function returned; a Prefect state where nothing had to run, or the run was cancelled.
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
        """Return how to name two calls apart: by their arguments, or as two tasks where it is options that differ."""
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
    """A Prefect task that runs a function as a SageMaker job, and gives what the function returned."""

    submit: Any  # as Prefect's, but its futures hold whatever the function returns

    @classmethod
    def running(cls, work: FunctionWork) -> FunctionTask:
        """Return the task of some work."""
        name: Any = work.run_name  # Prefect's type for one with `parameters` asks for a method of its own
        return cls(fn=_body(work), task_run_name=name, cache_policy=NO_CACHE, persist_result=False)

    @property
    def work(self) -> FunctionWork:
        """What it does. It is kept by the body, which every copy that Prefect makes of a task has."""
        return cast(FunctionWork, self.fn.work)  # type: ignore[attr-defined]

    @property
    def sagemaker_function(self) -> Callable[..., Any]:
        """The function itself: a plain call of it runs here, without any job."""
        return self.work.code.function

    def on(self, project: Project) -> FunctionTask:
        """Return this task bound to another project.

        Args:
            project: A `SageMakerProject`, the name of a saved one, `local`, or the tasks of one (`sagemaker_tasks`)
                with their defaults.
        """
        return self._doing(replace(self.work, project=project))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it, and return what the function returns; of an `async` one in an event loop, something to await."""
        call = super().__call__
        if inspect.iscoroutinefunction(self.sagemaker_function) and _in_event_loop():
            return asyncio.to_thread(call, *args, **kwargs)
        return call(*args, **kwargs)

    def map(self, *args: Any, **kwargs: Any) -> PrefectFutureList[Any]:  # type: ignore[override] # one of Prefect's
        """Run it once for each element of its arguments; each call is a task of its own name."""
        given = get_call_parameters(self.fn, args, _without_options(kwargs), apply_defaults=False)
        over = {name for name, value in given.items() if isinstance(value, PrefectFuture) or _is_mapped(value)}
        task = self._doing(replace(self.work, mapped=frozenset(over)))
        return cast("PrefectFutureList[Any]", super(FunctionTask, task).map(*args, **kwargs))

    def sweep(self, *args: Any, over: Mapping[str, Any], **kwargs: Any) -> PrefectFutureList[Any]:
        """Submit one call for each point of a grid, each a task of its own name: `fit-C0.1-epochs10`.

        In a flow they run side by side as any submitted tasks do. Outside of one, a flow run `sweep` is made for them,
        and all of them are over when this returns.

        Args:
            *args: Arguments that are the same at each point; futures in them are resolved.
            over: Values by parameter: a list is an axis, and the last axis varies fastest; any other value, a tuple
                too, is the same at each point, and part of the names.
            **kwargs: As `args`, by name.

        Returns:
            A future for each point, in the order of the grid.

        Raises:
            InvalidTask: Before any task is submitted: an empty axis, a point that is there twice, an axis that is none
                of the parameters or is given twice, or a template of the name that leaves out an axis.
            TypeError: A further argument is none of the function's.
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


def _is_mapped(value: Any) -> bool:
    return isiterable(value) and not isinstance(value, unmapped)


def _body(work: FunctionWork) -> Callable[..., Any]:
    """Return what Prefect calls: of the function's own signature, so that it binds and maps by that."""

    @functools.wraps(work.code.function)
    def body(*args: Any, **kwargs: Any) -> Any:
        return work.run(inspect.signature(work.code.function).bind(*args, **kwargs).arguments)

    body.work = work  # type: ignore[attr-defined]
    return body


_known: dict[str, SageMakerTasks] = {}


def _tasks_of(name: str) -> SageMakerTasks:
    """Return the tasks of a project by its name: the same ones while it does not change; clients are slow to make."""
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
    """Make a SageMaker job of every call of a function; bare, or with options.

    Arguments and result are typed by the function's annotations and travel as JSON: JSON values, dates, enums, tuples,
    sets, dataclasses and pydantic models (where the job has pydantic). A parameter annotated `Path` is an input: give
    it a local path, an S3 URI, what another function task returned, a `JobResult`, or `output_of(…)`; in the job it is
    a local path. A returned `Path` is kept as an output, and comes back as a `FileOutput`. Of several hosts each runs
    the function, and the first one's result counts.

    What the job sees, and so what makes it run again: the function's own file (the whole package where it lies in one),
    `source_dir`, `dependencies`, `requirements`, and the arguments. A helper module beside the file has to be declared;
    a package only if the image has none. Imports of `prefect`, `tasks_lib` and `blocks` at the top of the file are
    served by stand-ins in the job, which can do nothing. A function of a notebook travels alone, with the imports that
    it uses.

    Args:
        function: The function, defined by `def` at the top of a file or in a notebook.
        project: A `SageMakerProject`, the name of a saved one, `local` for this machine, or `sagemaker_tasks(…)`;
            `.on(…)` gives the same task on another one.
        kind: Run it as a `processing` (default) or a `training` job.
        name: Template of the task's name over the arguments, such as `fit-{C}`. By default the function's name, the
            numbers and short texts among the arguments that are not the default, and what a `.map` runs over.
        requirements: Lines of a `requirements.txt`, which the job installs first.
        dependencies: Further files and directories, laid beside the function's module under their own names.
        source_dir: A directory whose content goes along.
        serializer: `json`, or `pickle` for values that JSON cannot carry. A pickle runs whatever it holds when it is
            read: with it, whoever may write to the project's bucket can run code in your jobs and on your machine. Its
            digest is no stable key either: a set in it may make the job run again.
        **options: As for `sm.process` or `sm.train`: `image`, `instance_type`, `environment`, `inputs`, `metrics` and
            so on; `state` is `none` by default. Relative paths above start at the function's file.

    Raises:
        InvalidTask: An option that there is not, or a function that a job could not find by its name.
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
