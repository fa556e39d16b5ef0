"""The fault rules for requests and jobs, as frozen values read from JSON.

A member that has no effect would let a test pass for the wrong reason, so an unknown or misplaced member is refused.
The module does no I/O and uses only the standard library, because supervisors read rules too.
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

# The members that only some kinds have. Every kind of a class has the other members of that class.
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
    """A document of faults is invalid; the message says which rule and why."""


@dataclass(frozen=True)
class RequestRule:
    """A fault rule for requests.

    Attributes:
        kind: `lose` (act, then close the connection), `drop` (close it before acting), `throttle`, `error`, `slow`,
            `expire` (expired credentials) or `hold` (wait until released).
        service: a glob for the service of the signature, such as `s3`, `sagemaker`, `logs`, `iam`; default all.
        operation: a glob for botocore's name of the operation, such as `Create*Job`; default all.
        path: a glob for the decoded path of the URL: `/bucket/key` in S3, mostly `/` in other services; default all.
        probability: the probability that it fires for a matching request, from 0 to 1; default 1.
        seed: the seed of the draws; the same seed selects the same of the matching requests; default 0.
        nth: the matching requests for which it may fire, counted from 1; empty (the default) means all.
        times: how often it fires at most; None (the default) means without limit.
        when: whether `error` and `hold` happen `before` (the default) or `after` the server acted.
        seconds: how long `slow` delays the response.
        code: the code of `error`; by default that of an internal error of the service.
        status: the HTTP status of `error`; 0 (the default) means the usual status of the code.
        message: the message of `error`; empty (the default) means AWS's message for the code.
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
    """A fault rule for jobs.

    Attributes:
        kind: `interrupt` (spot interruption), `capacity` (insufficient capacity of an instance type), `quota` (at most
            `limit` instances of a type run) or `pending` (the instances come late).
        name: a glob for the job's name; default all.
        instance_type: a glob for the instance type; default all.
        probability: the probability that it applies to a matching job, from 0 to 1; default 1.
        seed: the seed of the draws; the same seed selects the same job names; default 0.
        times: how often it fires at most, over all jobs; None (the default) means without limit. It has no effect on
            `quota`.
        after: seconds that the hosts of a job run before `interrupt`; default 0.
        seconds: how long a job is `Pending`, or waits after an interruption until it restarts; default 0.
        limit: the number of instances of one type that may run at a time under `quota`.
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
    """All fault rules; of the rules for requests, only the first one that fires is applied."""

    requests: tuple[RequestRule, ...] = ()
    jobs: tuple[JobRule, ...] = ()

    @property
    def rules(self) -> tuple[RequestRule | JobRule, ...]:
        """The rules for requests, then those for jobs; the position of a rule is its number."""
        return (*self.requests, *self.jobs)


def read_faults(document: Any) -> Faults:
    """Read `{"seed": 7, "requests": [{"kind": "lose", …}], "jobs": [{"kind": "interrupt", …}]}`.

    The `seed` of the document is the default for rules without a `seed`.

    Raises:
        FaultsInvalid: the document is not a valid document of faults.
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
    """Return the rule of an `asdict` result; it is not validated again."""
    given = dict(content)
    return JobRule(**given) if "instance_type" in given else RequestRule(**{**given, "nth": tuple(given["nth"])})


def shown(rule: RequestRule | JobRule) -> dict[str, Any]:
    """Return a rule as a document: its kind and the members that differ from the defaults."""
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
    """Return whether a member of a rule may have this value."""
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
