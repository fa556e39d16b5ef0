"""The answer of `JobResult.explain()`: why a step ran or was skipped, and what its result is made of. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from tasks_lib.jobs.fingerprint import Ingredients
from tasks_lib.tables import Table

_DIGITS = 12
_NAMED = ("inputs", "hyperparameters", "environment", "secrets")
_WORD = {"inputs": "input", "hyperparameters": "hyperparameter", "environment": "variable", "secrets": "secret"}
_COLUMNS = ("ingredient", "value", "before")


@dataclass(frozen=True)
class Explanation:
    """Why a step ran or was skipped.

    Args:
        reason: The reason of this call, such as `skipped: nothing changed`.
        job: The job that made the result.
        job_reason: Why that job ran.
        ingredients: The ingredients of its fingerprint.
        before: The ingredients of the work that the task completed before; None if the ledger has none.
    """

    reason: str
    job: str
    job_reason: str
    ingredients: Ingredients
    before: Ingredients | None = None

    @property
    def table(self) -> Table:
        """The ingredients, and beside each one that differs its value before."""
        now, before = _flat(self.ingredients), _flat(self.before or {})
        names = [*now, *(name for name in before if name not in now)]
        return Table(
            _COLUMNS, tuple((name, now.get(name, "(none)"), self._before(name, now, before)) for name in names)
        )

    def __str__(self) -> str:
        return f"{self._sentence}\n\n{self.table}"

    def _repr_html_(self) -> str:
        return f"<p>{escape(self._sentence)}</p>{self.table._repr_html_()}"

    @property
    def _sentence(self) -> str:
        if self.job_reason and self.job_reason != self.reason:
            return f"{self.reason}. The job {self.job} had run because: {self.job_reason.removeprefix('ran: ')}."
        return f"{self.reason} (job {self.job})."

    def _before(self, name: str, now: Mapping[str, str], before: Mapping[str, str]) -> str | None:
        if self.before is None or now.get(name) == before.get(name):
            return None
        return before.get(name, "(none)")


def _flat(parts: Ingredients) -> dict[str, str]:
    """Return the ingredients that are not empty, as text by name; the code has one row for each file."""
    lines = {}
    for name in ("kind", "image", "entry point", "command", "arguments", "instance count", "state"):
        if parts.get(name) not in (None, [], ""):
            lines[name] = _text(parts[name])
    if parts.get("code"):
        lines.update({f"code {name}": digest[:_DIGITS] for name, digest in parts["code"].items()})
    for part in _NAMED:
        lines.update({f"{_WORD[part]} {name}": _value(part, value) for name, value in parts.get(part, {}).items()})
    if parts.get("overrides"):
        lines["overrides"] = _text(parts["overrides"])
    if parts.get("network isolation"):
        lines["network isolation"] = "yes"
    return lines


def _value(part: str, value: Any) -> str:
    if part == "inputs":
        return _input(value)
    return f"(sha256 {value[:_DIGITS]})" if part == "environment" else _text(value)


def _input(row: Mapping[str, Any]) -> str:
    """Return what an input is: the job that made it, or where it is and the digest of its content."""
    if "job" in row:
        part = f"/{row['part']}" if row.get("part") else ""
        return f"{row['output']}{part} of {row['job']}"
    place = f"{row['uri']} " if "uri" in row else ""
    return f"{place}(sha256 {str(row.get('digest', ''))[:_DIGITS]})"


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
