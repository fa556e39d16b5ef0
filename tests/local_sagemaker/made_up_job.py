"""A third kind of job on the API of tuning jobs, with its own status names. Its only host runs a script.

As a program, it supervises one job of that kind, as `local_sagemaker.runtime.supervisor` does for the others:
`python made_up_job.py HOME NAME`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from local_sagemaker.kind import JobKind
from local_sagemaker.kinds import KINDS
from local_sagemaker.runtime.runtime_spec import Output, RuntimeSpec, S3Location, groups_of, volume_of
from local_sagemaker.runtime.supervisor import supervise


def _definition(job):
    return job.request["TrainingJobDefinition"]


def _plan(job):
    cluster = REHEARSAL.cluster_of(job.described)
    return RuntimeSpec(
        groups=groups_of(cluster),
        command=("/bin/sh", "-c", _definition(job)["StaticHyperParameters"]["script"]),
        environment=_definition(job).get("Environment", {}),
        inputs=(),
        outputs=(Output(*_results(job), "/opt/ml/stage", continuous=False),),
        archives=None,
        max_runtime=3600.0,
        max_wait=None,
        volume_gb=volume_of(cluster),
    )


def _results(job):
    place = S3Location.parse(_definition(job)["OutputDataConfig"]["S3OutputPath"])
    yield S3Location(place.bucket, place.below(f"{job.name}/output/best/"))


REHEARSAL = JobKind(
    name="hyper-parameter-tuning-job",
    noun="HyperParameterTuningJob",
    taken="This play is rehearsed already",
    log_group="/aws/sagemaker/Rehearsals",
    event_type="SageMaker HyperParameter Tuning Job State Change",
    start_time="CurtainTime",
    definition=("TrainingJobDefinition",),
    image=("AlgorithmSpecification", "TrainingImage"),
    cluster=("ResourceConfig",),
    output_config="OutputDataConfig",
    check=lambda _request: None,
    defaults=lambda _request: {},
    quota=lambda _request: "rehearsal job usage",
    plan=_plan,
    configuration=lambda _job, plan, host: {"/opt/ml/config/cast.json": {"host": host, "hosts": list(plan.hosts)}},
    variables=lambda job: {"PLAY": job.name},
    failure=lambda text: f"on stage: {text}",
    closing_fields=lambda _progress, outcome: {"HyperParameterTuningEndTime": outcome.ended},
    results=_results,
    statuses={"InProgress": "Rehearsing", "Completed": "Performed", "Failed": "BrokenOff"},
)


def request(name, script, image="stage:1", **environment):
    """Return a request that is valid in AWS's model."""
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": {
            "Strategy": "Random",
            "ResourceLimits": {"MaxParallelTrainingJobs": 2, "MaxNumberOfTrainingJobs": 4},
        },
        "TrainingJobDefinition": {
            "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File"},
            "StaticHyperParameters": {"script": script},
            "RoleArn": "arn:aws:iam::123456789012:role/role",
            "OutputDataConfig": {"S3OutputPath": "s3://bucket/plays"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
            "Environment": environment,
        },
        "Tags": [{"Key": "team", "Value": "stage"}],
    }


if __name__ == "__main__":
    KINDS[REHEARSAL.name] = REHEARSAL
    home, play = Path(sys.argv[1]), sys.argv[2]
    (home / "jobs" / REHEARSAL.name / play).mkdir(parents=True, exist_ok=True)  # as for any supervisor
    supervise(home, REHEARSAL.name, play)
