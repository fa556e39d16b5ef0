"""Training metrics: the values that the request's `MetricDefinitions` match in the log streams.

SageMaker "searches the logs" for each expression. It sends the capture of the first group to CloudWatch while the job
runs, and lists the values of the last iteration after its end (Developer Guide, "Monitor and analyze training jobs
using Amazon CloudWatch Metrics"). The supervisor evaluates the expressions, not the server, so that a slow expression
delays only its own job. The points of each stream are kept in a file of the home, from which `cloudwatch` serves them.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_BLOCK = 1 << 20  # bytes read at a time
_LARGEST = 2.0**360  # API reference of CloudWatch, `MetricDatum`: the largest magnitude; no NaN, no infinities


def compiled(definitions: Iterable[Mapping[str, str]]) -> tuple[dict[str, re.Pattern[str]], list[str]]:
    """Return the compiled expressions by metric name, and a message for each one that Python cannot compile.

    SageMaker accepts expressions that Python does not, so such an expression does not fail the job.
    """
    expressions, complaints = {}, []
    for one in definitions:
        try:
            expressions[one["Name"]] = re.compile(one["Regex"])
        except re.error as error:  # noqa: PERF203 -- a job has at most 40
            complaints.append(f"the Regex of the metric {one['Name']} is passed over, Python cannot read it: {error}")
    return expressions, complaints


def points(expressions: Mapping[str, re.Pattern[str]], event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the metric points of one log event.

    A capture that is not a number, or that CloudWatch refuses (NaN, infinities), gives no point.
    """
    for name, expression in expressions.items():
        for match in expression.finditer(event["message"]) if expression.groups else ():
            value = _number(match[1])
            if value is not None:
                yield {"name": name, "value": value, "timestamp": event["timestamp"]}


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if -_LARGEST <= value <= _LARGEST else None


class MetricReader:
    """Follows one log stream and writes its metric points to a file.

    A successor after `kill -9` starts over and writes the same points, because they depend only on the stream.

    Args:
        expressions: the compiled expressions by metric name.
        stream: the file of the log stream; it must exist.
        kept: the file for the points; its directory is created if missing.
    """

    def __init__(self, expressions: Mapping[str, re.Pattern[str]], stream: Path, kept: Path) -> None:
        self._expressions = expressions
        kept.parent.mkdir(parents=True, exist_ok=True)
        self._stream = stream.open("rb")
        self._kept = kept.open("wb")
        self._read = 0

    def close(self) -> None:
        """Close the files."""
        self._stream.close()
        self._kept.close()

    def pump(self, *, final: bool = False) -> None:
        """Read the new events of the stream: at most one block, or all of them with `final`."""
        while self._read_block() and final:
            pass

    def _read_block(self) -> bool:
        data = os.pread(self._stream.fileno(), _BLOCK, self._read)
        whole = data[: data.rfind(b"\n") + 1]
        if not whole:
            return False
        self._read += len(whole)
        found = [one for line in whole.splitlines() for one in points(self._expressions, json.loads(line))]
        self._kept.write("".join(f"{json.dumps(one)}\n" for one in found).encode())
        self._kept.flush()
        return True


def final_metrics(files: Iterable[Path], created: float) -> list[dict[str, Any]]:
    """Return the `FinalMetricDataList` of a job: the last point of each metric.

    Args:
        files: the files with the points of all its streams.
        created: the job's creation time in epoch seconds; older points belong to a deleted job of the same name.
    """
    last: dict[str, dict[str, Any]] = {}
    for file in files:
        for line in file.read_text().splitlines():
            one = json.loads(line)
            known = last.get(one["name"])
            if one["timestamp"] >= int(created * 1000) and (not known or one["timestamp"] >= known["timestamp"]):
                last[one["name"]] = one
    return [
        {"MetricName": name, "Value": one["value"], "Timestamp": one["timestamp"] / 1000}
        for name, one in sorted(last.items())
    ]
