"""The kinds of SageMaker jobs, and the table of all of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, InstanceOf, PlainSerializer

from tasks_lib.jobs.kind import JobKind
from tasks_lib.jobs.kinds.processing import PROCESSING
from tasks_lib.jobs.kinds.training import TRAINING

__all__ = ["KINDS", "PROCESSING", "TRAINING", "JobKind", "StoredKind", "kind_of"]

KINDS: dict[str, JobKind] = {kind.name: kind for kind in (TRAINING, PROCESSING)}
"""Every kind by its name. Add a new kind here."""


def kind_of(name: str | JobKind) -> JobKind:
    """Return the kind with this name; return a `JobKind` as it is.

    Raises:
        ValueError: There is no such kind, for example because a newer version wrote the name.
    """
    if isinstance(name, JobKind):
        return name
    if name not in KINDS:
        raise ValueError(f"there is no kind of job {name!r}, only {', '.join(KINDS)}")
    return KINDS[name]


StoredKind = Annotated[InstanceOf[JobKind], BeforeValidator(kind_of), PlainSerializer(lambda kind: kind.name)]
"""A kind as a field of a document in S3, stored by its name."""
