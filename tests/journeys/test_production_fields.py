"""Every production field of the block, and overrides, as they arrive at SageMaker, IAM and S3."""

from __future__ import annotations

import json

import pytest
from journey_tools import counting

from tasks_lib import output_of, sagemaker_tasks
from tasks_lib.aws.policies import job_policy, trust_policy
from tasks_lib.errors import AccessDenied, ServiceError

pytestmark = pytest.mark.sampled(7, group="all")

KEY = "arn:aws:kms:us-east-1:123456789012:key/"
FIELDS = {
    "subnets": ["subnet-1", "subnet-2"],
    "security_group_ids": ["sg-1"],
    "volume_kms_key": f"{KEY}volume",
    "output_kms_key": f"{KEY}output",
    "network_isolation": True,
    "encrypt_between_containers": True,
    "tags": {"cost-center": "42", "team": "churn"},
    "instance_type": "ml.c5.xlarge",
    "instance_count": 2,
    "volume_size_gb": 77,
    "max_runtime_minutes": 90,
    "role": "arn:aws:iam::123456789012:role/team/jobs",
    "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/churn:1",
    "expected_bucket_owner": "123456789012",
    "prefix": "team/a",
}
VPC = {"Subnets": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]}


@pytest.fixture(scope="module")
def full_project(make_project, backend):
    """A project with all its fields set, whose role has the permissions that `ssm policy … job` prints."""
    project, iam = make_project(**FIELDS), backend.client("iam")
    iam.create_role(RoleName="jobs", Path="/team/", AssumeRolePolicyDocument=json.dumps(trust_policy()))
    iam.put_role_policy(RoleName="jobs", PolicyName="jobs", PolicyDocument=json.dumps(job_policy(project)))
    yield project
    iam.delete_role_policy(RoleName="jobs", PolicyName="jobs")
    iam.delete_role(RoleName="jobs")


@pytest.fixture(scope="module")
def full(full_project, backend):
    """SageMaker's descriptions of a training and a processing job of that project, and their results."""
    sm, client = sagemaker_tasks(full_project), backend.client("sagemaker")
    fit = sm.train("fit", command="true", spot=False, tags={"team": "fraud", "step": "fit"})
    clean = sm.process("clean", command="true")
    return {
        "train": (fit, client.describe_training_job(TrainingJobName=fit.job)),
        "process": (clean, client.describe_processing_job(ProcessingJobName=clean.job)),
    }


def found(said, path):
    for step in path.split("."):
        said = said[int(step)] if step.isdigit() else said[step]
    return said


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("VpcConfig", VPC),
        ("ResourceConfig.VolumeKmsKeyId", f"{KEY}volume"),
        ("OutputDataConfig.KmsKeyId", f"{KEY}output"),
        ("EnableNetworkIsolation", True),
        ("EnableInterContainerTrafficEncryption", True),
        ("EnableManagedSpotTraining", False),
        ("ResourceConfig.InstanceType", "ml.c5.xlarge"),
        ("ResourceConfig.InstanceCount", 2),
        ("ResourceConfig.VolumeSizeInGB", 77),
        ("StoppingCondition.MaxRuntimeInSeconds", 5400),
        ("RoleArn", FIELDS["role"]),
        ("AlgorithmSpecification.TrainingImage", FIELDS["image"]),
        ("CheckpointConfig.LocalPath", "/state"),
    ],
)
def test_a_field_is_in_the_training_jobs_description(path, expected, full):
    """Each production field of the block reaches the training job."""
    assert expected == found(full["train"][1], path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("NetworkConfig.VpcConfig", VPC),
        ("ProcessingResources.ClusterConfig.VolumeKmsKeyId", f"{KEY}volume"),
        ("ProcessingOutputConfig.KmsKeyId", f"{KEY}output"),
        ("NetworkConfig.EnableNetworkIsolation", True),
        ("NetworkConfig.EnableInterContainerTrafficEncryption", True),
        ("ProcessingResources.ClusterConfig.InstanceType", "ml.c5.xlarge"),
        ("ProcessingResources.ClusterConfig.InstanceCount", 2),
        ("ProcessingResources.ClusterConfig.VolumeSizeInGB", 77),
        ("StoppingCondition.MaxRuntimeInSeconds", 5400),
        ("RoleArn", FIELDS["role"]),
        ("AppSpecification.ImageUri", FIELDS["image"]),
    ],
)
def test_a_field_is_in_the_processing_jobs_description(path, expected, full):
    """Each production field of the block reaches the processing job."""
    assert expected == found(full["process"][1], path)


def test_tags_of_project_and_call_are_on_the_job(full, backend):
    """A job has the tags of the project and of the call; the call's win."""
    tags = {}
    for kind, (result, _) in full.items():
        rows = backend.client("sagemaker").list_tags(ResourceArn=result.arn)["Tags"]
        tags[kind] = {row["Key"]: row["Value"] for row in rows if not row["Key"].startswith("prefect-sagemaker:")}

    assert tags["train"] == {"cost-center": "42", "team": "fraud", "step": "fit"}
    assert tags["process"] == {"cost-center": "42", "team": "churn"}


def test_everything_lies_below_the_prefix(full, full_project):
    """Outputs, state and code of a project with a prefix are below the prefix."""
    folder = f"s3://{full_project.bucket}/team/a/{full_project.project}/"

    assert folder == full_project.uri
    for result, _ in full.values():
        assert all(uri.startswith(folder) for uri in result.outputs.values())


def test_spot_waits_at_least_as_long_as_it_runs(sm, backend):
    """A spot job's longest wait is at least as long as its longest run, also if no wait is given."""
    client = backend.client("sagemaker")
    for number, (wait, seconds) in enumerate([(None, 1020), (60, 3600)]):
        job = sm.train(f"fit-{number}", command="true", spot=True, max_runtime_minutes=17, max_wait_minutes=wait).job
        said = client.describe_training_job(TrainingJobName=job)

        assert said["EnableManagedSpotTraining"]
        assert {"MaxRuntimeInSeconds": 1020, "MaxWaitTimeInSeconds": seconds} == said["StoppingCondition"]


def test_overrides_reach_the_training_job(project, backend):
    """`overrides` are merged deeply, the call's over the bound ones; `None` removes a field."""
    bound = sagemaker_tasks(
        project,
        overrides={"RetryStrategy": {"MaximumRetryAttempts": 3}, "ResourceConfig": {"KeepAlivePeriodInSeconds": 5}},
    )
    overrides = {
        "ResourceConfig": {"KeepAlivePeriodInSeconds": 600, "VolumeSizeInGB": None},
        "ExperimentConfig": {"RunName": "run-1"},
        "AlgorithmSpecification": {"MetricDefinitions": None},
    }
    result = bound.train("fit", command="echo auc=1", spot=False, metrics={"auc": "auc=(.)"}, overrides=overrides)
    said = backend.client("sagemaker").describe_training_job(TrainingJobName=result.job)

    assert said["RetryStrategy"] == {"MaximumRetryAttempts": 3}
    assert said["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 600
    assert "VolumeSizeInGB" not in said["ResourceConfig"]
    assert said["ExperimentConfig"] == {"RunName": "run-1"}
    assert result.fingerprint == said["Environment"]["SSM_FINGERPRINT"]
    assert "MetricDefinitions" not in said["AlgorithmSpecification"]
    assert result.metrics == {"auc": 1.0}


def test_an_uncompressed_model_is_a_result(sm):
    """1. Model and output are prefixes. 2. The step is skipped. 3. The next step reads the files themselves."""
    over = {"OutputDataConfig": {"CompressionType": "NONE"}}
    command = "cd $SM_MODEL_DIR; mkdir best; echo w > best/weights; echo {} > $SM_OUTPUT_DATA_DIR/report.json"
    fit, again = (sm.train("fit", command=command, overrides=over) for _ in range(2))
    copied = sm.process(
        "copy",
        command="cp -r $SM_CHANNEL_MODEL/weights $SM_OUTPUT_DATA_DIR",
        inputs={"model": output_of(fit, subdir="best")},
    )

    assert fit.model.uri.endswith(f"/{fit.job}/output/model/")
    assert (fit.model.read_text("best/weights"), fit.output.read_json("report.json")) == ("w\n", {})
    assert (again.cached, again.outputs) == (True, fit.outputs)
    assert copied.output.read_text("weights") == "w\n"


def test_a_further_channel_reaches_the_job(sm, backend, project):
    """A channel of the overrides reaches the job beside its code; one of a file system is refused here by its name."""
    backend.client("s3").put_object(Bucket=project.bucket, Key="lake/b.txt", Body=b"b")
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{project.bucket}/lake/"}
    over = {"InputDataConfig": [{"ChannelName": "lake", "DataSource": {"S3DataSource": source}}]}
    command = 'cat $SM_CHANNEL_LAKE/b.txt > $SM_MODEL_DIR/found; echo " $SM_CHANNELS" >> $SM_MODEL_DIR/found'
    result = sm.train("fit", command=command, overrides=over)
    system = {
        "FileSystemId": "fs-0123456789abcdef0",
        "FileSystemAccessMode": "ro",
        "FileSystemType": "EFS",
        "DirectoryPath": "/data",
    }
    on_efs = {"InputDataConfig": [{"ChannelName": "lake", "DataSource": {"FileSystemDataSource": system}}]}

    assert result.model.read_text("found") == 'b ["lake"]\n'
    with pytest.raises(ServiceError, match="FileSystemDataSource of channel lake is not built in local_sagemaker"):
        sm.train("fit", command=command, overrides=on_efs)


def test_instance_groups_reach_the_job(sm):
    """In a heterogeneous cluster each host knows its group, and the result counts all hosts."""
    groups = [
        {"InstanceGroupName": "cpu", "InstanceType": "ml.c5.xlarge", "InstanceCount": 1},
        {"InstanceGroupName": "gpu", "InstanceType": "ml.g5.xlarge", "InstanceCount": 1},
    ]
    command = "echo $SM_CURRENT_INSTANCE_GROUP > $SM_MODEL_DIR/$SM_CURRENT_HOST"
    result, moved = (
        sm.train("fit", command=command, overrides={"ResourceConfig": {"InstanceGroups": given}})
        for given in (groups, [groups[0] | {"InstanceType": "ml.c5.2xlarge"}, groups[1]])
    )

    assert [result.model.read_text(f"algo-{host}") for host in (1, 2)] == ["cpu\n", "gpu\n"]
    assert (result.instance_type, result.instance_count) == ("ml.c5.xlarge+ml.g5.xlarge", 2)
    assert moved.cached


def test_overrides_reach_the_processing_job(sm, backend):
    """`overrides` of a processing task are merged deeply into its request."""
    overrides = {
        "NetworkConfig": {"EnableNetworkIsolation": True},
        "ExperimentConfig": {"TrialComponentDisplayName": "clean"},
    }
    job = sm.process("clean", command="true", overrides=overrides).job
    said = backend.client("sagemaker").describe_processing_job(ProcessingJobName=job)

    assert said["NetworkConfig"]["EnableNetworkIsolation"]
    assert said["ExperimentConfig"] == {"TrialComponentDisplayName": "clean"}


def test_overrides_that_change_the_result_run_again(sm):
    """An override is part of the work if it can change the result, and not if it only changes the price."""
    first = sm.train("fit", command="true")
    cheaper = sm.train("fit", command="true", overrides={"ResourceConfig": {"VolumeSizeInGB": None}, "Tags": None})
    other = sm.train("fit", command="true", overrides={"AlgorithmSpecification": {"TrainingInputMode": "FastFile"}})

    assert (first.job, True) == (cheaper.job, cheaper.cached)
    assert other.reason == 'ran: override "AlgorithmSpecification.TrainingInputMode" added'


# -- bucket owners and roles ---------------------------------------------------------------------------------------


def test_a_bucket_of_another_account_is_refused(make_project, backend):
    """With `expected_bucket_owner`, S3 refuses another account's bucket: nothing is read, written or run."""
    sm = sagemaker_tasks(make_project(expected_bucket_owner="999999999999"))
    with counting(backend) as made, pytest.raises(AccessDenied, match="read s3://"):
        sm.train("fit", command="true")

    assert made == {"s3:GetObject": 1}


@pytest.mark.always
def test_a_made_role_has_least_privilege_and_its_boundary(make_project, backend):
    """Without a named role, a bounded one is made that trusts SageMaker and may access only the project's folder."""
    boundary = "arn:aws:iam::123456789012:policy/boundary"
    project = make_project(role=None, permissions_boundary=boundary, prefix="team/a")
    iam = backend.client("iam")
    iam.create_policy(
        PolicyName="boundary",
        PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        ),
    )
    job = sagemaker_tasks(project).train("fit", command="true").job
    arn = backend.client("sagemaker").describe_training_job(TrainingJobName=job)["RoleArn"]
    role = iam.get_role(RoleName=arn.rpartition("/")[2])["Role"]
    (name,) = iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
    policy = iam.get_role_policy(RoleName=role["RoleName"], PolicyName=name)["PolicyDocument"]
    allowed = [statement for statement in policy["Statement"] if any("s3:" in action for action in statement["Action"])]

    assert boundary == role["PermissionsBoundary"]["PermissionsBoundaryArn"]
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert (trust["Action"], trust["Principal"]) == ("sts:AssumeRole", {"Service": "sagemaker.amazonaws.com"})
    assert iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"] == []
    folder = f"team/a/{project.project}/*"
    bucket = f"arn:aws:s3:::{project.bucket}"
    assert {f"{bucket}/{folder}", bucket} == {resource for statement in allowed for resource in statement["Resource"]}
    (listing,) = [statement for statement in allowed if "s3:ListBucket" in statement["Action"]]
    assert {"StringLike": {"s3:prefix": [folder]}} == listing["Condition"]
    assert not [action for statement in policy["Statement"] for action in statement["Action"] if action.endswith(":*")]


def test_a_made_role_is_used_again(make_project, backend):
    """A second job uses the role that the first one made."""
    sm = sagemaker_tasks(make_project(role=None))
    sm.train("fit", command="true")
    with counting(backend) as made:
        sm.train("other", command="true")

    assert "iam:CreateRole" not in made


def test_a_role_by_name_is_looked_up(make_project, backend):
    """A role that is given by its name is looked up, and an unknown one is refused before any job."""
    iam, name = backend.client("iam"), make_project().project
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    iam.attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    job = sagemaker_tasks(make_project(role=name)).train("fit", command="true").job

    assert arn == backend.client("sagemaker").describe_training_job(TrainingJobName=job)["RoleArn"]
    with counting(backend) as made, pytest.raises(Exception, match="find the role no-such-role"):
        sagemaker_tasks(make_project(role="no-such-role")).train("fit", command="true")
    assert "sagemaker:CreateTrainingJob" not in made


def test_projects_that_differ_in_their_prefix_do_not_share_a_role(make_project, backend):
    """Two projects of one name under two prefixes have two roles: a role may access only its project's folder."""
    first = make_project(role=None, prefix="a")
    arns = set()
    for project in (first, first.model_copy(update={"prefix": "b"})):
        job = sagemaker_tasks(project).train("fit", command="true").job
        arns.add(backend.client("sagemaker").describe_training_job(TrainingJobName=job)["RoleArn"])

    assert len(arns) == 2


@pytest.mark.exhaustive
def test_a_role_is_assumed_with_its_external_id(make_aws_project, backend, monkeypatch):
    """A project whose credentials name a role and an external id works with the role's temporary credentials."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", backend.endpoint)  # prefect-aws takes no endpoint for its AssumeRole
    arn = "arn:aws:iam::123456789012:role/deployer"
    parameters = {"assume_role_arn": arn, "assume_role_kwargs": {"ExternalId": "team-42"}}
    project = make_aws_project(backend.endpoint, parameters=parameters)
    with counting(backend) as made:
        result = sagemaker_tasks(project).train("fit", command="echo auc=0.5", metrics={"auc": "auc=(.*)"})

    assert result.metrics == {"auc": 0.5}
    assert made["sts:AssumeRole"] >= 1
    keys = project.client("s3")._request_signer._credentials.get_frozen_credentials()
    assert (keys.access_key, keys.token) != ("local", None)


@pytest.mark.always
def test_a_project_on_aws_runs_the_same_flow(make_aws_project, backend):
    """A project that is configured as on AWS, with account and region looked up, runs and skips."""
    sm = sagemaker_tasks(make_aws_project(backend.endpoint))
    first = sm.train("fit", command="true")

    assert (first.job, True) == ((again := sm.train("fit", command="true")).job, again.cached)
    assert not first.cached
