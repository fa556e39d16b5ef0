"""Provisioning of a job's instances: at once, late, or never, as the fault rules say.

This machine always has capacity. Delays, insufficient capacity and spot interruptions happen only by a fault rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_sagemaker.instances import choices, taken
from local_sagemaker.kinds import KINDS

if TYPE_CHECKING:
    from local_sagemaker.faults.rules import JobFault, JobRule
    from local_sagemaker.instances import Instances
    from local_sagemaker.job_faults import JobFaults
    from local_sagemaker.jobs import Job

# The text is from DIAGNijmegen/rse-grand-challenge issue 2631.
NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type."
)
LAUNCHING = "Launching requested ML instances"
INTERRUPTED = "The job stopped because the managed spot training instances were interrupted"


@dataclass(frozen=True)
class Provisioner:
    """Applies the fault rules to the instances of one job.

    Attributes:
        job: the job.
        faults: the active fault rules and their counts.
    """

    job: Job
    faults: JobFaults

    def delay(self) -> float:
        """Return how many seconds the job stays `Pending`."""
        rule = self._fire("pending", taken(KINDS[self.job.kind].cluster_of(self.job.described)))
        return rule.seconds if rule else 0.0

    def choose(self) -> Instances | None:
        """Return the first instance choice with capacity; None if capacity is insufficient for all of them.

        API reference, ResourceConfig: "If capacity is insufficient, SageMaker evaluates the next instance type".
        """
        for choice in choices(KINDS[self.job.kind].cluster_of(self.job.request)):
            if self._fire("capacity", choice) is None:
                return choice
        return None

    def interruption(self, seconds: float) -> JobRule | None:
        """Return the fault rule that interrupts the spot instances now; None if there is none.

        Args:
            seconds: how long the hosts have been running.
        """
        if not KINDS[self.job.kind].definition_of(self.job.request).get("EnableManagedSpotTraining"):
            return None
        return self._fire("interrupt", taken(KINDS[self.job.kind].cluster_of(self.job.described)), ran=seconds)

    def _fire(self, kind: JobFault, instances: Instances, ran: float = 0.0) -> JobRule | None:
        fired = (self.faults.fire(kind, self.job.name, name, ran) for name in instances)
        return next((rule for rule in fired if rule is not None), None)
