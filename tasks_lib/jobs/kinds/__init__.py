"""The kinds of jobs: one record for each, and the table of all."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, InstanceOf, PlainSerializer

from tasks_lib.jobs.kind import JobKind
from tasks_lib.jobs.kinds.processing import PROCESSING
from tasks_lib.jobs.kinds.training import TRAINING

__all__ = ["KINDS", "PROCESSING", "TRAINING", "JobKind", "StoredKind", "kind_of"]

KINDS: dict[str, JobKind] = {kind.name: kind for kind in (TRAINING, PROCESSING)}
"""Every kind by its name. A new one is added here."""


def kind_of(name: str | JobKind) -> JobKind:
    """Return the kind of a name.

    Raises:
        ValueError: There is no such kind; it was written by a newer version.
    """
    if isinstance(name, JobKind):
        return name
    if name not in KINDS:
        raise ValueError(f"there is no kind of job {name!r}, only {', '.join(KINDS)}")
    return KINDS[name]


StoredKind = Annotated[InstanceOf[JobKind], BeforeValidator(kind_of), PlainSerializer(lambda kind: kind.name)]
"""A kind as a field of a document in S3, where its name stands for it."""
