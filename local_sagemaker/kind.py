"""The record of one kind of SageMaker job: everything in which the kinds differ.

It is a record, not a class per kind, so that the code of a job is written once. A new kind is a module in `kinds/` and
a line in the table there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local_sagemaker.instances import Instances

if TYPE_CHECKING:
    from local_sagemaker.jobs import Job
    from local_sagemaker.runtime.runtime_spec import RuntimeSpec, S3Location
    from local_sagemaker.runtime.workspace import Outcome, Progress

Document = Mapping[str, Any]

_DAY = 86_400.0  # seconds; API reference, `StoppingCondition`: the default


@dataclass(frozen=True, eq=False)
class JobKind:
    """One kind of job.

    Attributes:
        name: its name in ARNs, in the table of jobs and in paths, such as `training-job`.
        noun: the noun of its operations, such as `TrainingJob` in `CreateTrainingJob`.
        taken: AWS's message for a name that is in use, without the ARN at the end.
        log_group: the log group of its containers.
        event_type: the `detail-type` of its state changes in EventBridge.
        start_time: the field of Describe with the time when the code began.
        image: the path of the image in the definition.
        cluster: the path of the cluster, which has the instances, in the definition.
        output_config: the member of the definition that has the KMS key of the outputs.
        definition: the path of the part of a request that has role, environment, image and instances; empty if it is
            the request itself.
        statuses: Describe's status for a status of the table, if they differ.
        check: raises `ApiError` for a request that fits the service model but that AWS refuses.
        defaults: returns what Describe shows for members that the request lacks.
        quota: returns the usage in the name of the quota that applies, such as `processing job usage`.
        plan: returns the runtime spec; raises `JobFailure` for what the runtime cannot do.
        configuration: returns the JSON files of one host, by container path.
        variables: returns the environment variables that only this kind has.
        failure: returns a host's failure reason from the text of its `/opt/ml/output/failure`.
        closing_fields: returns the fields of Describe that a job's end adds in this kind only; see `end`.
        results: yields the places in S3 of a job's results: tarballs or prefixes.
    """

    name: str
    noun: str
    taken: str
    log_group: str
    event_type: str
    start_time: str
    image: tuple[str, ...]
    cluster: tuple[str, ...]
    output_config: str
    check: Callable[[Document], None]
    defaults: Callable[[Document], Document]
    quota: Callable[[Document], str]
    plan: Callable[[Job], RuntimeSpec]
    configuration: Callable[[Job, RuntimeSpec, str], dict[str, Any]]
    variables: Callable[[Job], dict[str, str]]
    failure: Callable[[str], str]
    closing_fields: Callable[[Progress, Outcome], dict[str, Any]]
    results: Callable[[Job], Iterator[S3Location]]
    definition: tuple[str, ...] = ()
    statuses: Mapping[str, str] = field(default_factory=dict)

    def describe(self, job: Job) -> dict[str, Any]:
        """Return everything about a job, with its tags. The output shape of the operation selects from it."""
        return {
            **_filled(job.described, self.defaults(job.request)),
            f"{self.noun}Name": job.name,
            f"{self.noun}Arn": job.arn,
            f"{self.noun}Status": self.status_of(job),
            "SecondaryStatus": job.secondary_status,
            "CreationTime": job.created,
            "LastModifiedTime": job.modified,
            "Tags": [{"Key": key, "Value": value} for key, value in job.tags.items()],
        }

    def end(self, progress: Progress, outcome: Outcome) -> dict[str, Any]:
        """Return the changes of a job in the table at its end (`JobTable.update`)."""
        reason = {"FailureReason": outcome.reason} if outcome.reason is not None else {}
        return {
            "status": outcome.status,
            "secondary": outcome.secondary,
            "message": outcome.message,
            **self.closing_fields(progress, outcome),
            **reason,
        }

    def status_of(self, job: Job) -> str:
        """Return the status that the API shows."""
        return self.statuses.get(job.status, job.status)

    def definition_of(self, document: Document) -> Document:
        """Return the definition in a request or a description: role, environment, image and instances."""
        return dict(_at(document, self.definition))

    def cluster_of(self, document: Document) -> Document:
        """Return the cluster in a request or a description."""
        return dict(_at(document, (*self.definition, *self.cluster)))

    def image_of(self, request: Document) -> str:
        """Return the image of a request; empty if it names none."""
        return str(_at(request, (*self.definition, *self.image)) or "")

    def role_of(self, request: Document) -> str:
        """Return the role's ARN in a request; empty if it names none."""
        return str(self.definition_of(request).get("RoleArn", ""))

    def max_runtime_of(self, request: Document) -> float:
        """Return the `MaxRuntimeInSeconds` of a request; one day by default."""
        return float(self.definition_of(request).get("StoppingCondition", {}).get("MaxRuntimeInSeconds", _DAY))

    def selection(self, request: Document, chosen: Instances) -> dict[str, Any]:
        """Return the fields of Describe for the instance choice; empty for a job without `InstancePreferences`.

        API reference, ResourceConfig: `SelectedInstanceType` is "returned by DescribeTrainingJob after an instance type
        is selected".
        """
        cluster = self.cluster_of(request)
        if "InstancePreferences" not in cluster:
            return {}
        ((name, count),) = chosen.items()
        found = {**cluster, "SelectedInstanceType": name, "SelectedInstanceCount": count}
        path = (*self.definition, *self.cluster)
        return {path[0]: _with(request, path, found)[path[0]]}


def _at(document: Document, path: tuple[str, ...]) -> Any:
    found: Any = document
    for name in path:
        found = found.get(name, {})
    return found


def _with(document: Document, path: tuple[str, ...], value: Any) -> Any:
    """Return a document with another value at a path."""
    if not path:
        return value
    return {**document, path[0]: _with(document.get(path[0], {}), path[1:], value)}


def _filled(given: Document, defaults: Document) -> dict[str, Any]:
    """Return `given`, completed with `defaults` at every level."""
    both = {
        name: _filled(given[name], default)
        for name, default in defaults.items()
        if isinstance(default, Mapping) and isinstance(given.get(name), Mapping)
    }
    return {**defaults, **given, **both}
