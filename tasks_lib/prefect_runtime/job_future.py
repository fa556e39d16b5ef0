"""The future of a submitted task: asked for its result, it raises the error with which the trouble began.

Prefect does not run a task whose input failed (`NotReady`). Its own future then raises `UnfinishedRun: Run is in
PENDING state`, which hides the cause.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, cast

from prefect.exceptions import UnfinishedRun
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.utilities.collections import visit_collection

R = TypeVar("R")


class JobFuture(PrefectConcurrentFuture[R]):
    """A future that knows the futures on which its task depends.

    Attributes:
        upstream: These futures.
    """

    upstream: tuple[PrefectFuture[Any], ...]

    @classmethod
    def of(cls, future: PrefectFuture[R], *arguments: Any) -> PrefectFuture[R]:
        """Make a future of Prefect's thread pool one of ours, in place; return any other as it is.

        Args:
            future: What Prefect made of a task that was submitted.
            *arguments: What the task was given.
        """
        if type(future) is PrefectConcurrentFuture:
            future.__class__ = cls
        if isinstance(future, cls):
            future.upstream = tuple(futures_in(arguments))
        return future

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        """Return the task's result, or raise why there is none.

        Args:
            timeout: Seconds to wait for it, at most; without it, no bound.
            raise_on_failure: Whether to raise the error of a task that failed, or else to return it.

        Raises:
            TimeoutError: The task is not over.
            Exception: That of the task. If it did not run since a task before it failed: that task's.
        """
        try:
            return super().result(timeout, raise_on_failure)
        except UnfinishedRun as unfinished:
            without_result = unfinished
        failed = first_failed(self.upstream, self.state.message or "")
        if failed is None:
            raise without_result
        return cast("R", failed.result(raise_on_failure=raise_on_failure))


def futures_in(arguments: Any) -> list[PrefectFuture[Any]]:
    """Return the futures among a task's arguments, wherever Prefect would find them."""
    found: list[PrefectFuture[Any]] = []

    def note(value: Any) -> Any:
        if isinstance(value, PrefectFuture):
            found.append(value)
        return value

    visit_collection(arguments, visit_fn=note, return_data=False)
    return found


def first_failed(futures: Iterable[PrefectFuture[Any]], named: str = "") -> PrefectFuture[Any] | None:
    """Return the first of some futures that is not completed, when it is over; None if all are.

    Args:
        futures: The futures.
        named: A text that may have the id of the task run to look at first.
    """
    for future in sorted(futures, key=lambda each: str(each.task_run_id) not in named):
        future.wait()
        if not future.state.is_completed():
            return future
    return None
