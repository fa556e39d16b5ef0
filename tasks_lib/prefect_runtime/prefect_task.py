"""Prefect's `Task` for jobs: a direct call returns the result of a skipped step, and `sweep` runs a grid.

Everything else is Prefect's own: `.submit`, `.map`, retries, timeouts, tags, hooks.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, cast

from prefect import Flow, Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.futures import PrefectFuture, PrefectFutureList
from prefect.settings import (
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW,
    get_current_settings,
    temporary_settings,
)
from prefect.states import Cancelled, Completed
from prefect.utilities.annotations import unmapped
from prefect.utilities.callables import get_call_parameters
from prefect.utilities.collections import isiterable
from typing_extensions import Self

from tasks_lib.error_categories import ErrorCategory
from tasks_lib.errors import InvalidTask, JobError
from tasks_lib.jobs.autonamer import NameStyle, Point, named_points
from tasks_lib.jobs.spec import encode_hyperparameters
from tasks_lib.prefect_runtime.failure_log import install_error_logging
from tasks_lib.prefect_runtime.job_future import JobFuture, first_failed, futures_in
from tasks_lib.prefect_runtime.run_context import check_event_loop

if TYPE_CHECKING:  # results read the ledger, which depends on this package
    from tasks_lib.results.job_result import JobResult

Futures = PrefectFutureList["JobResult"]


class JobTask(Task[..., "JobResult"]):
    """A Prefect task whose direct call returns the result also if the step was skipped.

    If the body returns a state, Prefect's `.submit()` and `.map()` give its result, but a direct call gives the state.
    A signal that ends a direct call leaves its task run `Cancelled`, not `Crashed`.
    """

    @classmethod
    def of(cls, name: str, body: Callable[..., Any]) -> Self:
        """Return the task of a function whose argument `name` names its task runs.

        Prefect's own cache is off (`docs/decisions/0003-cached-in-the-body.md`).
        """
        return cls(
            fn=body,
            name=name,
            task_run_name="{name}",
            cache_policy=NO_CACHE,
            persist_result=False,
            retry_condition_fn=should_retry,
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task in this thread, and return its result; with `return_state`, its state."""
        signals: list[BaseException] = []
        direct = copy(self)
        direct.fn = _noting(self.fn, signals)
        with _quiet_outside_a_flow():
            answer = super(JobTask, direct).__call__(*args, **kwargs)
        if signals:
            raise signals[0]
        if isinstance(answer, State) and not kwargs.get("return_state"):
            check_event_loop()
            return answer.result(_sync=True)  # type: ignore[call-overload] # an async flow would get a coroutine
        if answer is None and (failed := first_failed(futures_in((args, kwargs)))):  # Prefect did not call the body
            failed.result()
        return answer

    if not TYPE_CHECKING:  # type checkers see Prefect's own overloads

        def submit(self, *args: Any, **kwargs: Any) -> Any:
            """Submit the task; its future raises the error of an input that failed."""
            future = super().submit(*args, **kwargs)
            return future if kwargs.get("return_state") else JobFuture.of(future, args, kwargs)

        def map(self, *args: Any, **kwargs: Any) -> Any:
            """Submit the task for each element; the futures raise the errors of inputs that failed."""
            futures = super().map(*args, **kwargs)
            if not kwargs.get("return_state"):
                for future in futures:
                    JobFuture.of(future, args, kwargs)
            return futures

    def with_options(self, **options: Any) -> Self:
        """Return a copy of this class with other Prefect options; Prefect's own method returns a plain `Task`."""
        changed = super().with_options(**options)
        changed.__class__ = type(self)
        return cast("Self", changed)


def should_retry(_task: Any, _task_run: Any, state: State[Any]) -> bool:
    """Return whether Prefect's `retries` apply: not to an error that recurs, such as a misspelt argument.

    A failed job is retried if the author asked for retries, since its code may fail by chance.
    """
    error = state.data
    hopeless = getattr(error, "category", None) in (ErrorCategory.USER_ERROR, ErrorCategory.ACCESS_DENIED)
    return isinstance(error, JobError) or not hopeless


@contextmanager
def _quiet_outside_a_flow() -> Iterator[None]:
    """Suppress Prefect's warning at each log line outside of a flow run, unless the settings ask for it.

    The API cannot store such a line, which belongs to no flow run. The terminal still shows it.
    """
    chosen = "when_missing_flow" in get_current_settings().logging.to_api.model_fields_set
    if FlowRunContext.get() or chosen:
        yield
        return
    with temporary_settings({PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore"}):
        yield


def _noting(body: Callable[..., Any], signals: list[BaseException]) -> Callable[..., Any]:
    """Return a body for a direct call, which notes a signal and returns the state `Cancelled`.

    If the signal passed through Prefect's engine, it would set the task run to `Crashed`, even if a user cancelled the
    flow run. The caller raises the noted signal afterwards.
    """

    @functools.wraps(body)
    def noting(*args: Any, **kwargs: Any) -> Any:
        try:
            return body(*args, **kwargs)
        except (KeyboardInterrupt, TerminationSignal) as signal:
            signals.append(signal)
            return Cancelled(message="The run was ended by a signal.")

    noting.__signature__ = inspect.signature(body)  # type: ignore[attr-defined] # `wraps` copies one with `self`
    return noting


class SweepTask(JobTask):
    """A task that can run over a grid of hyperparameters."""

    def sweep(self, stem: str, *, over: Mapping[str, Any], style: NameStyle = "seed", **arguments: Any) -> Futures:
        """Submit one task for each point of a grid, named by the point: `fit-C01-E10`.

        In a flow, the tasks run concurrently, like any submitted tasks. Outside of a flow, they run in a flow run
        `sweep` of their own, and all of them have ended when this returns.

        Args:
            stem: Beginning of the tasks' names.
            over: By hyperparameter, a list of values (an axis) or a single value. The last axis varies fastest. A value
                that is not a list, also a tuple, is the same at each point. They override `hyperparameters`.
            style: How values are spelled in the names (`autonamer.py`); by default `seed`.
            **arguments: The arguments of a single task; futures in them are resolved.

        Returns:
            A future for each point, in the order of the grid.

        Raises:
            InvalidTask: An axis is empty, or a point occurs twice. No task has been submitted.
            InvalidHyperparameter: A value cannot be JSON. No task has been submitted.
        """
        if "name" in arguments or not isinstance(arguments.get("hyperparameters") or {}, Mapping):
            raise InvalidTask(
                f"The sweep {stem!r} was given a name, or hyperparameters that are not a dict.",
                fix="the stem and the points give the names; a future may stand for a hyperparameter's value.",
            )
        points = named_points(stem, over, style=style)
        for point in points:
            encode_hyperparameters(point.values)
        return in_a_flow(lambda: self._submit_points(points, arguments))

    def _submit_points(self, points: list[Point], arguments: dict[str, Any]) -> Futures:
        common = dict(arguments)
        below = common.pop("hyperparameters", None) or {}
        return as_list(self.submit(point.name, hyperparameters={**below, **point.values}, **common) for point in points)


def in_a_flow(submit: Callable[[], PrefectFutureList[Any]]) -> PrefectFutureList[Any]:
    """Submit tasks in the calling flow run; outside of one, in a flow run of their own, whose end is awaited.

    Prefect has a task runner only in a flow run, and an interrupted flow run stops its jobs.
    """
    if FlowRunContext.get():
        return submit()
    submitted = as_list(())

    def sweep() -> PrefectFutureList[Any]:
        submitted.extend(submit())
        return submitted

    state = Flow(sweep, name="sweep", persist_result=False)(return_state=True)
    if not submitted:
        state.result(_sync=True)  # type: ignore[call-overload] # raises the error of the submission
    return submitted


def mapped_over(function: Callable[..., Any], args: Iterable[Any], kwargs: Mapping[str, Any]) -> set[str]:
    """Return the parameters that a `.map` with these arguments runs over: futures, and what Prefect iterates over."""
    given = get_call_parameters(function, tuple(args), dict(kwargs), apply_defaults=False)
    return {
        name
        for name, value in given.items()
        if isinstance(value, PrefectFuture) or (isiterable(value) and not isinstance(value, unmapped))
    }


def as_list(futures: Iterable[PrefectFuture[Any]]) -> PrefectFutureList[Any]:
    """Return futures as Prefect's list of futures."""
    return PrefectFutureList(futures)  # type: ignore[abstract] # Prefect declares an iterator, but it is a list


def as_state(result: JobResult) -> State[JobResult] | JobResult:
    """Return what a task's body returns to Prefect: for a skip, the state `Cached` with its reason."""
    return Completed(name="Cached", message=result.reason, data=result) if result.cached else result


install_error_logging()
