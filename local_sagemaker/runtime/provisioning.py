"""How a job comes by its instances: at once, late, or never, as the rules of `faults` have it.

On this machine there are always enough; AWS's ways of having none are faults on demand. The conductor and the
simulator import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_sagemaker.instances import choices, taken
from local_sagemaker.kinds import KINDS

if TYPE_CHECKING:
    from local_sagemaker.faults.rules import JobFault, JobRule
    from local_sagemaker.faults.table import FaultTable
    from local_sagemaker.instances import Instances
    from local_sagemaker.jobs import Job

# DIAGNijmegen/rse-grand-challenge issue 2631.
NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type."
)
LAUNCHING = "Launching requested ML instances"
INTERRUPTED = "The job stopped because the managed spot training instances were interrupted"


@dataclass(frozen=True)
class Provisioner:
    """Decides about the instances of one job.

    Attributes:
        job: the job.
        faults: the rules that are on, and their counts.
    """

    job: Job
    faults: FaultTable

    def delay(self) -> float:
        """Return for how many seconds the job is `Pending`."""
        rule = self._fire("pending", taken(KINDS[self.job.kind].cluster_of(self.job.described)))
        return rule.seconds if rule else 0.0

    def choose(self) -> Instances | None:
        """Return the first choice whose instances can be had; None if there is no capacity for any.

        API reference, ResourceConfig: "If capacity is insufficient, SageMaker evaluates the next instance type".
        """
        for choice in choices(KINDS[self.job.kind].cluster_of(self.job.request)):
            if self._fire("capacity", choice) is None:
                return choice
        return None

    def interruption(self, seconds: float) -> JobRule | None:
        """Return the rule by which spot instances are taken back now.

        Args:
            seconds: for how long the hosts have been running.
        """
        if not KINDS[self.job.kind].definition_of(self.job.request).get("EnableManagedSpotTraining"):
            return None
        return self._fire("interrupt", taken(KINDS[self.job.kind].cluster_of(self.job.described)), ran=seconds)

    def _fire(self, kind: JobFault, instances: Instances, ran: float = 0.0) -> JobRule | None:
        fired = (self.faults.fire(kind, self.job.name, name, ran) for name in instances)
        return next((rule for rule in fired if rule is not None), None)
