"""Placeholders for the result of a job that has not run: only its name and its outputs' URIs are known.

The steps that read it need no more to be planned, since a job's name identifies its work.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from tasks_lib.prefect_runtime.offline_engine import NotYetKnown
from tasks_lib.results.job_result import JobResult
from tasks_lib.results.output import Output

_KNOWN = {
    *("project", "task", "job", "arn", "kind", "fingerprint", "cached", "reason", "instance_type", "instance_count"),
    *("inputs", "outputs", "model", "output", "state", "source", "origin", "bound", "from_record"),
}
"""What of a `JobResult` is known before its job has run. Anything else, what is added later included, is not."""

_OWN = {name for name in dir(JobResult) if not (name.startswith("_") or hasattr(BaseModel, name))}
_UNKNOWN = ({*JobResult.model_fields, "model_dump", "model_dump_json"} | _OWN) - _KNOWN


class PlannedOutputs(dict[str, str]):
    """URI by output.

    Looking up `state` raises `NotYetKnown`: the content of the state directory is part of the work that reads it.

    Args:
        task: The task's name.
        uris: The future URI of each output.
    """

    def __init__(self, task: str, uris: dict[str, str]) -> None:
        super().__init__(uris)
        self._task = task

    def __getitem__(self, name: str) -> str:
        if name == "state" and name in self:
            raise NotYetKnown(self._task, "state")
        return super().__getitem__(name)


class PlannedOutput(Output):
    """An output of a job that has not run, of which only the URI is known."""

    def __getattribute__(self, name: str) -> Any:
        if name in {"download", "open", "read_bytes", "read_text", "read_json", "filesystem", "storage_options"}:
            raise NotYetKnown(object.__getattribute__(self, "_task"), "output")
        return super().__getattribute__(name)

    def __init__(self, task: str, uri: str) -> None:
        self.uri = uri
        self._task = task


class PlannedResult(JobResult):
    """The result of a task whose job has not ended, as far as it is known."""

    def __getattribute__(self, name: str) -> Any:
        if name in _UNKNOWN:
            what = "result" if name.startswith("model_") else name.replace("_", " ")
            raise NotYetKnown(super().__getattribute__("task"), what)
        return super().__getattribute__(name)

    def __repr__(self) -> str:
        return f"PlannedResult({self.task!r}, job={self.job!r})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None

    def _repr_html_(self) -> str:
        return f"<code>{self!r}</code>"

    def _output(self, name: str) -> Output:
        if name not in self.outputs:
            return super()._output(name)
        return PlannedOutput(self.task, self.outputs.get(name, ""))
