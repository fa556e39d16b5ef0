"""The description of one kind of SageMaker job: everything in which the kinds differ.

It is a dataclass and not a base class, because most of it is words and numbers, which a test can check one by one. A
new kind is a module in `kinds/` and a line in its table (CONTRIBUTING.md, "Add a kind of job").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tasks_lib.jobs.override_rules import Rule
from tasks_lib.options import JobOptions
from worker_toolkit.paths import Layout

if TYPE_CHECKING:
    from tasks_lib.jobs.job import Job
    from tasks_lib.jobs.spec import JobPlace, JobSpec

OutputName = Literal["model", "output", "state", "source"]


class Phase(Enum):
    """The meaning of a status for a caller that waits for the job."""

    IN_PROGRESS = "live"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    UNKNOWN = "unknown"

    @property
    def word(self) -> str:
        """The word for a reader, which most kinds of jobs use as their status: `Completed`."""
        return self.value.capitalize()

    @property
    def terminal(self) -> bool:
        """Whether the job has ended, so that its status does not change any more."""
        return self in (Phase.COMPLETED, Phase.FAILED, Phase.STOPPED)


# The status enums of `DescribeTrainingJob` and `DescribeProcessingJob`; a test compares them with botocore's model.
STATUSES: dict[str, Phase] = {
    "InProgress": Phase.IN_PROGRESS,
    "Stopping": Phase.STOPPING,
    "Completed": Phase.COMPLETED,
    "Failed": Phase.FAILED,
    "Stopped": Phase.STOPPED,
    "Deleting": Phase.UNKNOWN,
}
"""The phase of each status of training and processing jobs."""


class Progress(NamedTuple):
    """The progress of a job.

    Args:
        percent: Position of the progress bar, from 0 to 100.
        words: The current step, in words.
    """

    percent: float
    words: str


@dataclass(frozen=True)
class ApiNames:
    """SageMaker's API names for one kind of job.

    Args:
        job: The noun of the operations: `TrainingJob` in `CreateTrainingJob`.
        start_time: Field of the description with the time when the code started.
        end_time: Field of the description with the time when the job ended.
    """

    job: str
    start_time: str
    end_time: str

    def operation(self, verb: str) -> str:
        """Return the name of an operation: `CreateTrainingJob`, `ListTrainingJobs`."""
        return f"{verb}{self.job}{'s' if verb == 'List' else ''}"

    def method(self, verb: str) -> str:
        """Return the name of a boto3 client's method: `create_training_job`."""
        return self._in_words(verb).replace("-", "_")

    def command(self, verb: str, name: str) -> str:
        """Return the command of the AWS CLI for one job: `aws sagemaker stop-training-job --training-job-name x`."""
        return f"aws sagemaker {self._in_words(verb)} --{_hyphenated(self.name)} {name}"

    def _in_words(self, verb: str) -> str:
        return _hyphenated(self.operation(verb))

    @property
    def name(self) -> str:
        """The field with the job's name: `TrainingJobName`."""
        return f"{self.job}Name"

    @property
    def arn(self) -> str:
        """The field with the job's ARN: `TrainingJobArn`."""
        return f"{self.job}Arn"

    @property
    def status(self) -> str:
        """The field with the job's status: `TrainingJobStatus`."""
        return f"{self.job}Status"

    @property
    def summaries(self) -> str:
        """The field with the jobs of a listing: `TrainingJobSummaries`."""
        return f"{self.job}Summaries"


@dataclass(frozen=True, eq=False)
class JobKind:
    """One kind of job.

    Args:
        name: Our name for it, which is stored in S3 and is part of the fingerprint.
        api: SageMaker's API names.
        layout: Paths in its containers, as the worker toolkit has them.
        statuses: Phase of each status that SageMaker gives a job of this kind.
        log_group: Log group of its containers in CloudWatch Logs.
        event_type: `detail-type` of its state changes in EventBridge.
        console_page: Page of the AWS console, which is followed by the job's name.
        iam_resource: Resource type in its ARN: `training-job`.
        name_limit: Most characters of a job's name.
        outputs: Outputs that a job may have.
        default_output: The output that `output_of(task)` uses.
        options: Dataclass of the options of a call.
        overrides: Rule of each request field that `overrides` may name (`overrides.py`).
        inputs_field: Request field with the list of inputs.
        ignored_request_fields: Fields that change where and at what price a job runs, not what it computes. They are
            not part of the fingerprint.
        runs_code: Whether our bootstrap can run the user's program in it.
        types_in_request: Most instance types that one request may list (`InstancePreferences`).
        has_spot: Whether spot instances exist for it.
        quota_uses: Uses of an instance type that have a quota each, in the words of Service Quotas.
        state_is_input: Whether an earlier state is passed as an input, which must not be empty.
        phases: Its phases in chronological order.
        computing: The phase in which the user's code runs.
        reports_billable_seconds: Whether SageMaker reports the billed seconds. If not, the computing phase counts.
        request: Returns the arguments of the Create operation, without overrides; fields that are None are left out.
        existing_outputs: Returns the output URIs of a job from its output folder and the names of the objects in it.
        possible_objects: Returns the names in the output folder of a job that writes all outputs.
        environment: Returns the environment variables from a request or a description.
        cluster: Returns the mapping with the instances from a request or a description.
        quota_use: Returns which of `quota_uses` a request counts for.
        seconds_by_phase: Returns the seconds of each ended phase from a description.
        progress: Returns the progress of a job that has not ended.
    """

    name: str
    layout: Layout
    api: ApiNames
    statuses: Mapping[str, Phase]
    log_group: str
    event_type: str
    console_page: str
    iam_resource: str
    name_limit: int
    outputs: tuple[OutputName, ...]
    default_output: OutputName
    options: type[JobOptions]
    overrides: Mapping[str, Rule]
    inputs_field: str
    ignored_request_fields: frozenset[str]
    runs_code: bool
    types_in_request: int
    has_spot: bool
    quota_uses: tuple[str, ...]
    state_is_input: bool
    phases: tuple[str, ...]
    computing: str
    reports_billable_seconds: bool
    request: Callable[[JobSpec, JobPlace], dict[str, Any]]
    existing_outputs: Callable[[str, Collection[str]], dict[str, str]]
    possible_objects: Callable[[JobSpec], tuple[str, ...]]
    environment: Callable[[Mapping[str, Any]], Mapping[str, str]]
    cluster: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    quota_use: Callable[[Mapping[str, Any]], str]
    seconds_by_phase: Callable[[Mapping[str, Any]], dict[str, float]]
    progress: Callable[[Job], Progress]

    def __repr__(self) -> str:
        return self.name

    def phase_of(self, status: str) -> Phase:
        """Return the phase of a status; a status that is not in the table is `UNKNOWN`, never a success."""
        return self.statuses.get(status, Phase.UNKNOWN)

    def status_of(self, phase: Phase) -> str:
        """Return the first of SageMaker's statuses for a phase."""
        return next(status for status, meaning in self.statuses.items() if meaning is phase)

    def in_order(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """Return seconds by phase in chronological order; the JSON in S3 has sorted keys."""
        return {phase: seconds[phase] for phase in self.phases if phase in seconds}

    def billed_seconds(self, billable: float | None, phases: Mapping[str, float]) -> float | None:
        """Return the billed seconds of each host; None if they are unknown."""
        return billable if self.reports_billable_seconds else phases.get(self.computing)


def _hyphenated(words: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", words).lower()
