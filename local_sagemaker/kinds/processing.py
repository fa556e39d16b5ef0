"""Processing jobs of the local SageMaker.

Sources: API reference, CreateProcessingJob and DescribeProcessingJob; Developer Guide, "How Amazon SageMaker Processing
Configures Your Processing Container".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local_sagemaker.kind import Document, JobKind
from local_sagemaker.runtime.runtime_spec import (
    Input,
    JobFailure,
    Output,
    RuntimeSpec,
    S3Location,
    command_of,
    container_path,
    groups_of,
    input_of,
    volume_of,
)
from local_sagemaker.sagemaker.rules import check_processing_job

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from local_sagemaker.jobs import Job
    from local_sagemaker.runtime.workspace import Outcome, Progress


# -- the runtime spec ------------------------------------------------------------------------------------------------


def _plan(job: Job) -> RuntimeSpec:
    request = job.request
    cluster = PROCESSING.cluster_of(job.described)
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", [])
    return RuntimeSpec(
        groups=groups_of(cluster),
        command=command_of(request["AppSpecification"], "AppSpecification", "ImageUri"),
        environment=request.get("Environment", {}),
        inputs=tuple(_input(one) for one in request.get("ProcessingInputs", []) if not one.get("AppManaged")),
        outputs=tuple(_output(one) for one in outputs if not one.get("AppManaged")),
        archives=None,
        max_runtime=PROCESSING.max_runtime_of(request),
        max_wait=None,
        volume_gb=volume_of(cluster),
    )


def _input(given: Mapping[str, Any]) -> Input:
    name = given["InputName"]
    source = given.get("S3Input")
    path = container_path(source["LocalPath"]) if source and source.get("LocalPath") else ""
    mode = source.get("S3InputMode", "File") if source else ""
    return input_of(name, source, mode, path)


def _output(given: Mapping[str, Any]) -> Output:
    output = given.get("S3Output")
    if not output or not output.get("LocalPath"):
        name = given.get("OutputName", "")
        raise JobFailure(f"ClientError: the output {name} has no S3Output with a LocalPath, or is marked AppManaged.")
    continuous = output.get("S3UploadMode") == "Continuous"
    return Output(S3Location.parse(output["S3Uri"]), container_path(output["LocalPath"]), continuous)


# -- the configuration files -----------------------------------------------------------------------------------------


def _configuration(job: Job, plan: RuntimeSpec, host: str) -> dict[str, Any]:
    return {
        "/opt/ml/config/processingjobconfig.json": _processing_job(job),
        "/opt/ml/config/resourceconfig.json": {"current_host": host, "hosts": list(plan.hosts)},
    }


def _processing_job(job: Job) -> dict[str, Any]:
    request = job.request
    application = request["AppSpecification"]
    return {
        "ProcessingJobArn": job.arn,
        "ProcessingJobName": job.name,
        "AppSpecification": {
            "ImageUri": application.get("ImageUri"),
            "ContainerEntrypoint": application.get("ContainerEntrypoint"),
            "ContainerArguments": application.get("ContainerArguments"),
        },
        "Environment": request.get("Environment", {}),
        "ProcessingInputs": request.get("ProcessingInputs", []),
        "ProcessingOutputConfig": request.get("ProcessingOutputConfig", {"Outputs": []}),
        "ProcessingResources": request["ProcessingResources"],
        "RoleArn": request.get("RoleArn"),
        "StoppingCondition": request.get("StoppingCondition"),
    }


# -- the end ---------------------------------------------------------------------------------------------------------


def _closing_fields(_progress: Progress, outcome: Outcome) -> dict[str, Any]:
    message = {"ExitMessage": outcome.exit_message} if outcome.exit_message is not None else {}
    return {"ProcessingEndTime": outcome.ended, **message}


def _results(job: Job) -> Iterator[S3Location]:
    for one in job.request.get("ProcessingOutputConfig", {}).get("Outputs", []):
        yield S3Location.parse(one["S3Output"]["S3Uri"])


def _defaults(_request: Document) -> Document:
    return {"StoppingCondition": {"MaxRuntimeInSeconds": 86_400}}  # API reference, ProcessingStoppingCondition


PROCESSING = JobKind(
    name="processing-job",
    noun="ProcessingJob",
    # The text is from AWS, as seen in a processing step of Step Functions.
    taken="Job name must be unique within an AWS account and region, and a job with this name already exists",
    log_group="/aws/sagemaker/ProcessingJobs",
    event_type="SageMaker Processing Job State Change",
    start_time="ProcessingStartTime",
    image=("AppSpecification", "ImageUri"),
    cluster=("ProcessingResources", "ClusterConfig"),
    output_config="ProcessingOutputConfig",
    check=check_processing_job,
    defaults=_defaults,
    quota=lambda _request: "processing job usage",
    plan=_plan,
    configuration=_configuration,
    variables=lambda _job: {},
    failure=lambda _text: "See job logs for more information",
    closing_fields=_closing_fields,
    results=_results,
)
