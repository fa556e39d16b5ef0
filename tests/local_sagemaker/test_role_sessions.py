"""To which keys and roles a role comes: only to those that its policies name, and only as long as it is there."""

from __future__ import annotations

import boto3
import pytest
from api_requests import ROLE, error_of, finished, new_name, processing_request, training_request
from test_role_rights import TRUST, RoleOfTest, allow, deny, outcome

from local_sagemaker.job_table import JobTable

INVALID = ("InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId")


@pytest.fixture
def role(backend):
    """A role without any right."""
    return RoleOfTest(backend)


@pytest.fixture
def administrator(backend):
    """A role at a path that may do everything."""
    name, iam = new_name("Admin"), backend.client("iam")
    arn = iam.create_role(RoleName=name, Path="/high/", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    iam.attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    return arn


def client_of(backend, service, keys):
    """A client with the `Credentials` of an answer."""
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
    """`GetSessionToken` and `GetFederationToken` refuse the keys of a role, whatever it may do; not those of users."""
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
    """STS with a key of a role that this home's IAM does not have; it may do everything else."""
    keys = backend.client("sts").assume_role(RoleArn=ROLE, RoleSessionName="again")["Credentials"]
    assert outcome(client_of(backend, "s3", keys).list_buckets) == "ok"
    return client_of(backend, "sts", keys)


def test_the_code_of_a_job_gets_no_keys_of_the_user(backend, role):
    """The keys in a job are those of its role."""
    sagemaker, name = backend.client("sagemaker"), new_name()
    code = "import boto3; boto3.client('sts').get_session_token()"
    script = f'python -c "{code}" 2>&1 | grep "Cannot call GetSessionToken with session credentials"'
    request = processing_request(name, RoleArn=role.arn)
    request["AppSpecification"]["ContainerEntrypoint"] = ["/bin/sh", "-c", script]
    sagemaker.create_processing_job(**request)

    assert finished(sagemaker, name, "Processing")["ProcessingJobStatus"] == "Completed"


def test_who_asks_is_told_in_spite_of_a_denial(role):
    """Only `GetCallerIdentity` is above policies."""
    role.may(deny("*"))
    sts = role.client("sts")

    assert sts.get_caller_identity()["Arn"].endswith(f"{role.name}/session")
    assert outcome(sts.get_access_key_info, AccessKeyId="ASIA" + "A" * 16) == "AccessDenied"


# -- other roles ---------------------------------------------------------------------------------------------------


def forged(arn):
    """ARNs by which a reader of the last segment would find the role."""
    name = arn.rpartition("/")[2]
    return [
        f"arn:aws:iam::123456789012:role/allowed/{name}",
        f"arn:aws:iam::123456789012:role/{name}",
        f"arn:aws:iam::210987654321:role/high/{name}",
        arn.replace(name, name.lower()),
        f"{arn}-none",
    ]


def test_a_role_assumes_only_roles_by_their_whole_arn(backend, role, administrator):
    """Path, case and account count, and a role that does not exist is not assumed."""
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
    """The same for jobs."""
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
    """What the home's user names is another's role, and is not taken for the one of the same name."""
    role.may(deny("*"))
    arn = f"arn:aws:iam::123456789012:role/elsewhere/{role.name}"
    keys = backend.client("sts").assume_role(RoleArn=arn, RoleSessionName="again")["Credentials"]

    assert outcome(client_of(backend, "s3", keys).list_buckets) == "ok"
    assert outcome(role.client("s3").list_buckets) == "AccessDenied"


def test_services_get_only_roles_that_may_be_passed(backend, role, administrator):
    """`iam:PassRole` for schedules, rules and targets."""
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


# -- roles that are gone -------------------------------------------------------------------------------------------


def deleted(role):
    """Delete a role."""
    for policy in role.iam.list_role_policies(RoleName=role.name)["PolicyNames"]:
        role.iam.delete_role_policy(RoleName=role.name, PolicyName=policy)
    role.iam.delete_role(RoleName=role.name)


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "made again"])
def test_the_keys_of_a_deleted_role_are_no_keys(backend, role, again):
    """AWS refuses them in all services, also after a role of the same name was made, whose keys are good."""
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
    """Neither the download that waits, nor the code that runs."""
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
    """In the table; a home of an earlier version has none for its jobs."""
    with JobTable(tmp_path) as jobs:
        jobs.create("training-job", "a", "arn", {}, role_id="AROA")
        jobs.create("training-job", "b", "arn", {})

        assert [jobs.get("training-job", name).role_id for name in ("a", "b")] == ["AROA", ""]
