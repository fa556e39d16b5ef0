"""Specs of each kind of job that use every feature, and a place for their jobs."""

from tasks_lib.jobs.kinds import KINDS
from tasks_lib.jobs.request import outputs_of
from tasks_lib.jobs.s3_layout import TaskFolder
from tasks_lib.jobs.spec import JobPlace, JobSpec, ResolvedChannel

OPERATION = {name: kind.api.operation("Create") for name, kind in KINDS.items()}
COMMON = {
    "task": "fit",
    "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/image:1",
    "arguments": ("--verbose", "-x"),
    "environment": {"MODE": "fast"},
    "instance_types": ("ml.m5.large",),
    "instance_count": 2,
    "volume_size_gb": 31,
    "max_runtime_seconds": 3600,
    "subnets": ("subnet-0a", "subnet-0b"),
    "security_group_ids": ("sg-0a",),
    "volume_kms_key": "1234abcd-12ab-34cd-56ef-1234567890ab",
    "output_kms_key": "alias/outputs",
    "network_isolation": True,
    "encrypt_between_containers": True,
    "tags": {"team": "a"},
}
TRAINING = JobSpec(
    kind=KINDS["training"],
    entry_point="fit.py",
    hyperparameters={"C": 0.1, "name": "svm", "layers": [1, 2]},
    metrics={"auc": "auc=([0-9.]+)"},
    spot=True,
    max_wait_seconds=7200,
    **COMMON,
)
PROCESSING = JobSpec(kind=KINDS["processing"], command="echo $HOME | cat", **COMMON)
CHANNELS = (
    ResolvedChannel("model", "s3://bucket/m/model.tar.gz", "FullyReplicated", {}, extract=True, subdir="best"),
    ResolvedChannel("other", "s3://bucket/o/model.tar.gz", "FullyReplicated", {}, extract=True),
    ResolvedChannel("train", "s3://bucket/data/", "ShardedByS3Key", {}),
)
PLACE = JobPlace(
    job="fit-0123456789abcdef-1",
    folder=TaskFolder("bucket", "demo/fit/"),
    role="arn:aws:iam::123456789012:role/jobs",
    channels=CHANNELS,
    bundle_uri="s3://bucket/demo/_bundles/ab/",
    has_state=True,
    environment={"SSM_FINGERPRINT": "f" * 64},
    tags={"prefect-sagemaker:task": "fit"},
)


def outputs_at(spec, place, left, *, has_state):
    """Return the outputs of a job at a place."""
    return outputs_of(spec, place.folder, place.job, left, bundle_uri=place.bundle_uri, has_state=has_state)


SPECS = {"training": TRAINING, "processing": PROCESSING}
