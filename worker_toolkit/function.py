"""Runs a function of the user as the job: arguments from an input channel, the result to the output.

`tasks_lib.functions` sends a script of two lines that calls `run`. The channel `arguments` has one file for each
argument: `C.json`, or `C.pkl` if the caller chose pickle. A path among them is written as `channel/name`. The result is
`value.json` or `value.pkl`. Each file or directory that it names as a path is beside it, in a folder `paths/<n>/` of
its own. Each host runs the function, and the result of the first host counts.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import pickle
import shutil
import typing
from pathlib import Path
from typing import Any, Callable

from .contract import ARGUMENTS_CHANNEL
from .stand_ins import install_stand_ins
from .typed_values import ValueMismatchError, decode, encode


class FunctionTaskError(Exception):
    """A function cannot run as a job, or its result cannot be returned; the message says what to do."""


def run(module: str, name: str, serializer: str = "json") -> None:
    """Run a function as this job.

    Args:
        module: The function's module, by its name in the code.
        name: The function's name.
        serializer: `json` (default), or `pickle` for arguments and a result that the caller trusts.

    Raises:
        FunctionTaskError: The function cannot run, or its result cannot be returned. The function's own exceptions pass
            through.
    """
    install_stand_ins(Path.cwd())
    function = find(module, name)
    hints = typing.get_type_hints(function)
    arguments = read_arguments(function, hints, module)
    try:
        value = call(function, arguments)
    except SystemExit as error:
        raise FunctionTaskError(
            f"{name}() ended the program (sys.exit) and returned nothing: return instead."
        ) from error
    if os.environ.get("SSM_HOST_RANK", "0") == "0":
        Result(Path(os.environ["SM_OUTPUT_DATA_DIR"])).write(name, value, hints.get("return", Any), serializer)


def find(module: str, name: str) -> Callable[..., Any]:
    """Return a function of the user's code.

    Raises:
        FunctionTaskError: The module imports something that does not exist, or has no such function.
    """
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        top = str(error.name).partition(".")[0]
        raise FunctionTaskError(
            f"{module} imports {error.name!r}, which is not in the job. A file of yours: add it to the task's "
            f"dependencies=['{top}.py']. A package: add it to requirements=[...], or take an image that has it."
        ) from error
    except AttributeError as error:
        raise FunctionTaskError(f"There is no {name!r} in {module}: define it at the top of its file.") from error
    # If the requirements name prefect-sagemaker, the module has a real task instead of the function.
    function: Callable[..., Any] = getattr(found, "sagemaker_function", found)
    return function


def read_arguments(function: Callable[..., Any], hints: dict[str, Any], module: str) -> inspect.BoundArguments:
    """Return the arguments of the call, each decoded by its annotation."""
    bound = inspect.BoundArguments(inspect.signature(function), {})
    folder = os.environ.get(f"SM_CHANNEL_{ARGUMENTS_CHANNEL.upper()}")
    given = {path.stem: path for path in Path(folder).iterdir()} if folder else {}
    for parameter in bound.signature.parameters.values():
        if parameter.name in given:
            hint = variadic(parameter, hints.get(parameter.name, Any))
            bound.arguments[parameter.name] = _read(given[parameter.name], hint, module)
    return bound


def variadic(parameter: inspect.Parameter, hint: Any) -> Any:
    """Return the annotation of all values that a parameter takes: for `*args: int`, a tuple of `int`."""
    if parameter.kind is parameter.VAR_POSITIONAL:
        return typing.Tuple[hint, ...]
    return typing.Dict[str, hint] if parameter.kind is parameter.VAR_KEYWORD else hint


def call(function: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
    """Call the function and return its result; an `async` function is run to its end."""
    value = function(*bound.args, **bound.kwargs)
    return asyncio.run(value) if inspect.iscoroutine(value) else value


def _read(path: Path, hint: Any, module: str) -> Any:
    try:
        if path.suffix == ".pkl":
            with path.open("rb") as file:
                return _Unpickler(file, module).load()
        return decode(hint, json.loads(path.read_text(encoding="utf-8")), input_path)
    except ValueMismatchError as error:
        raise FunctionTaskError(f"The argument {path.stem!r} does not fit its annotation: {error}.") from error


def input_path(text: str) -> Path:
    """Return the path of an input: a file by its name, `*` for the only entry, or the channel's directory.

    An S3 URI may be an object or a prefix. The caller does not know which, but the channel's content shows it.
    """
    channel, _, name = text.partition("/")
    folder = Path(os.environ[f"SM_CHANNEL_{channel.upper()}"])
    there = [path.name for path in folder.iterdir()]
    if name == "*":
        (name,) = there
        return folder / name
    return folder / name if there == [name] and (folder / name).is_file() else folder


class Result:
    """Writes the result of a function.

    Args:
        folder: The directory that becomes the job's output.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[Path, str] = {}
        self._directories: list[str] = []

    def write(self, function: str, value: Any, hint: Any, serializer: str) -> None:
        """Write a value for the caller, with the files that it names.

        Raises:
            FunctionTaskError: It does not fit the annotation, JSON cannot represent it, or a path in it has no file.
        """
        if serializer == "pickle" and not isinstance(value, Path):
            with (self._folder / "value.pkl").open("wb") as file:
                pickle.dump(value, file, protocol=4)
            return
        if hint is Any and isinstance(value, Path):
            hint = Path
        try:
            plain = encode(value, self._keep)
            decode(hint, plain)  # check that the caller can read it
        except ValueMismatchError as error:
            raise FunctionTaskError(
                f"The result of {function}() cannot be returned: {error}. Annotate what it returns, "
                "write bigger things to a file and return its Path, or say serializer='pickle'."
            ) from error
        document = {"value": plain, "is_path": hint is Path, "directories": self._directories}
        (self._folder / "value.json").write_text(json.dumps(document), encoding="utf-8")

    def _keep(self, path: Path) -> str:
        """Put a file or a directory into the output, once, and return its name there."""
        whole = path.resolve()
        if whole not in self._kept:
            self._kept[whole] = self._brought_in(whole)
        return self._kept[whole]

    def _brought_in(self, path: Path) -> str:
        output = self._folder.resolve()
        if not path.exists() or path == output or path in output.parents:
            raise FunctionTaskError(f"The result names {path}, which is not a file or directory of its own: write it.")
        if path.is_dir() and not any(each.is_file() for each in path.rglob("*")):
            raise FunctionTaskError(f"The result names {path}, which is an empty directory: S3 has no such thing.")
        name = f"paths/{len(self._kept)}/{path.name}"
        if path.is_dir():
            self._directories.append(name)
        target = self._folder / name
        target.parent.mkdir(parents=True)
        if output in path.parents:
            path.rename(target)  # a copy would be uploaded twice
        elif path.is_dir():
            shutil.copytree(path, target)
        else:
            shutil.copyfile(path, target)
        return name


class _Unpickler(pickle.Unpickler):
    """Finds names of the caller's script, `__main__` or Prefect's module for it, in the function's module."""

    def __init__(self, file: typing.BinaryIO, module: str) -> None:
        super().__init__(file)
        self._module = module

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(self._module if module.startswith("__") else module, name)
