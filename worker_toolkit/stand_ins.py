"""Stand-ins for packages that a function's module imports for its flow, and that a job does not need.

A file with a flow and the functions of its jobs begins with `from prefect import flow`. The job runs one of the
functions, and its image needs no Prefect. So inert modules replace these packages, even if the package is installed: a
job behaves the same on AWS and on a laptop.

Their decorators return the function itself. Whatever else a module does with them while it is imported has no effect. A
function that calls them gets an error with the cause. A package that `requirements.txt` names is not replaced.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Iterable, Mapping, Sequence

STOOD_IN_FOR: Mapping[str, str] = {
    "prefect": "prefect",
    "prefect_aws": "prefect-aws",
    "tasks_lib": "prefect-sagemaker",
    "blocks": "prefect-sagemaker",
}
"""Distribution by import name."""

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_SAME_AGAIN = ("on", "with_options", "on_completion", "on_failure", "on_running", "on_cancellation", "on_crashed")
_NOT_HERE = ("submit", "map", "delay", "serve", "deploy")


class NotInJobError(RuntimeError):
    """A function in a job used something that only a flow can use."""


def install_stand_ins(code: Path) -> None:
    """Install the stand-ins, except for packages that the code's `requirements.txt` names."""
    wanted = _required(code / "requirements.txt")
    names = {name for name, distribution in STOOD_IN_FOR.items() if _canonical(distribution) not in wanted}
    sys.meta_path.insert(0, StandInFinder(names))


class StandInFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds some packages, with all their submodules, as stand-ins."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    def find_spec(
        self, fullname: str, _: Sequence[str] | None, __: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a stand-in; None for any other module."""
        if fullname.partition(".")[0] not in self._names:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return a stand-in module."""
        return _StandInModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module is empty."""


class _StandInModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # `inspect`, `pickle` and others look for such names in every module
            raise AttributeError(name)
        return StandIn(f"{self.__name__}.{name}")


class StandIn:
    """Any attribute of a stand-in module, usable as a decorator, as a base class, or in an annotation.

    Args:
        name: The full name that it stands for.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"<stand-in for {self._name}>"

    def __call__(self, *args: Any, **_: Any) -> Any:
        """Act as a decorator, or do nothing while a module is being imported; otherwise raise."""
        if args and (inspect.isfunction(args[0]) or inspect.isclass(args[0])):
            return _decorated(args[0], self._name)
        if _is_importing():
            return StandIn(f"{self._name}(…)")
        raise self._not_here()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if _is_importing():
            return StandIn(f"{self._name}.{name}")
        raise self._not_here()

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        """Act as an empty base class."""
        return (_Base,)

    def __or__(self, other: Any) -> Any:
        return self

    def __getitem__(self, item: Any) -> Any:
        return self

    __ror__ = __add__ = __radd__ = __sub__ = __or__

    def _not_here(self) -> NotInJobError:
        distribution = STOOD_IN_FOR[self._name.partition(".")[0]]
        return NotInJobError(
            f"{self._name} is not there in a job. Use it in the flow, or name {distribution} in the task's "
            "requirements; a job's own words for the log are print() and logging."
        )


class _Base:
    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Accept the keyword arguments that the real base class would."""


def _decorated(decorated: Any, name: str) -> Any:
    """Return a function itself, with those methods of a Prefect task or flow that a module may use at import."""
    if inspect.isfunction(decorated):
        for method in _SAME_AGAIN:
            setattr(decorated, method, lambda *_, **__: decorated)
        for method in _NOT_HERE:
            setattr(decorated, method, StandIn(f"{name}.{method}"))
    return decorated


def _is_importing() -> bool:
    """Return whether this thread is importing a module. A module may import others from inside a function."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            return True
        frame = frame.f_back
    return False


def _required(requirements: Path) -> set[str]:
    lines = requirements.read_text().splitlines() if requirements.is_file() else []
    return {_canonical(found[1]) for found in map(_REQUIREMENT.match, lines) if found}


def _canonical(name: str) -> str:
    """Return the normalized name of a distribution, by which PyPI compares (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
