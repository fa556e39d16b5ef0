"""The Resource Groups Tagging API as one `JsonService`: resources by their tags, read-only.

Each request reads the tags of jobs, buckets and moto's resources again, so that there is no copy of them to go stale.
Resources without tags are left out. AWS shows a resource whose tags were removed, with an empty list.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from local_sagemaker.account import partition_of
from local_sagemaker.job_table import JobTable
from local_sagemaker.kinds import KINDS
from local_sagemaker.moto_services import MotoServices
from local_sagemaker.s3.bucket_operations import bucket_tags
from local_sagemaker.s3.store import ObjectStore
from local_sagemaker.wire.call import Call
from local_sagemaker.wire.errors import ApiError
from local_sagemaker.wire.json_service import Caller, JsonService

_IN_MOTO = ("cloudwatch:alarm", "secretsmanager:secret", "sns:topic", "sqs:queue")
TYPES = (*(f"sagemaker:{kind}" for kind in KINDS), "s3:bucket", *_IN_MOTO)
"""The types of resources that can be found by their tags."""

_DEFAULT_PAGE = 50  # resources; AWS does not document the default of ResourcesPerPage
_LONGEST_PAGE = 100  # API reference, GetResources
_FEWEST_TAGS, _MOST_TAGS = 100, 500  # API reference, GetResources
_MOST_VALUES = 20  # API reference, TagFilter
_NAMES_OF_A_PAGE = 100  # keys or values; AWS does not document the number
_HTTP_OK = 200
_ALONE = ("TagFilters", "ResourceTypeFilters", "ResourcesPerPage", "TagsPerPage", "PaginationToken")
_T = TypeVar("_T")


@dataclass(frozen=True)
class TaggedResource:
    """A resource with its tags."""

    arn: str
    type: str
    tags: Mapping[str, str]


Source = Callable[[Caller], Iterable[TaggedResource]]
"""Returns the resources of one backend: jobs, buckets or moto."""


def tagging_service(jobs: JobTable, store: ObjectStore, others: MotoServices) -> JsonService:
    """Build the service.

    Args:
        jobs: the table of jobs.
        store: the object store, for tags of buckets.
        others: moto's services.
    """
    sources = (
        lambda _: _of_jobs(jobs),
        lambda caller: _of_buckets(store, caller),
        lambda caller: _of_moto(others, caller),
    )
    operations = TaggingOperations(sources)
    handlers = {"GetResources": operations.resources, "GetTagKeys": operations.keys, "GetTagValues": operations.values}
    return JsonService("resourcegroupstaggingapi", handlers, invalid="InvalidParameterException")


class TaggingOperations:
    """The operations of the Tagging API.

    Args:
        sources: the functions that return the resources.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def resources(self, request: dict[str, Any], caller: Caller) -> Mapping[str, Any]:
        """Return one page of the resources that pass all filters, sorted by ARN."""
        _check(request)
        found = [one for one in self._all(caller) if _passes(one, request)]
        size = request.get("ResourcesPerPage", _LONGEST_PAGE if "TagsPerPage" in request else _DEFAULT_PAGE)
        page, token = _page(found, lambda one: one.arn, request, size)
        if "TagsPerPage" in request and (fitting := _fitting(page, request["TagsPerPage"])) < len(page):
            page, token = _page(found, lambda one: one.arn, request, fitting)
        shown = [{"ResourceARN": one.arn, "Tags": _as_list(one.tags)} for one in page]
        return {"ResourceTagMappingList": shown, "PaginationToken": token}

    def keys(self, request: dict[str, Any], caller: Caller) -> Mapping[str, Any]:
        """Return one page of the keys of all tags, sorted."""
        found = sorted({key for one in self._all(caller) for key in one.tags})
        page, token = _page(found, str, request, _NAMES_OF_A_PAGE)
        return {"TagKeys": page, "PaginationToken": token}

    def values(self, request: dict[str, Any], caller: Caller) -> Mapping[str, Any]:
        """Return one page of the values of a key, sorted."""
        found = sorted({one.tags[request["Key"]] for one in self._all(caller) if request["Key"] in one.tags})
        page, token = _page(found, str, request, _NAMES_OF_A_PAGE)
        return {"TagValues": page, "PaginationToken": token}

    def _all(self, caller: Caller) -> list[TaggedResource]:
        found = [one for source in self._sources for one in source(caller) if one.tags]
        return sorted(found, key=lambda one: one.arn)


def _of_jobs(jobs: JobTable) -> Iterator[TaggedResource]:
    for kind in KINDS:
        for job in jobs.list(kind):
            yield TaggedResource(job.arn, f"sagemaker:{kind}", job.tags)


def _of_buckets(store: ObjectStore, caller: Caller) -> Iterator[TaggedResource]:
    for bucket, tags in bucket_tags(store).items():
        yield TaggedResource(f"arn:{partition_of(caller.region)}:s3:::{bucket}", "s3:bucket", tags)


def _of_moto(others: MotoServices, caller: Caller) -> Iterator[TaggedResource]:
    """Yield the resources that moto's `GetResources` finds, one type after the other."""
    for kind in _IN_MOTO:
        token = None
        while token != "":
            body = {"ResourceTypeFilters": [kind], "ResourcesPerPage": _LONGEST_PAGE}
            answer = others.ask(
                _get_resources(caller.region, {**body, **({"PaginationToken": token} if token else {})})
            )
            if answer.status != _HTTP_OK:
                raise RuntimeError(f"moto refuses to list tags of {kind}: {answer.body[:500]!r}")
            document = json.loads(answer.body)
            for one in document["ResourceTagMappingList"]:
                yield TaggedResource(one["ResourceARN"], kind, {tag["Key"]: tag["Value"] for tag in one["Tags"]})
            token = document.get("PaginationToken") or ""


def _get_resources(region: str, body: Mapping[str, Any]) -> Call:
    target = "ResourceGroupsTaggingAPI_20170126.GetResources"
    headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": target}
    return Call("tagging", region, "POST", "/", headers, json.dumps(body))


def _check(request: Mapping[str, Any]) -> None:
    """Check what AWS checks, and refuse resource types whose tags this backend does not read.

    Raises:
        ApiError: the request is invalid.
    """
    if "ResourceARNList" in request and any(request.get(name) for name in _ALONE):
        raise _invalid(f"ResourceARNList cannot be given together with any of {', '.join(_ALONE)}.")
    if request.get("IncludeComplianceDetails") or request.get("ExcludeCompliantResources"):
        raise _invalid("local_sagemaker has no tag policies; leave out the compliance parameters.")
    if not 1 <= request.get("ResourcesPerPage", 1) <= _LONGEST_PAGE:
        raise _invalid(f"ResourcesPerPage must be from 1 to {_LONGEST_PAGE}.")
    if not _FEWEST_TAGS <= request.get("TagsPerPage", _FEWEST_TAGS) <= _MOST_TAGS:
        raise _invalid(f"TagsPerPage must be from {_FEWEST_TAGS} to {_MOST_TAGS}.")
    for one in request.get("TagFilters", []):
        if len(one.get("Values", [])) > _MOST_VALUES:
            raise _invalid(f"A filter has at most {_MOST_VALUES} values.")
    known = {*TYPES, *(kind.partition(":")[0] for kind in TYPES)}
    if unknown := sorted(set(request.get("ResourceTypeFilters", [])) - known):
        raise _invalid(f"local_sagemaker finds no {', '.join(unknown)} by tags. It finds: {', '.join(sorted(TYPES))}.")


def _passes(one: TaggedResource, request: Mapping[str, Any]) -> bool:
    types, arns = request.get("ResourceTypeFilters"), request.get("ResourceARNList")
    if types and one.type not in types and one.type.partition(":")[0] not in types:
        return False
    if arns is not None and one.arn not in arns:
        return False
    return all(_has(one.tags, wanted) for wanted in request.get("TagFilters", []))


def _has(tags: Mapping[str, str], wanted: Mapping[str, Any]) -> bool:
    values = wanted.get("Values")
    return wanted.get("Key") in tags and (not values or tags[wanted["Key"]] in values)


def _fitting(page: Sequence[TaggedResource], most: int) -> int:
    """Return how many resources have at most `most` tags together. One always fits, as it has at most 50."""
    count = 0
    for number, one in enumerate(page):
        count += len(one.tags)
        if count > most:
            return number
    return len(page)


def _page(
    found: Sequence[_T], key: Callable[[_T], str], request: Mapping[str, Any], size: int
) -> tuple[Sequence[_T], str]:
    """Return the page of a request and the token of the next page, empty after the last.

    The token has the last key of its page and not an offset, so that resources created or deleted meanwhile do not
    shift the pages.
    """
    asked = {name: value for name, value in request.items() if name != "PaginationToken"}
    last = _read_token(request.get("PaginationToken", ""), asked)
    rest = [one for one in found if last is None or key(one) > last]
    page = rest[:size]
    return page, _token(key(page[-1]), asked) if len(rest) > size else ""


def _token(last: str, asked: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps([last, _digest(asked)]).encode()).decode()


def _read_token(token: str, asked: Mapping[str, Any]) -> str | None:
    if not token:
        return None
    try:
        last, digest = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError) as error:
        raise _invalid("Invalid PaginationToken. Give the token of the last answer unchanged.") from error
    if digest != _digest(asked):
        raise _invalid("Invalid PaginationToken. It belongs to a request with other parameters.")
    return str(last)


def _digest(asked: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterException", message)
