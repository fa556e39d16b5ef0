"""Pages about a job for Prefect's UI, as Markdown and tables: summary, metrics and failure. Pure.

They are rendered from the values that a caller of the task also gets: the result, or the error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from blocks import SageMakerProject
from tasks_lib.aws.console_links import log_url, s3_url
from tasks_lib.errors import JobError, JobStopped
from tasks_lib.jobs.job import shown_cost
from tasks_lib.jobs.kinds import kind_of
from tasks_lib.results.job_result import JobResult
from tasks_lib.tables import Table

_FINGERPRINT_DIGITS = 12
_MINUTE, _HOUR = 60, 3600

_MARKUP = r"\`*_[]<>#|~&"


@dataclass(frozen=True)
class Pages:
    """The pages about the jobs of one project.

    Args:
        project: The project, for the links.
    """

    project: SageMakerProject

    def summary(self, result: JobResult) -> str:
        """Return the page of a result: its facts, metrics, inputs and outputs."""
        title = f"# {result.task}: {'skipped' if result.cached else result.status.lower()}"
        parts = [title, _facts(self._facts(result))]
        if result.metrics:
            parts += ["## Metrics", metrics_table(result).to_markdown()]
        for heading, places in (("Inputs", result.inputs), ("Outputs", result.outputs)):
            if places:
                rows = tuple((name, self._place(uri)) for name, uri in places.items())
                parts += [f"## {heading}", Table((heading[:-1], "Where"), rows).to_markdown()]
        return "\n\n".join(parts)

    def failure(self, error: JobError) -> str:
        """Return the page of a failure: its cause, the job's last lines, and what to do."""
        ended = "was stopped" if isinstance(error, JobStopped) else "failed"
        parts = [f"# {error.task} {ended}", _plain(error.message), _facts(self._facts_of(error))]
        if error.reason:
            parts += ["## SageMaker says", _block(error.reason)]
        if error.last_lines:
            parts += ["## Last lines", *_by_host(error.last_lines)]
        parts += ["## What to do", _plain(error.fix[:1].upper() + error.fix[1:])]
        return "\n\n".join(parts)

    def log(self, result: JobResult) -> str:
        """Return a link to the whole log in CloudWatch, or the call that reads it."""
        link = log_url(self.project, kind_of(result.kind), result.job)
        return f"[CloudWatch]({link})" if link else "`result.logs()`"

    def _facts(self, result: JobResult) -> dict[str, str | None]:
        return {
            "Job": _linked(result.job, result.link),
            "Log": self.log(result),
            "Status": result.status,
            "Why": _plain(result.reason),
            "Kind": result.kind,
            "Instances": f"{result.instance_count} x {result.instance_type}" if result.instance_type else None,
            "Time": _times(result),
            "Billed": _billed(result),
            "Cost": "nothing, now" if result.cached else shown_cost(result.cost),
            "Saved": _saved(result) if result.cached else None,
            "Fingerprint": _code(result.fingerprint[:_FINGERPRINT_DIGITS]),
        }

    def _facts_of(self, error: JobError) -> dict[str, str | None]:
        return {
            "Job": _linked(error.job, error.link),
            "Log": self.log(error.result) if error.result else None,
            "Kind of failure": f"{_code(type(error).__name__)} — {(type(error).__doc__ or '').splitlines()[0]}",
            "Exit code": None if error.exit_code is None else str(error.exit_code),
            "Host": error.host,
            "Time": _times(error.result) if error.result else None,
        }

    def _place(self, uri: str) -> str:
        return _linked(uri, s3_url(self.project, uri))


def metrics_table(result: JobResult) -> Table:
    """Return a table of a job's metrics: last, lowest and highest value, and the number of values.

    The lowest and the highest are those of the finite values, if there are any, since Python's `min` returns a NaN that
    comes first.
    """
    rows = []
    for name, last in result.metrics.items():
        values = [value for _, value in result.metric_history.get(name, ())] or [last]
        compared = [value for value in values if math.isfinite(value)] or [last]
        rows.append((name, last, min(compared), max(compared), len(values)))
    return Table(("metric", "last", "min", "max", "points"), tuple(rows), title=f"{result.task}: metrics")


def metrics_line(result: JobResult) -> str:
    """Return the last value of each metric in one line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in result.metrics.items())


def began(result: JobResult) -> float | None:
    """Return when a job's code started, in epoch seconds; None if unknown."""
    computing = kind_of(result.kind).computing
    if result.created is None or computing not in result.phases or "interrupted" in result.phases:
        return None
    before = list(result.phases)[: list(result.phases).index(computing)]
    return result.created + sum(result.phases[name] for name in before)


def _facts(facts: dict[str, str | None]) -> str:
    """Return a table of two columns. The first fact is the heading, since Prefect's UI shows an empty one as a row."""
    first, *others = [(f"**{name}**", value) for name, value in facts.items() if value]
    return Table(first, tuple(others)).to_markdown()


def _times(result: JobResult) -> str | None:
    if result.job_seconds is None:
        return None
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in result.phases.items())
    return _duration(result.job_seconds) + (f" (seconds: {parts})" if parts else "")


def _billed(result: JobResult) -> str:
    if result.billable_seconds is not None:
        return f"{result.billable_seconds:.0f} s of each instance"
    # SageMaker reports no billed seconds for a processing job; by its price list, the time of the code counts.
    seconds = kind_of(result.kind).billed_seconds(None, result.phases)
    return "unknown" if seconds is None else f"about {seconds:.0f} s of each instance"


def _saved(result: JobResult) -> str:
    time = "a job of unknown length" if result.job_seconds is None else f"a job of {_duration(result.job_seconds)}"
    return f"{time}, cost {shown_cost(result.cost)}"


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    return f"{minutes} min {rest} s" if seconds < _HOUR else f"{minutes // 60} h {minutes % 60} min"


def _by_host(lines: Iterable[str]) -> list[str]:
    """Return a code block for each host, from lines such as `algo-1 | text`."""
    split = [(host, text) for host, _, text in (line.partition(" | ") for line in lines)]
    hosts = groupby(sorted(split, key=lambda pair: pair[0]), key=lambda pair: pair[0])
    return [part for host, said in hosts for part in (f"**{host}**", _block("\n".join(text for _, text in said)))]


# -- Markdown ------------------------------------------------------------------------------------------------------


def _linked(text: str, link: str) -> str:
    return f"[{_code(text)}]({link})" if link else _code(text)


def _code(text: str) -> str:
    fence = "`" * (_longest_run(text) + 1)
    gap = " " if len(fence) > 1 else ""
    return f"{fence}{gap}{text}{gap}{fence}"


def _block(text: str) -> str:
    """Return a code block of the text, with a fence longer than any run of backticks in it."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}text\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(list(run)) for sign, run in groupby(text) if sign == "`"), default=0)


def _plain(text: str) -> str:
    """Return a text with Markdown's special characters escaped."""
    return "".join(f"\\{sign}" if sign in _MARKUP else sign for sign in text)
