"""The values of a function task on the caller's side: encodes arguments as files of a channel, decodes the result.

Both are typed by the function's annotations, with pydantic. `worker_toolkit.typed_values` is the job's side. Each
argument is a file of its own, so that an explanation can name the one that changed. A value that the job would not
receive as it was given is refused here, before a job is paid for.
"""

from __future__ import annotations

import inspect
import io
import json
import pickle
import typing
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from tasks_lib.dry_run.placeholders import PlannedResult
from tasks_lib.errors import InvalidTask
from tasks_lib.functions.file_output import FileOutput
from tasks_lib.functions.json_values import map_leaves, plain_scalar, plain_value, same
from tasks_lib.functions.types import check_annotation, mentions_path, shown
from tasks_lib.jobs.channels import Channel, TaskOutput, output_of
from tasks_lib.prefect_runtime.offline_engine import NotYetKnown
from tasks_lib.results.job_result import JobResult
from tasks_lib.results.output import Output
from worker_toolkit.contract import ARGUMENTS_CHANNEL

_GIVEN = "ssm-input:"
"""Prefix of a path that stands for an input until it is encoded; no pydantic type would accept the input itself."""

_WAYS_OUT = (
    "give JSON values, dates, enums, dataclasses or pydantic models, as the annotation says; write bigger things to a "
    "file and annotate it as Path; or say serializer='pickle'."
)


class Signature:
    """A function's parameters and result.

    Args:
        function: The function.

    Raises:
        InvalidTask: An annotation cannot be resolved.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name = function.__name__
        self.parameters = inspect.signature(function).parameters
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except (NameError, TypeError, AttributeError) as error:
            raise InvalidTask(
                f"The annotations of {self.name}() cannot be resolved: {error}.",
                fix="use names that its module has at run time, not only below `if TYPE_CHECKING`.",
            ) from error
        self._hints = {name: _whole(each, hints.get(name, Any)) for name, each in self.parameters.items()}
        self.returns = hints.get("return", Any)

    def check_result(self) -> None:
        """Check that the result can be sent back.

        Raises:
            InvalidTask: JSON cannot represent values of its annotation.
        """
        try:
            check_annotation(self.returns)
            TypeAdapter(self.returns)
        except (TypeError, PydanticUserError) as error:
            raise InvalidTask(
                f"{self.name}() could not return its result: {_words(error)}.",
                fix="write it to a file and return its Path, return JSON values, or say serializer='pickle'.",
            ) from error

    def of(self, parameter: str) -> Any:
        """Return the annotation of all that a parameter takes; for `*args: int` it is a tuple of integers."""
        return self._hints[parameter]


class Arguments:
    """The encoded arguments of one call.

    Args:
        signature: The function's signature.
        values: The given arguments, by parameter; Prefect adds the defaults.
        serializer: `json` or `pickle`.
    """

    def __init__(self, signature: Signature, values: Mapping[str, Any], serializer: str) -> None:
        self._signature, self._pickled = signature, serializer == "pickle"
        self.inputs: dict[str, Channel | TaskOutput] = {}
        self.files: dict[str, bytes] = {}
        for name, parameter in signature.parameters.items():
            if name in values and values[name] is not parameter.default:
                self._add(name, values[name])
            elif parameter.default is not parameter.empty:
                self._add_default(name, parameter.default)

    def _add(self, name: str, value: Any) -> None:
        inputs: dict[str, Channel | TaskOutput] = {}
        file, content = self._encoded(name, value, inputs)
        if taken := sorted({*inputs} & {*self.inputs, ARGUMENTS_CHANNEL}):
            raise InvalidTask(
                f"{self._signature.name}() would have two inputs {taken[0]!r}.", fix="rename one of its parameters."
            )
        self.inputs |= inputs
        self.files[file] = content

    def _add_default(self, name: str, value: Any) -> None:
        """Send a default as well, so that giving it explicitly is the same work.

        A default that cannot be sent is left out: the job has it itself.
        """
        try:
            self._add(name, value)
        except InvalidTask:
            return

    def _encoded(self, name: str, value: Any, inputs: dict[str, Channel | TaskOutput]) -> tuple[str, bytes]:
        hint = self._signature.of(name)
        held = _Inputs(name, inputs)
        if self._pickled and not mentions_path(hint):
            return f"{name}.pkl", _pickled(value, f"The argument {name!r} of {self._signature.name}()")
        try:
            check_annotation(hint)
            plain = _checked(hint, held.with_marks(value), held)
        except (ValidationError, TypeError, RecursionError, PydanticUserError) as error:
            given = type(value).__name__
            is_other = isinstance(error, ValidationError)
            raise InvalidTask(
                f"The argument {name!r} of {self._signature.name}() is of type {given} and cannot travel as "
                f"{shown(hint)}: {_words(error)}.",
                fix="give a value that the annotation allows, or correct the annotation." if is_other else _WAYS_OUT,
            ) from error
        return f"{name}.json", json.dumps(plain).encode()


class _Inputs:
    """The paths in one argument; each becomes a channel.

    Args:
        name: The parameter.
        channels: Receives the channels.
    """

    def __init__(self, name: str, channels: dict[str, Channel | TaskOutput]) -> None:
        self._name, self._channels = name, channels

    def with_marks(self, value: Any) -> Any:
        """Return a value with numpy's scalars as plain numbers, and inputs as marked paths."""
        return map_leaves(value, self._marked)

    def wire(self, value: Any) -> Any:
        """Return a path as the job reads it; anything else as it is."""
        if not isinstance(value, PurePath):
            return value
        text = value.as_posix()
        if not text.startswith(_GIVEN):
            # pydantic made a path of a string, and a path joins the two slashes of a URI.
            uri = text.startswith("s3:/")
            text = self._mark(f"s3://{text[len('s3:/') :]}" if uri else value).as_posix()
        return Path(text.removeprefix(_GIVEN))

    def _marked(self, value: Any) -> Any:
        is_input = isinstance(value, (FileOutput, JobResult, TaskOutput, Channel, Output))
        return self._mark(value) if is_input else plain_scalar(value)

    def _mark(self, value: Any) -> Path:
        count = len(self._channels)
        channel = f"{self._name}_{count}" if count else self._name
        self._channels[channel], name = _as_input(value)
        return Path(f"{_GIVEN}{channel}/{name}")


def _as_input(value: Any) -> tuple[Channel | TaskOutput, str]:
    """Return an input, and the name of its file: `*` for the only entry of its channel, empty for a directory."""
    if isinstance(value, FileOutput):
        return value.as_input(), "*"
    if isinstance(value, JobResult):
        return output_of(value), ""
    if isinstance(value, (TaskOutput, Channel)):
        return value, ""
    source = value.uri if isinstance(value, Output) else value
    is_directory = str(source).endswith("/") or (isinstance(source, PurePath) and Path(source).is_dir())
    return Channel(source), "" if is_directory else str(source).rpartition("/")[2]


def read_result(result: JobResult, signature: Signature, renamed: Mapping[str, str], serializer: str) -> Any:
    """Return what a function returned, typed by its annotation; a path becomes a `FileOutput`.

    Args:
        result: The job's result.
        signature: The function's signature.
        renamed: The module's name here by its name in the job, for a pickle.
        serializer: The task's serializer. With `pickle` the result is unpickled, which runs any code in it, unless the
            annotation names a path.

    Raises:
        NotYetKnown: The job has not run; this is a plan.
        InvalidTask: The result does not fit the annotation.
    """
    if isinstance(result, PlannedResult):
        return _foreseen(result, signature)
    if serializer == "pickle" and not mentions_path(signature.returns):
        return _Unpickler(io.BytesIO(result.output.read_bytes("value.pkl")), renamed).load()
    document = result.output.read_json("value.json")
    hint = Path if document["is_path"] else signature.returns
    try:
        value = TypeAdapter(hint).validate_json(json.dumps(document["value"]))
    except ValidationError as error:
        raise InvalidTask(
            f"{signature.name}() returned in job {result.job} what is not a {shown(hint)}: {_words(error)}.",
            fix="correct the annotation, or what it returns.",
        ) from error
    return map_leaves(value, lambda leaf: _output(result, leaf, document) if isinstance(leaf, PurePath) else leaf)


def _output(result: JobResult, path: PurePath, document: Mapping[str, Any]) -> FileOutput:
    return FileOutput(result, path.parent.as_posix(), path.name, path.as_posix() in document["directories"])


def _foreseen(result: PlannedResult, signature: Signature) -> Any:
    """Return what is known of the result of a job that has not run."""
    if signature.returns is type(None):
        return None
    if isinstance(signature.returns, type) and issubclass(signature.returns, PurePath):
        return FileOutput(result, "paths/0", "")
    raise NotYetKnown(result.task, "result")


def _checked(hint: Any, value: Any, inputs: _Inputs) -> Any:
    """Return a value as the job reads it, after checking that it can be read back unchanged."""
    adapter = TypeAdapter(hint)
    settled = map_leaves(adapter.validate_python(value), inputs.wire)
    plain = plain_value(settled)
    back = adapter.validate_json(json.dumps(plain))
    if not same(back, settled):
        raise TypeError(f"it would arrive as a {type(back).__name__}; annotate it with what it is")
    return plain


class _Unpickler(pickle.Unpickler):
    """Reads a job's pickle. The function's module has another name there, and may be a script's `__main__` here."""

    def __init__(self, file: io.BytesIO, renamed: Mapping[str, str]) -> None:
        super().__init__(file)
        self._renamed = renamed

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(self._renamed.get(module, module), name)


def _pickled(value: Any, what: str) -> bytes:
    try:
        return pickle.dumps(value, protocol=4)  # the default protocol of Python 3.8

    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InvalidTask(f"{what} cannot be pickled: {error}.", fix="pass what it is made of, or a file.") from error


def _whole(parameter: inspect.Parameter, hint: Any) -> Any:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return tuple[hint, ...]
    return dict[str, hint] if parameter.kind is parameter.VAR_KEYWORD else hint


def _words(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error).partition("\n")[0].rstrip(".")
    first = error.errors()[0]
    where = ".".join(str(each) for each in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
