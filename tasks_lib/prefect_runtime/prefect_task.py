"""Prefect's `Task` as our jobs need it: a skip called directly gives its result, and a grid is one call.

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
from typing_extensions import Self

from tasks_lib.error_categories import ErrorCategory
from tasks_lib.errors import InvalidTask, JobError
from tasks_lib.jobs.autonamer import NameStyle, Point, named_points
from tasks_lib.jobs.hyperparameters import encode_hyperparameters
from tasks_lib.prefect_runtime.failure_log import tell_once
from tasks_lib.prefect_runtime.job_future import JobFuture, first_failed, futures_in
from tasks_lib.prefect_runtime.run_context import check_event_loop

if TYPE_CHECKING:  # results read the ledger, which relies on this room
    from tasks_lib.results.job_result import JobResult

Futures = PrefectFutureList["JobResult"]


class JobTask(Task[..., "JobResult"]):
    """A Prefect task whose direct call returns the result also where there was nothing to run.

    `.submit()` and `.map()` read the result out of a state that a body returned; a direct call hands out the state.
    A signal that ends it leaves its task run cancelled, and not crashed.
    """

    @classmethod
    def of(cls, name: str, body: Callable[..., Any]) -> Self:
        """Return the task of a function whose argument `name` is the name of its runs.

        Prefect's own cache is off (`docs/decisions/0003-cached-in-the-body.md`).
        """
        return cls(
            fn=body,
            name=name,
            task_run_name="{name}",
            cache_policy=NO_CACHE,
            persist_result=False,
            retry_condition_fn=worth_retrying,
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here and now, and return its result; with `return_state`, its state."""
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
        if answer is None and (failed := first_failed(futures_in((args, kwargs)))):  # Prefect calls no body then
            failed.result()
        return answer

    if not TYPE_CHECKING:  # a type checker sees Prefect's own overloads

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
        """Return a copy with other options of Prefect's, of the same class: Prefect makes a plain `Task` of any."""
        changed = super().with_options(**options)
        changed.__class__ = type(self)
        return cast("Self", changed)


def worth_retrying(_task: Any, _task_run: Any, state: State[Any]) -> bool:
    """Whether Prefect's `retries` apply: not to what can only fail again, such as a misspelt argument.

    What the job's own code did is tried again, where the author asked for retries: it may fail by chance.
    """
    error = state.data
    hopeless = getattr(error, "category", None) in (ErrorCategory.USER_ERROR, ErrorCategory.ACCESS_DENIED)
    return isinstance(error, JobError) or not hopeless


@contextmanager
def _quiet_outside_a_flow() -> Iterator[None]:
    """Keep Prefect from warning at each line of a call outside of a flow run, unless the settings ask for it.

    The lines have no flow run to which the API could add them. The terminal shows them all the same.
    """
    chosen = "when_missing_flow" in get_current_settings().logging.to_api.model_fields_set
    if FlowRunContext.get() or chosen:
        yield
        return
    with temporary_settings({PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore"}):
        yield


def _noting(body: Callable[..., Any], signals: list[BaseException]) -> Callable[..., Any]:
    """Return a task's body as it is called directly: a signal ends the task run as cancelled, and then the flow.

    Prefect calls a task run crashed through which a signal goes, also where somebody cancelled its flow run.
    """

    @functools.wraps(body)
    def noting(*args: Any, **kwargs: Any) -> Any:
        try:
            return body(*args, **kwargs)
        except (KeyboardInterrupt, TerminationSignal) as signal:
            signals.append(signal)
            return Cancelled(message="The run was ended by a signal.")

    noting.__signature__ = inspect.signature(body)  # type: ignore[attr-defined] # a bound method's own has `self`
    return noting


class SweepTask(JobTask):
    """A task with hyperparameters, which can be run over a grid of them."""

    def sweep(self, stem: str, *, over: Mapping[str, Any], style: NameStyle = "seed", **arguments: Any) -> Futures:
        """Submit one task for each point of a grid, named by the point: `fit-C01-E10`.

        In a flow they run side by side as any submitted tasks do. Outside of one, a flow run `sweep` is made for them,
        and all of them are over when this returns.

        Args:
            stem: What the tasks' names begin with.
            over: Values by hyperparameter: a list is an axis, and the last axis varies fastest; any other value, a
                tuple too, is the same at each point. They are laid over `hyperparameters`.
            style: How values are spelled in the names (`autonamer.py`).
            **arguments: As for a single task; futures in them are resolved.

        Returns:
            A future for each point, in the order of the grid.

        Raises:
            InvalidTask: Before any task is submitted: an empty axis, a point that is there twice.
            InvalidHyperparameter: A value is no JSON.
        """
        if "name" in arguments or not isinstance(arguments.get("hyperparameters") or {}, Mapping):
            raise InvalidTask(
                f"The sweep {stem!r} was given a name, or hyperparameters that are no dict.",
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
    """Submit tasks in the flow run that calls, or in one of their own, after which all of them are over.

    Prefect submits in no other place, and an interrupted flow run stops its jobs.
    """
    if FlowRunContext.get():
        return submit()
    submitted = as_list(())

    def sweep() -> PrefectFutureList[Any]:
        submitted.extend(submit())
        return submitted

    state = Flow(sweep, name="sweep", persist_result=False)(return_state=True)
    if not submitted:
        state.result(_sync=True)  # type: ignore[call-overload] # raises what kept them from being submitted
    return submitted


def as_list(futures: Iterable[PrefectFuture[Any]]) -> PrefectFutureList[Any]:
    """Return futures as the list of them that Prefect makes."""
    return PrefectFutureList(futures)  # type: ignore[abstract] # Prefect declares an iterator, and makes a list


def as_state(result: JobResult) -> State[JobResult] | JobResult:
    """Return what a task's body hands to Prefect: a skip shows as `Cached`, with its reason."""
    return Completed(name="Cached", message=result.reason, data=result) if result.cached else result


tell_once()
