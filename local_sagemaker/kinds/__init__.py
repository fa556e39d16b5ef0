"""The job kinds of the local SageMaker: one record for each, and the table of all."""

from __future__ import annotations

from local_sagemaker.kind import JobKind
from local_sagemaker.kinds.processing import PROCESSING
from local_sagemaker.kinds.training import TRAINING

__all__ = ["KINDS", "PROCESSING", "TRAINING", "JobKind"]

KINDS: dict[str, JobKind] = {kind.name: kind for kind in (TRAINING, PROCESSING)}
"""Every job kind by its name. Add a new kind here."""
