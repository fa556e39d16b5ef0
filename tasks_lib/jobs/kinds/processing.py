"""The kind of processing jobs, by the API reference of CreateProcessingJob and DescribeProcessingJob."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from tasks_lib.jobs.channels import Distribution
from tasks_lib.jobs.job import Job, seconds_between
from tasks_lib.jobs.kind import STATUSES, ApiNames, JobKind, Phase, Progress
from tasks_lib.jobs.kinds.rules import (
    CLUSTER,
    CONTENT,
    DISTRIBUTION,
    ENTRY_POINT_ADVICE,
    EVERY_JOB,
    IGNORED_IN_EVERY_JOB,
    MAX_RUNTIME,
    MEMBERS,
    NAME,
    OTHER_SOURCE,
    REMOVABLE,
    REPLACED,
    VPC,
    below,
    refused,
)
from tasks_lib.jobs.naming import JOB_NAME_LIMIT
from tasks_lib.jobs.override_rules import How, Rule
from tasks_lib.jobs.request import cluster, environment, launch, sources, tags, vpc
from tasks_lib.jobs.spec import JobPlace, JobSpec
from tasks_lib.options import JobOptions
from worker_toolkit import paths
from worker_toolkit.contract import SOURCE_CHANNEL, STATE_CHANNEL

_OWN_OUTPUTS = frozenset({"output", "state"})


# -- the request -----------------------------------------------------------------------------------------------------


def _request(spec: JobSpec, place: JobPlace) -> dict[str, Any]:
    return {
        "ProcessingJobName": place.job,
        "AppSpecification": {
            "ImageUri": spec.image,
            **launch(spec, place),
        },
        "RoleArn": place.role,
        "ProcessingInputs": [*_inputs(spec, place)],
        "ProcessingOutputConfig": {"Outputs": [*_outputs(spec, place)], "KmsKeyId": spec.output_kms_key},
        "ProcessingResources": {"ClusterConfig": cluster(spec, place.instances or spec.instance_choices[0])},
        "StoppingCondition": {"MaxRuntimeInSeconds": spec.max_runtime_seconds},
        "Environment": environment(spec, place),
        "NetworkConfig": {
            "EnableNetworkIsolation": spec.network_isolation or None,
            "EnableInterContainerTrafficEncryption": spec.encrypt_between_containers or None,
            "VpcConfig": vpc(spec),
        },
        "Tags": tags(spec, place),
    }


def _inputs(spec: JobSpec, place: JobPlace) -> Iterable[dict[str, Any]]:
    for name, uri, distribution in sources(place):
        folder = paths.PROCESSING.source if name == SOURCE_CHANNEL else f"{paths.PROCESSING.channels}/{name}"
        yield _input(name, uri, folder, distribution)
    if spec.state == "task" and place.has_state:
        yield _input(STATE_CHANNEL, place.folder.state.uri, paths.PROCESSING.previous_state, "FullyReplicated")


def _input(name: str, uri: str, path: str, distribution: Distribution) -> dict[str, Any]:
    source = {
        "S3Uri": uri,
        "LocalPath": path,
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
        "S3DataDistributionType": distribution,
        "S3CompressionType": "None",
    }
    return {"InputName": name, "S3Input": source}


def _outputs(spec: JobSpec, place: JobPlace) -> Iterable[dict[str, Any]]:
    # SageMaker has no checkpoints for processing jobs. A continuous upload keeps the state of a job that is killed.
    wanted = [("output", place.folder.output(place.job).uri, paths.PROCESSING.output_data, "EndOfJob")]
    if spec.state == "task":
        wanted.append(("state", place.folder.state.uri, paths.PROCESSING.state, "Continuous"))
    for name, uri, path, mode in wanted:
        target = {"S3Uri": uri, "LocalPath": path, "S3UploadMode": mode}
        yield {"OutputName": name, "S3Output": target}


_OVERRIDES: dict[str, Rule] = {
    **EVERY_JOB,
    "ProcessingJobName": NAME,
    "AppSpecification": MEMBERS,
    **below(
        "AppSpecification",
        {
            "ImageUri": refused("use `image`"),
            "ContainerEntrypoint": refused(ENTRY_POINT_ADVICE, with_code=True),
            "ContainerArguments": refused("use `arguments`"),
        },
    ),
    "ProcessingInputs": Rule(How.ENTRIES, "what a further input reads is not in the fingerprint", key="InputName"),
    **below(
        "ProcessingInputs[]",
        {
            "S3Input": MEMBERS,
            "S3Input.S3Uri": CONTENT,
            "S3Input.S3DataType": CONTENT,
            "S3Input.LocalPath": refused("read the directory from `$SM_CHANNEL_…`"),
            "S3Input.S3DataDistributionType": DISTRIBUTION,
            "S3Input.S3InputMode": Rule(How.REPLACED, "not of an input with `extract=True`"),
            "S3Input.S3CompressionType": REPLACED,
            "DatasetDefinition": OTHER_SOURCE,
            "AppManaged": OTHER_SOURCE,
        },
    ),
    "ProcessingOutputConfig": MEMBERS,
    "ProcessingOutputConfig.KmsKeyId": REPLACED,
    "ProcessingOutputConfig.Outputs": Rule(
        How.ENTRIES, "the ledger does not see a further output", key="OutputName", own=_OWN_OUTPUTS
    ),
    **below(
        "ProcessingOutputConfig.Outputs[]",
        {
            name: refused("name another output: this one is the task's own")
            for name in ("S3Output", "FeatureStoreOutput", "AppManaged")
        },
    ),
    "ProcessingResources": MEMBERS,
    "ProcessingResources.ClusterConfig": MEMBERS,
    **below("ProcessingResources.ClusterConfig", CLUSTER),
    "ProcessingResources.ClusterConfig.VolumeSizeInGB": refused("use `volume_size_gb`"),
    "StoppingCondition": MEMBERS,
    "StoppingCondition.MaxRuntimeInSeconds": MAX_RUNTIME,
    "NetworkConfig": REMOVABLE,
    "NetworkConfig.EnableNetworkIsolation": REPLACED,
    "NetworkConfig.EnableInterContainerTrafficEncryption": REPLACED,
    "NetworkConfig.VpcConfig": REMOVABLE,
    **below("NetworkConfig.VpcConfig", VPC),
}


# -- the outputs -----------------------------------------------------------------------------------------------------


def _outputs_left(folder: str, left: Collection[str]) -> dict[str, str]:
    return {"output": folder} if left else {}


def _outputs_possible(_spec: JobSpec) -> tuple[str, ...]:
    return ("output",)


# -- the description -------------------------------------------------------------------------------------------------


def _seconds_by_phase(answer: Mapping[str, Any]) -> dict[str, float]:
    """Return the seconds of each ended phase; SageMaker reports only when the code began and ended."""
    started, ended = answer.get("ProcessingStartTime"), answer.get("ProcessingEndTime")
    if started is None:
        return {}
    waited = {"starting": seconds_between(answer["CreationTime"], started)}
    return {**waited, "processing": seconds_between(started, ended)} if ended else waited


def _progress(job: Job) -> Progress:
    if job.phase is Phase.STOPPING:
        return Progress(90, "Stopping")
    return Progress(50, "Processing") if job.started else Progress(5, "Starting")


PROCESSING = JobKind(
    name="processing",
    layout=paths.PROCESSING,
    api=ApiNames("ProcessingJob", start_time="ProcessingStartTime", end_time="ProcessingEndTime"),
    statuses=STATUSES,
    log_group="/aws/sagemaker/ProcessingJobs",
    event_type="SageMaker Processing Job State Change",
    console_page="processing-jobs",
    iam_resource="processing-job",
    name_limit=JOB_NAME_LIMIT,
    outputs=("output", "state", "source"),
    default_output="output",
    options=JobOptions,
    overrides=_OVERRIDES,
    inputs_field="ProcessingInputs",
    ignored_request_fields=IGNORED_IN_EVERY_JOB
    | {
        "ProcessingOutputConfig.KmsKeyId",
        "ProcessingResources.ClusterConfig.InstanceType",
        "ProcessingResources.ClusterConfig.VolumeKmsKeyId",
        "ProcessingResources.ClusterConfig.VolumeSizeInGB",
        "NetworkConfig.EnableInterContainerTrafficEncryption",
        "NetworkConfig.VpcConfig",
    },
    runs_code=True,
    types_in_request=1,
    has_spot=False,
    quota_uses=("processing",),
    state_is_input=True,
    phases=("starting", "processing"),
    computing="processing",
    reports_billable_seconds=False,
    request=_request,
    existing_outputs=_outputs_left,
    possible_objects=_outputs_possible,
    environment=lambda document: document.get("Environment", {}),
    cluster=lambda document: document.get("ProcessingResources", {}).get("ClusterConfig", {}),
    quota_use=lambda _request: "processing",
    seconds_by_phase=_seconds_by_phase,
    progress=_progress,
)
