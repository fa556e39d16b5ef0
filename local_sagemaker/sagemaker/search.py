"""The operation Search over training jobs: filter expressions, sorting and paging.

Each search reads the whole table, because an expression may name any property. A laptop has thousands of jobs, not
millions.
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
        """Return one page of the matching jobs; by default the last modified come first."""
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
    """Tell whether an expression holds for a document. `Operator` joins all of its parts, `And` by default."""
    parts = [_passes(one, document) for one in expression.get("Filters", [])]
    parts += [_nested_passes(one, document) for one in expression.get("NestedFilters", [])]
    parts += [_holds(one, document) for one in expression.get("SubExpressions", [])]
    return any(parts) if expression.get("Operator") == "Or" and parts else all(parts)


def _nested_passes(nested: Document, document: Document) -> bool:
    """Tell whether all nested filters hold for the same element of a list (API reference, `NestedFilters`)."""
    root = nested["NestedPropertyName"]
    elements = document.get(root, [])
    filters = [{**one, "Name": one["Name"].removeprefix(f"{root}.")} for one in nested["Filters"]]
    return any(all(_passes(one, element) for one in filters) for element in elements)


def _passes(condition: Document, document: Document) -> bool:
    """Tell whether one filter holds for a document. The operator is `Equals` by default."""
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
    """Yield the values at a dotted path, for a list those of all its elements.

    `Tags.<key>` and `Metrics.<name>` are short forms of the API. Keys of maps may contain dots.
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
    """Return a number, a decimal text or an ISO 8601 time (UTC by default) as a float; None for any other value."""
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
    """Return the sort key: documents without the property come first, then numbers, then texts."""
    value = next(_values(document, path), None)
    if value is None:
        return (0, 0.0, "")
    number = _number(value)
    return (1, 0.0, str(value)) if number is None else (1, number, "")
