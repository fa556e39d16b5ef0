"""Keys and other roles that a role can get: only those that its policies name, and only while it exists."""

from __future__ import annotations

import boto3
import pytest
from api_requests import ROLE, error_of, finished, new_name, processing_request, training_request
from test_role_rights import TRUST, RoleOfTest, allow, deny, outcome

from local_sagemaker.job_table import JobTable

INVALID = ("InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId")


@pytest.fixture
def role(backend):
    """Return a role without permissions."""
    return RoleOfTest(backend)


@pytest.fixture
def administrator(backend):
    """Create a role with a path that may do everything; return its ARN."""
    name, iam = new_name("Admin"), backend.client("iam")
    arn = iam.create_role(RoleName=name, Path="/high/", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    iam.attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    return arn


def client_of(backend, service, keys):
    """Return a client with the `Credentials` of a response."""
    return boto3.client(
        service,
        region_name="us-east-1",
        endpoint_url=backend.endpoint,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys.get("SessionToken"),
    )


# -- keys of the home's user ---------------------------------------------------------------------------------------


def test_a_role_gets_no_keys_of_the_user(backend, role):
    """A role may call neither GetSessionToken nor GetFederationToken, whatever its policies; the home's user may."""
    role.may(allow("*"))
    of_role, of_user = role.client("sts"), backend.client("sts")

    for sts in (of_role, stranger(backend)):
        assert error_of(sts.get_session_token) == (
            "AccessDenied",
            "Cannot call GetSessionToken with session credentials",
        )
        assert error_of(sts.get_federation_token, Name="fed") == (
            "AccessDenied",
            "Cannot call GetFederationToken with session credentials",
        )
    assert of_user.get_session_token()["Credentials"]
    assert of_user.get_federation_token(Name="fed")["Credentials"]


def stranger(backend):
    """Return an STS client of a role that the local IAM lacks; it may do everything else."""
    keys = backend.client("sts").assume_role(RoleArn=ROLE, RoleSessionName="again")["Credentials"]
    assert outcome(client_of(backend, "s3", keys).list_buckets) == "ok"
    return client_of(backend, "sts", keys)


def test_the_code_of_a_job_gets_no_keys_of_the_user(backend, role):
    """A job's keys are those of its role, so its script gets no session token."""
    sagemaker, name = backend.client("sagemaker"), new_name()
    code = "import boto3; boto3.client('sts').get_session_token()"
    script = f'python -c "{code}" 2>&1 | grep "Cannot call GetSessionToken with session credentials"'
    request = processing_request(name, RoleArn=role.arn)
    request["AppSpecification"]["ContainerEntrypoint"] = ["/bin/sh", "-c", script]
    sagemaker.create_processing_job(**request)

    assert finished(sagemaker, name, "Processing")["ProcessingJobStatus"] == "Completed"


def test_get_caller_identity_ignores_denials(role):
    """A denial of everything does not apply to GetCallerIdentity, but to every other operation."""
    role.may(deny("*"))
    sts = role.client("sts")

    assert sts.get_caller_identity()["Arn"].endswith(f"{role.name}/session")
    assert outcome(sts.get_access_key_info, AccessKeyId="ASIA" + "A" * 16) == "AccessDenied"


# -- other roles ---------------------------------------------------------------------------------------------------


def forged(arn):
    """Return ARNs that a reader of the last segment alone would take for the role."""
    name = arn.rpartition("/")[2]
    return [
        f"arn:aws:iam::123456789012:role/allowed/{name}",
        f"arn:aws:iam::123456789012:role/{name}",
        f"arn:aws:iam::210987654321:role/high/{name}",
        arn.replace(name, name.lower()),
        f"{arn}-none",
    ]


def test_a_role_assumes_only_roles_by_their_whole_arn(backend, role, administrator):
    """A role can assume another only by its exact ARN, with path, case and account, and only if it exists."""
    role.may(allow("sts:AssumeRole", "arn:aws:iam::*:role/allowed/*"))
    assume = role.client("sts").assume_role
    assert error_of(assume, RoleArn=forged(administrator)[0], RoleSessionName="again")[1] == role.refusal(
        "sts:AssumeRole", forged(administrator)[0], "because the IAM of this home has no role of exactly this ARN"
    )

    role.may(allow("sts:AssumeRole"))
    for arn in forged(administrator):
        assert outcome(assume, RoleArn=arn, RoleSessionName="again") == "AccessDenied", arn
    keys = assume(RoleArn=administrator, RoleSessionName="again")["Credentials"]
    assert outcome(client_of(backend, "s3", keys).list_buckets) == "ok"


def test_a_role_passes_only_roles_by_their_whole_arn(backend, role, administrator):
    """A role can pass another to a job only by its exact ARN."""
    sagemaker = role.client("sagemaker")
    role.may(allow("sagemaker:*"), allow("iam:PassRole"))
    create = sagemaker.create_training_job
    for arn in forged(administrator):
        assert outcome(create, **training_request(new_name(), RoleArn=arn)) == "AccessDeniedException", arn
        request = processing_request(new_name(), RoleArn=arn)
        assert outcome(sagemaker.create_processing_job, **request) == "AccessDeniedException", arn

    name = new_name()
    create(**training_request(name, RoleArn=administrator))
    finished(backend.client("sagemaker"), name)


def test_the_session_of_an_arn_that_differs_has_no_role(backend, role):
    """A session for an ARN with another path does not have the policies of the role with the same name."""
    role.may(deny("*"))
    arn = f"arn:aws:iam::123456789012:role/elsewhere/{role.name}"
    keys = backend.client("sts").assume_role(RoleArn=arn, RoleSessionName="again")["Credentials"]

    assert outcome(client_of(backend, "s3", keys).list_buckets) == "ok"
    assert outcome(role.client("s3").list_buckets) == "AccessDenied"


def test_services_get_only_roles_that_may_be_passed(backend, role, administrator):
    """Schedules, rules and targets need `iam:PassRole` for their role."""
    scheduler, events, name = role.client("scheduler"), role.client("events"), new_name()
    queue = "arn:aws:sqs:us-east-1:123456789012:q"
    schedule = {
        "Name": name,
        "ScheduleExpression": "rate(1 day)",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {"Arn": queue, "RoleArn": administrator},
    }
    calls = [
        (scheduler.create_schedule, schedule),
        (scheduler.update_schedule, schedule),
        (events.put_rule, {"Name": name, "ScheduleExpression": "rate(1 day)", "RoleArn": administrator}),
        (events.put_targets, {"Rule": name, "Targets": [{"Id": "1", "Arn": queue, "RoleArn": administrator}]}),
    ]
    for call, arguments in calls:
        passed = {
            "StringEquals": {"iam:PassedToService": f"{call.__self__.meta.service_model.service_name}.amazonaws.com"}
        }
        role.may(allow(["scheduler:*", "events:*"]))
        assert error_of(call, **arguments)[1] == role.refusal("iam:PassRole", administrator)
        role.may(allow(["scheduler:*", "events:*"]), allow("iam:PassRole", administrator, passed))
        assert outcome(call, **arguments) == "ok"
    backend.client("events").remove_targets(Rule=name, Ids=["1"])
    backend.client("events").delete_rule(Name=name)


# -- deleted roles -------------------------------------------------------------------------------------------------


def deleted(role):
    """Delete a role and its inline policies."""
    for policy in role.iam.list_role_policies(RoleName=role.name)["PolicyNames"]:
        role.iam.delete_role_policy(RoleName=role.name, PolicyName=policy)
    role.iam.delete_role(RoleName=role.name)


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "made again"])
def test_the_keys_of_a_deleted_role_are_no_keys(backend, role, again):
    """Keys of a deleted role are refused by all services, even after a role of its name is created again."""
    role.may(allow("*"))
    calls = [
        role.client("s3").list_buckets,
        role.client("sts").get_caller_identity,
        role.client("sagemaker").list_training_jobs,
        role.client("ssm").describe_parameters,
    ]
    assert {outcome(call) for call in calls} == {"ok"}
    deleted(role)
    if again:
        role.iam.create_role(RoleName=role.name, AssumeRolePolicyDocument=TRUST)
        role.may(allow("*"))
        keys = backend.client("sts").assume_role(RoleArn=role.arn, RoleSessionName="again")["Credentials"]
        assert outcome(client_of(backend, "s3", keys).list_buckets) == "ok"

    assert all(outcome(call) in INVALID for call in calls)


def test_a_job_whose_role_is_deleted_reads_nothing(backend, role, tmp_path):
    """A job whose role is deleted fails, and the reason names the role."""
    bucket, sagemaker, name = new_name("rights"), backend.client("sagemaker"), new_name()
    s3 = backend.client("s3")
    s3.create_bucket(Bucket=bucket)
    role.may(allow("*"))
    script = f"until [ -e {tmp_path}/gone ]; do sleep 0.05; done; echo x > /opt/ml/model/a"
    request = training_request(name, script, RoleArn=role.arn)
    request["OutputDataConfig"] = {"S3OutputPath": f"s3://{bucket}/out"}
    sagemaker.create_training_job(**request)
    deleted(role)
    (tmp_path / "gone").touch()

    found = finished(sagemaker, name)
    assert found["TrainingJobStatus"] == "Failed"
    assert f"the role {role.arn} is deleted" in found["FailureReason"]


def test_a_job_keeps_the_id_of_its_role(tmp_path):
    """The job table keeps the ID of a job's role; a job of an earlier version has none."""
    with JobTable(tmp_path) as jobs:
        jobs.create("training-job", "a", "arn", {}, role_id="AROA")
        jobs.create("training-job", "b", "arn", {})

        assert [jobs.get("training-job", name).role_id for name in ("a", "b")] == ["AROA", ""]
