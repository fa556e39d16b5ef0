"""The future of a submitted task, whose result raises the error of an input that failed.

Prefect does not run a task whose input failed (`NotReady`). Prefect's own future then raises `UnfinishedRun: Run is in
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
        upstream: The futures on which the task depends.
    """

    upstream: tuple[PrefectFuture[Any], ...]

    @classmethod
    def of(cls, future: PrefectFuture[R], *arguments: Any) -> PrefectFuture[R]:
        """Convert a future of Prefect's thread pool to this class, in place; return any other future as it is.

        Args:
            future: Prefect's future of a submitted task.
            *arguments: The arguments of the task.
        """
        if type(future) is PrefectConcurrentFuture:
            future.__class__ = cls
        if isinstance(future, cls):
            future.upstream = tuple(futures_in(arguments))
        return future

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        """Return the task's result, or raise the error that kept it from having one.

        Args:
            timeout: Most seconds to wait; None (default) to wait without limit.
            raise_on_failure: Whether to raise the error of a failed task, and not return it; by default True.

        Raises:
            TimeoutError: The task did not end in time.
            Exception: The task's error. If the task did not run because an input failed, the error of that task.
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
    """Return the futures in a task's arguments, at any depth at which Prefect finds them."""
    found: list[PrefectFuture[Any]] = []

    def note(value: Any) -> Any:
        if isinstance(value, PrefectFuture):
            found.append(value)
        return value

    visit_collection(arguments, visit_fn=note, return_data=False)
    return found


def first_failed(futures: Iterable[PrefectFuture[Any]], named: str = "") -> PrefectFuture[Any] | None:
    """Wait for futures one by one, and return the first whose task did not complete; None if all did.

    Args:
        futures: The futures.
        named: A text that may contain the id of the task run to wait for first; by default empty.
    """
    for future in sorted(futures, key=lambda each: str(each.task_run_id) not in named):
        future.wait()
        if not future.state.is_completed():
            return future
    return None
