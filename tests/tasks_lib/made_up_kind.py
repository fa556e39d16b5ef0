"""A made-up kind of job on the tuning API: no entry point, short names, child jobs, and its own status words."""

from __future__ import annotations

from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kind import ApiNames, JobKind, Phase, Progress
from tasks_lib.jobs.kinds.rules import EVERY_JOB
from tasks_lib.jobs.override_rules import How, Rule
from tasks_lib.jobs.request import cluster, environment, tags
from tasks_lib.jobs.spec import JobPlace, JobSpec
from tasks_lib.options import JobOptions
from worker_toolkit import paths

NOUN = "HyperParameterTuning"
WORDS = {
    "InProgress": "Rehearsing",
    "Stopping": "Leaving",
    "Completed": "Performed",
    "Failed": "BrokenOff",
    "Stopped": "Cancelled",
}
"""The kind's word for each status of other jobs."""

_PHASES = {
    "Rehearsing": Phase.IN_PROGRESS,
    "Leaving": Phase.STOPPING,
    "Performed": Phase.COMPLETED,
    "BrokenOff": Phase.FAILED,
    "Cancelled": Phase.STOPPED,
}


def _request(spec: JobSpec, place: JobPlace) -> dict:
    return {
        "HyperParameterTuningJobName": place.job,
        "HyperParameterTuningJobConfig": {
            "Strategy": "Random",
            "ResourceLimits": {"MaxParallelTrainingJobs": 2, "MaxNumberOfTrainingJobs": 4},
        },
        "TrainingJobDefinition": {
            "AlgorithmSpecification": {"TrainingImage": spec.image, "TrainingInputMode": "File"},
            "RoleArn": place.role,
            "OutputDataConfig": {"S3OutputPath": place.folder.uri},
            "ResourceConfig": cluster(spec, place.instances or spec.instance_choices[0]),
            "StoppingCondition": {"MaxRuntimeInSeconds": spec.max_runtime_seconds},
            "Environment": environment(spec, place),
        },
        "Tags": tags(spec, place),
    }


def _progress(job: Job) -> Progress:
    return Progress(40, "Rehearsing") if job.started else Progress(5, "Meeting")


REHEARSAL = JobKind(
    name="rehearsal",
    layout=paths.TRAINING,
    api=ApiNames("HyperParameterTuningJob", start_time="CurtainTime", end_time="HyperParameterTuningEndTime"),
    statuses=_PHASES,
    log_group="/aws/sagemaker/TrainingJobs",
    event_type="SageMaker HyperParameter Tuning Job State Change",
    console_page="hyper-tuning-jobs",
    iam_resource="hyper-parameter-tuning-job",
    name_limit=32,
    outputs=("output", "state"),
    default_output="output",
    options=JobOptions,
    overrides={**EVERY_JOB, "Casts": Rule(How.ENTRIES, key="Name")},
    inputs_field="Casts",
    ignored_request_fields=frozenset({"Tags"}),
    runs_code=False,
    types_in_request=1,
    has_spot=False,
    quota_uses=("rehearsal",),
    state_is_input=False,
    phases=("meeting", "rehearsing"),
    computing="rehearsing",
    reports_billable_seconds=False,
    request=_request,
    existing_outputs=lambda folder, left: {"output": f"{folder}best/"} if left else {},
    possible_objects=lambda _spec: ("best/",),
    environment=lambda document: document.get("TrainingJobDefinition", {}).get("Environment", {}),
    cluster=lambda document: document.get("TrainingJobDefinition", {}).get("ResourceConfig", {}),
    quota_use=lambda _request: "rehearsal",
    seconds_by_phase=lambda answer: {"rehearsing": answer["Rehearsed"]} if "Rehearsed" in answer else {},
    progress=_progress,
)
