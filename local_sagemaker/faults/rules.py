"""What shall go wrong: rules for requests and rules for jobs, as frozen values read from JSON.

A rule that nothing reads would let a test pass for the wrong reason, so an unknown or misplaced member is refused.
Pure, on the standard library: supervisors read rules, too. Inside `local_sagemaker` anybody may import it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

RequestFault = Literal["lose", "drop", "throttle", "error", "slow", "expire", "hold"]
JobFault = Literal["interrupt", "capacity", "quota", "pending"]
When = Literal["before", "after"]

# Members that mean something to some kinds only; all others belong to every kind of their class.
_OF_SOME = {
    "when": {"error", "hold"},
    "code": {"error"},
    "status": {"error"},
    "message": {"error"},
    "seconds": {"slow", "interrupt", "pending"},
    "after": {"interrupt"},
    "limit": {"quota"},
}
_NEEDED = {"slow": "seconds", "pending": "seconds", "quota": "limit"}


class FaultsInvalid(ValueError):
    """A document of faults cannot be read; the text says which rule and why."""


@dataclass(frozen=True)
class RequestRule:
    """One fault of requests.

    Attributes:
        kind: `lose` (act, then close the connection), `drop` (close it before acting), `throttle`, `error`, `slow`,
            `expire` (of credentials) or `hold` (until released).
        service: a glob over the service of the signature, such as `s3`, `sagemaker`, `logs`, `iam`.
        operation: a glob over botocore's name of the operation, such as `Create*Job`.
        path: a glob over the decoded path of the URL: `/bucket/key` of S3; the other services mostly have `/`.
        probability: how often it fires, drawn by `seed`.
        seed: the same seed draws the same requests among those that match.
        nth: which of the requests that match, counted from 1; empty means all.
        times: how often it fires at most; None: without end.
        when: `error` and `hold` before or after the server acted.
        seconds: how long `slow` keeps the answer back.
        code: of `error`; by default that of an internal error of the service.
        status: the HTTP status of `error`; 0 takes the one that belongs to the code.
        message: of `error`; empty takes AWS's for the code.
    """

    kind: RequestFault
    service: str = "*"
    operation: str = "*"
    path: str = "*"
    probability: float = 1.0
    seed: int = 0
    nth: tuple[int, ...] = ()
    times: int | None = None
    when: When = "before"
    seconds: float = 0.0
    code: str = ""
    status: int = 0
    message: str = ""


@dataclass(frozen=True)
class JobRule:
    """One fault of jobs.

    Attributes:
        kind: `interrupt` (spot instances are taken back), `capacity` (an instance type cannot be had), `quota` (no more
            than `limit` instances of a type run) or `pending` (instances come late).
        name: a glob over the job's name.
        instance_type: a glob over the instance type.
        probability: which of the jobs that match, drawn by `seed` and the job's name.
        seed: the same seed draws the same names.
        times: how often it fires at most, over all jobs; None: without end. A quota always holds.
        after: seconds that the hosts of a job run until they are interrupted.
        seconds: how long a job is `Pending`, or waits after an interruption until it starts again.
        limit: instances of one type that may run at a time.
    """

    kind: JobFault
    name: str = "*"
    instance_type: str = "*"
    probability: float = 1.0
    seed: int = 0
    times: int | None = None
    after: float = 0.0
    seconds: float = 0.0
    limit: int = 0


@dataclass(frozen=True)
class Faults:
    """All that shall go wrong; of the requests' rules the first that fires decides."""

    requests: tuple[RequestRule, ...] = ()
    jobs: tuple[JobRule, ...] = ()

    @property
    def rules(self) -> tuple[RequestRule | JobRule, ...]:
        """The rules of requests and then those of jobs; a rule's position in it is its number."""
        return (*self.requests, *self.jobs)


def read_faults(document: Any) -> Faults:
    """Read `{"seed": 7, "requests": [{"kind": "lose", …}], "jobs": [{"kind": "interrupt", …}]}`.

    `seed` is the one of all rules that have none of their own.

    Raises:
        FaultsInvalid: it is something else.
    """
    if not isinstance(document, dict):
        raise FaultsInvalid('A document of faults is an object: {"requests": […], "jobs": […]}.')
    _refuse_unknown("the document", document, {"seed", "requests", "jobs"})
    lists = {name: document.get(name, []) for name in ("requests", "jobs")}
    for name, given in lists.items():
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            raise FaultsInvalid(f"{name} is a list of objects.")
    seed = {"seed": document.get("seed", 0)}
    return Faults(
        tuple(_read(f"requests[{n}]", {**seed, **one}, RequestRule) for n, one in enumerate(lists["requests"])),
        tuple(_read(f"jobs[{n}]", {**seed, **one}, JobRule) for n, one in enumerate(lists["jobs"])),
    )


def read_rule(content: Mapping[str, Any]) -> RequestRule | JobRule:
    """Read back what `asdict` made of a rule; it was checked before."""
    given = dict(content)
    return JobRule(**given) if "instance_type" in given else RequestRule(**{**given, "nth": tuple(given["nth"])})


def shown(rule: RequestRule | JobRule) -> dict[str, Any]:
    """Return a rule as it was written: its kind, and what differs from the defaults."""
    return {one.name: value for one in fields(rule) if (value := getattr(rule, one.name)) != one.default}


_R = TypeVar("_R", RequestRule, JobRule)


def _read(where: str, given: Mapping[str, Any], rule: type[_R]) -> _R:
    kinds = get_args(RequestFault if rule is RequestRule else JobFault)
    kind = str(given.get("kind"))
    if kind not in kinds:
        raise FaultsInvalid(f"{where}: kind is one of {', '.join(kinds)}{_meant(kind, kinds)}")
    known = {one.name for one in fields(rule)}
    _refuse_unknown(where, given, {name for name in known if kind in _OF_SOME.get(name, {kind})})
    if _NEEDED.get(kind, "kind") not in given:
        raise FaultsInvalid(f"{where}: {kind} needs {_NEEDED[kind]}.")
    wrong = [name for name, value in given.items() if not _fits(name, value)]
    if wrong:
        raise FaultsInvalid(f"{where}: {wrong[0]} cannot be {given[wrong[0]]!r}.")
    nth = given.get("nth", ())
    ordinals = {"nth": (nth,) if isinstance(nth, int) else tuple(nth)} if "nth" in given else {}
    return rule(**{**given, **ordinals})


def _refuse_unknown(where: str, given: Mapping[str, Any], known: set[str]) -> None:
    for name in given:
        if name not in known:
            raise FaultsInvalid(f"{where}: {name!r} means nothing here{_meant(name, known)}")


def _meant(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(sorted(known))}."


def _fits(name: str, value: Any) -> bool:
    """Whether a member of any rule may have this value."""
    if name in {"probability", "seconds", "after"}:
        return _is_number(value) and 0 <= value <= (1 if name == "probability" else 86_400)
    if name == "nth":
        ordinals = value if isinstance(value, list) else [value]
        return bool(ordinals) and all(_is_number(one, int) and one > 0 for one in ordinals)
    if name in {"seed", "limit", "status", "times"}:
        lowest = {"status": 400, "times": 1, "limit": 0}.get(name)
        return _is_number(value, int) and (lowest is None or value >= lowest) and (name != "status" or value < 600)  # noqa: PLR2004 -- the statuses of errors
    if name == "when":
        return value in get_args(When)
    return isinstance(value, str) and bool(value)


def _is_number(value: Any, kind: type | tuple[type, ...] = (int, float)) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
