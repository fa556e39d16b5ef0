"""Search over training jobs: the expression of filters, sorting and paging.

The whole table is read for each search: a laptop has thousands of jobs and not millions, and an expression may name any
property.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from local_sagemaker.job_table import JobTable
from local_sagemaker.kind import Document
from local_sagemaker.kinds import TRAINING
from local_sagemaker.sagemaker.paging import read_token
from local_sagemaker.sagemaker.rules import invalid
from local_sagemaker.wire.json_service import Caller, conform, load_model

_DEFAULT_PAGE = 10
_ORDERINGS: Mapping[str, Callable[[Any, Any], bool]] = {
    "GreaterThan": operator.gt,
    "GreaterThanOrEqualTo": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqualTo": operator.le,
}


class Search:
    """The operation `Search`, for the resource `TrainingJob`."""

    def __init__(self, jobs: JobTable) -> None:
        self._jobs = jobs
        self._shape = load_model("sagemaker").shape_for("TrainingJob")

    def search(self, request: dict[str, Any], caller: Caller) -> Document:  # noqa: ARG002 -- a handler
        """One page of the jobs that match, newest change first unless the request says otherwise."""
        if request["Resource"] != "TrainingJob":
            raise invalid(f"Search for {request['Resource']} is not built in local_sagemaker; it finds TrainingJob.")
        asked = {name: value for name, value in request.items() if name not in {"NextToken", "MaxResults"}}
        position = read_token(request.get("NextToken"), asked)
        found = self._matching(request, position.before)
        size = request.get("MaxResults", _DEFAULT_PAGE)
        page = found[position.offset : position.offset + size]
        answer = {
            "Results": [{"TrainingJob": one} for one in page],
            "TotalHits": {"Value": len(found), "Relation": "EqualTo"},
        }
        more = len(found) > position.offset + size
        return {**answer, "NextToken": position.next(size).token(asked)} if more else answer

    def _matching(self, request: dict[str, Any], before: float | None) -> list[Document]:
        expression = request.get("SearchExpression", {})
        jobs = self._jobs.list(TRAINING.name, created_before=before)
        documents = [conform(TRAINING.describe(job), self._shape) for job in jobs]
        found = [one for one in documents if _holds(expression, one)]
        by = request.get("SortBy", "LastModifiedTime")
        found.sort(key=lambda one: _sort_key(one, by), reverse=request.get("SortOrder", "Descending") == "Descending")
        return found


def _holds(expression: Document, document: Document) -> bool:
    """Whether an expression is true of a document; `Operator` joins all its parts, `And` unless given."""
    parts = [_passes(one, document) for one in expression.get("Filters", [])]
    parts += [_nested_passes(one, document) for one in expression.get("NestedFilters", [])]
    parts += [_holds(one, document) for one in expression.get("SubExpressions", [])]
    return any(parts) if expression.get("Operator") == "Or" and parts else all(parts)


def _nested_passes(nested: Document, document: Document) -> bool:
    """All filters must be true of one and the same element of the list (API reference, `NestedFilters`)."""
    root = nested["NestedPropertyName"]
    elements = document.get(root, [])
    filters = [{**one, "Name": one["Name"].removeprefix(f"{root}.")} for one in nested["Filters"]]
    return any(all(_passes(one, element) for one in filters) for element in elements)


def _passes(condition: Document, document: Document) -> bool:
    """Whether one filter is true of a document; a missing operator means `Equals`."""
    how = condition.get("Operator", "Equals")
    values = list(_values(document, condition["Name"]))
    if how in {"Exists", "NotExists"}:
        return bool(values) is (how == "Exists")
    if "Value" not in condition:
        raise invalid(f"The filter on {condition['Name']} needs a Value for the operator {how}.")
    wanted = condition["Value"]
    if how == "NotEquals":
        return not any(_equal(value, wanted) for value in values)
    return any(_compare(how, value, wanted) for value in values)


def _values(document: Any, path: str) -> Iterator[Any]:
    """The values at a dotted path; a list stands for each of its elements.

    `Tags.<key>` and `Metrics.<name>` are the API's own short forms. Keys of maps may hold dots themselves.
    """
    if isinstance(document, list):
        for element in document:
            yield from _values(element, path)
        return
    if not isinstance(document, Mapping):
        return
    head, _, rest = path.partition(".")
    if head == "Tags" and rest:
        yield from (tag["Value"] for tag in document.get("Tags", []) if tag["Key"] == rest)
    elif head == "Metrics" and rest:
        metrics = document.get("FinalMetricDataList", [])
        yield from (metric["Value"] for metric in metrics if metric["MetricName"] == rest)
    elif path in document:
        yield document[path]
    elif head in document:
        yield from _values(document[head], rest)


def _compare(how: str, value: Any, wanted: str) -> bool:
    if how == "Contains":
        return wanted in str(value)
    if how == "In":
        return any(_equal(value, one.strip()) for one in wanted.split(","))
    if how in _ORDERINGS:
        left, right = _number(value), _number(wanted)
        return left is not None and right is not None and _ORDERINGS[how](left, right)
    return _equal(value, wanted)


def _equal(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return str(value).lower() == wanted.lower()
    if isinstance(value, (int, float)):
        return _number(wanted) == value
    return str(value) == wanted


def _number(value: Any) -> float | None:
    """A number as it is, a decimal in text, or a moment in ISO 8601 (UTC unless it says otherwise); else None."""
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _sort_key(document: Document, path: str) -> tuple[int, float, str]:
    """Sort what lacks the property first, then by number, then by text."""
    value = next(_values(document, path), None)
    if value is None:
        return (0, 0.0, "")
    number = _number(value)
    return (1, 0.0, str(value)) if number is None else (1, number, "")
