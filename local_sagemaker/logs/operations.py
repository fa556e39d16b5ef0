"""The operations DescribeLogGroups, DescribeLogStreams, GetLogEvents and FilterLogEvents.

A token encodes a position and not a session, so it stays valid after a restart and does not expire.
"""

from __future__ import annotations

import base64
import heapq
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from local_sagemaker.logs.patterns import PatternError, matcher
from local_sagemaker.logs.streams import Event, LogStore, LogStream
from local_sagemaker.wire.errors import ApiError
from local_sagemaker.wire.json_service import Caller

Document = Mapping[str, Any]
T = TypeVar("T")

_PAGE_BYTES = 1 << 20  # API reference, GetLogEvents: up to 1 MB or 10,000 events
_PAGE_EVENTS = 10_000
_DESCRIBE_LIMIT = 50
_FOREVER = 1 << 62


class LogOperations:
    """The operations on one log store."""

    def __init__(self, store: LogStore) -> None:
        self._store = store

    def describe_groups(self, request: dict[str, Any], caller: Caller) -> Document:
        """Return one page of groups, sorted by name."""
        prefix, part = request.get("logGroupNamePrefix", ""), request.get("logGroupNamePattern", "")
        if prefix and part:
            raise _invalid("Give logGroupNamePrefix or logGroupNamePattern, not both.")
        names = [name for name in self._store.groups() if name.startswith(prefix) and part in name]
        page, token = _page(names, request, key=lambda name: [name], descending=False)
        return {"logGroups": [self._group(name, caller) for name in page], "nextToken": token}

    def describe_streams(self, request: dict[str, Any], caller: Caller) -> Document:
        """Return one page of a group's streams, sorted by name or by the time of the last event."""
        group = self._group_of(request)
        by_time = request.get("orderBy") == "LastEventTime"
        prefix = request.get("logStreamNamePrefix", "")
        if by_time and prefix:
            raise _invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")

        def key(stream: LogStream) -> list[Any]:
            last = stream.last() if by_time else None
            return [last.timestamp if last else 0, stream.name]

        streams = self._store.streams(group, prefix)
        page, token = _page(streams, request, key, descending=request.get("descending", False))
        return {"logStreams": [_described(one, group, caller) for one in page], "nextToken": token}

    def get_events(self, request: dict[str, Any], caller: Caller) -> Document:  # noqa: ARG002 -- a handler
        """Return one page of a stream, forwards or backwards from a token, or from one of its ends.

        At either end of the stream the answer has the same token that was given, as the API reference says. The client
        finds later events with it.
        """
        stream = self._stream(self._group_of(request), request["logStreamName"])
        first, after = request.get("startTime", 0), request.get("endTime", _FOREVER)
        limit = request.get("limit", _PAGE_EVENTS)
        forwards, place = _read_place(request)

        def wanted(events: Iterable[Event]) -> Iterator[Event]:
            return (event for event in events if first <= event.timestamp < after)

        if forwards:
            place = place or 0
            page = list(_head(wanted(stream.events(place)), limit))
        else:
            page = _tail(wanted(stream.events(end=place)), limit)
            place = _end(stream) if place is None else place
        return {
            "events": [_shown(event) for event in page],
            "nextForwardToken": f"f/{page[-1].end if page else place}/s",
            "nextBackwardToken": f"b/{page[0].offset if page else place}/s",
        }

    def filter_events(self, request: dict[str, Any], caller: Caller) -> Document:  # noqa: ARG002 -- a handler
        """Return one page of the matching events of several streams, sorted by time."""
        descending = not request.get("startFromHead", True)
        found = self._matching(request)
        after = _read_key(request)
        if after is not None:
            found = (event for event in found if (_key(event) < after if descending else _key(event) > after))
        limit = request.get("limit", _PAGE_EVENTS)
        pick = heapq.nlargest if descending else heapq.nsmallest
        best = pick(limit + 1, found, key=_key)
        page = list(_head(best, limit))
        return {
            "events": [{**_shown(event), "logStreamName": event.stream, "eventId": event.event_id} for event in page],
            "searchedLogStreams": [],
            "nextToken": _encode(_key(page[-1])) if len(page) < len(best) else None,
        }

    def _matching(self, request: dict[str, Any]) -> Iterator[Event]:
        """Return all events that match a FilterLogEvents request. Unlike in GetLogEvents, `endTime` is inclusive."""
        try:
            matches = matcher(request.get("filterPattern", ""))
        except PatternError as error:
            raise _invalid(str(error)) from error
        first, last = request.get("startTime", 0), request.get("endTime", _FOREVER)
        streams = self._streams(request)
        return (
            event
            for stream in streams
            for event in stream.events()
            if first <= event.timestamp <= last and matches(event.message)
        )

    def _streams(self, request: dict[str, Any]) -> list[LogStream]:
        group = self._group_of(request)
        names = request.get("logStreamNames")
        if names is None:
            return self._store.streams(group, request.get("logStreamNamePrefix", ""))
        if "logStreamNamePrefix" in request:
            raise _invalid("Give logStreamNames or logStreamNamePrefix, not both.")
        return [self._stream(group, name) for name in dict.fromkeys(names)]

    def _group_of(self, request: dict[str, Any]) -> str:
        """Return the name of the group in a request, which may give its ARN."""
        given = [request[name] for name in ("logGroupName", "logGroupIdentifier") if name in request]
        if len(given) != 1:
            raise _invalid("Give exactly one of logGroupName and logGroupIdentifier.")
        name = str(given[0])
        if name.startswith("arn:"):
            name = name.partition(":log-group:")[2]
        if not self._store.has_group(name):
            raise ApiError("ResourceNotFoundException", "The specified log group does not exist.")
        return name

    def _stream(self, group: str, name: str) -> LogStream:
        stream = self._store.stream(group, name)
        if stream is None:
            raise ApiError("ResourceNotFoundException", "The specified log stream does not exist.")
        return stream

    def _group(self, name: str, caller: Caller) -> Document:
        arn = caller.arn("logs", f"log-group:{name}")
        created = self._store.created(name)
        return {"logGroupName": name, "creationTime": created, "arn": f"{arn}:*", "logGroupArn": arn}


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterException", message)


def _described(stream: LogStream, group: str, caller: Caller) -> Document:
    described = {
        "logStreamName": stream.name,
        "creationTime": stream.created,
        "arn": caller.arn("logs", f"log-group:{group}:log-stream:{stream.name}"),
        "storedBytes": 0,  # API reference, LogStream: always zero
    }
    first, last = stream.first(), stream.last()
    if first is None or last is None:
        return described
    return {
        **described,
        "firstEventTimestamp": first.timestamp,
        "lastEventTimestamp": last.timestamp,
        "lastIngestionTime": last.timestamp,
    }


def _shown(event: Event) -> dict[str, Any]:
    return {"timestamp": event.timestamp, "ingestionTime": event.timestamp, "message": event.message}


def _key(event: Event) -> list[Any]:
    return [event.timestamp, event.stream, event.offset]


def _head(events: Iterable[Event], limit: int) -> Iterator[Event]:
    """Yield the first events that fit a page, and at least one, however large."""
    size = 0
    for count, event in enumerate(events):
        size += event.size
        if count >= limit or (count and size > _PAGE_BYTES):
            return
        yield event


def _tail(events: Iterable[Event], limit: int) -> list[Event]:
    """Return the last events that fit a page, and at least one, however large."""
    page: deque[Event] = deque()
    size = 0
    for event in events:
        page.append(event)
        size += event.size
        while len(page) > 1 and (len(page) > limit or size > _PAGE_BYTES):
            size -= page.popleft().size
    return list(page)


def _end(stream: LogStream) -> int:
    last = stream.last()
    return last.end if last else 0


def _read_place(request: dict[str, Any]) -> tuple[bool, int | None]:
    """Return whether a GetLogEvents request reads forwards, and its offset; None for an end of the stream."""
    token = request.get("nextToken")
    if token is None:
        return request.get("startFromHead", False), None
    direction, _, rest = token.partition("/")
    offset = rest.removesuffix("/s")
    if direction not in {"f", "b"} or not offset.isdecimal():
        raise _invalid("The specified nextToken is invalid.")
    return direction == "f", int(offset)


def _page(
    items: Iterable[T], request: dict[str, Any], key: Callable[[T], list[Any]], *, descending: bool
) -> tuple[list[T], str | None]:
    """Return one page of a Describe operation, sorted by `key`, and the token of the next page; None after the last.

    A token has the key of the last item of its page.
    """
    keyed = sorted(((key(item), item) for item in items), key=lambda pair: pair[0], reverse=descending)
    after = _read_key(request)
    if after is not None:
        keyed = [pair for pair in keyed if (pair[0] < after if descending else pair[0] > after)]
    limit = request.get("limit", _DESCRIBE_LIMIT)
    token = _encode(keyed[limit - 1][0]) if len(keyed) > limit else None
    return [item for _, item in keyed[:limit]], token


def _encode(key: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _read_key(request: dict[str, Any]) -> list[Any] | None:
    token = request.get("nextToken")
    if token is None:
        return None
    try:
        return list(json.loads(base64.urlsafe_b64decode(token)))
    except (ValueError, TypeError) as error:
        raise _invalid("The specified nextToken is invalid.") from error
