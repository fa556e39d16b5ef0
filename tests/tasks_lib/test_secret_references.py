"""References to secrets: their grammar, how they are sent, and their effect on fingerprint and permissions."""

from __future__ import annotations

import json
import re

import pytest
from aws_doubles import make_block
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib import sagemaker_tasks
from tasks_lib.aws.policies import job_policy
from tasks_lib.errors import InvalidTask
from tasks_lib.jobs.fingerprint import differences, fingerprint, ingredients
from tasks_lib.jobs.kinds import kind_of
from tasks_lib.jobs.request import to_request
from tasks_lib.jobs.s3_layout import TaskFolder
from tasks_lib.jobs.secret_references import check_secrets, secret_variables
from tasks_lib.jobs.spec import JobPlace, JobSpec
from worker_toolkit.secret_references import SecretReference

SECRET_ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:team/db-AbCdEf"
PARAMETER_ARN = "arn:aws-us-gov:ssm:us-gov-west-1:123456789012:parameter/team/token"


def checked(secrets, **changed):
    """Return the checked references of a task that has code and a network."""
    usual = {"environment": {}, "ships_code": True, "network_isolation": False, "overrides": {}}
    return check_secrets("fit", secrets, **(usual | changed))


def spec(**changed):
    """Return the spec of a small training job."""
    common = {"kind": kind_of("training"), "task": "fit", "image": "image:1", "command": "true", "instance_count": 1}
    where = {"volume_size_gb": 30, "max_runtime_seconds": 60}
    names = {"instance_types": ("ml.m5.large",)} if "instance_types" in JobSpec.model_fields else {}
    return JobSpec(**(common | where | (names or {"instance_type": "ml.m5.large"}) | changed))


def request(the_spec):
    """Return the request of a job with this spec."""
    place = JobPlace("fit-1", TaskFolder("b", "demo/fit/"), "role", (), None, False, {"SSM_TASK": "fit"}, {})
    return to_request(the_spec, place)


# -- grammar -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("secretsmanager:team/db", ("secretsmanager", "team/db", "", "")),
        ("secretsmanager:rds!db-1#user name", ("secretsmanager", "rds!db-1", "", "user name")),
        (f"{SECRET_ARN}#a#b", ("secretsmanager", "", SECRET_ARN, "a#b")),
        ("ssm:/team/token", ("ssm", "/team/token", "", "")),
        ("ssm:token:3", ("ssm", "token:3", "", "")),
        (PARAMETER_ARN, ("ssm", "", PARAMETER_ARN, "")),
    ],
)
def test_references(text, expected):
    """Each form of a reference is parsed into service, name or ARN, and key."""
    found = SecretReference.parse(text)

    assert expected == (found.service, found.name, found.arn, found.key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hunter2",
        "ssm:",
        "ssm:a b",
        "ssm:/x#",
        "secretsmanager:",
        "s3://bucket/secret",
        "arn:aws:s3:::bucket/key",
        "arn:aws:secretsmanager:eu-west-1:123:secret:x",
        "arn:aws:iam::123456789012:role/x",
        " ssm:/x",
        "ssm:/x\n",
        None,
        7,
    ],
)
def test_what_is_no_reference(text):
    """An invalid reference is refused by its variable's name and never shown, since it may be the secret itself."""
    with pytest.raises(InvalidTask) as caught:
        checked({"DB_PASSWORD": text})

    assert "'DB_PASSWORD'" in caught.value.message
    assert text == "" or str(text) not in caught.value.message


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=B", "SM_X", "SSM_TASK", "SAGEMAKER_JOB_NAME", 3])
def test_names_of_variables(name):
    """An invalid or reserved variable name is refused before anything is made."""
    with pytest.raises(InvalidTask):
        checked({name: "ssm:/x"})


def test_one_name_one_value():
    """A variable is a secret or a plain one, not both."""
    with pytest.raises(InvalidTask, match="both among its secrets and in its environment"):
        checked({"A": "ssm:/x"}, environment={"A": "plain"})


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"network_isolation": True}, "network isolation"),
        ({"overrides": {"EnableNetworkIsolation": True}}, "network isolation"),
        ({"overrides": {"NetworkConfig": {"EnableNetworkIsolation": True}}}, "network isolation"),
        ({"ships_code": False}, "runs without our bootstrap"),
    ],
)
def test_a_job_that_could_not_read_them(changed, why):
    """Secrets of a job that could not read them are an error; without secrets there is none."""
    with pytest.raises(InvalidTask, match=why):
        checked({"A": "ssm:/x"}, **changed)

    assert checked({}, **changed) == {}


@pytest.mark.parametrize(
    "overrides",
    [
        {"EnableNetworkIsolation": False},
        {"EnableNetworkIsolation": None},
        {"NetworkConfig": {"EnableNetworkIsolation": False}},
        {"NetworkConfig": None},
    ],
)
def test_a_task_that_leaves_the_isolation_of_its_project(overrides):
    """Overrides that disable the project's network isolation allow secrets."""
    assert checked({"A": "ssm:/x"}, network_isolation=True, overrides=overrides) == {"A": "ssm:/x"}


def test_an_isolated_project_makes_nothing(project, sagemaker):
    """Secrets in an isolated project are refused before a bucket is written or a job is created, for each kind."""
    sm = sagemaker_tasks(make_block(network_isolation=True), secrets={"A": "ssm:/x"})
    for call in (sm.train, sm.process):
        with pytest.raises(InvalidTask, match="network isolation"):
            call.fn("fit", command="true")


# -- variables -----------------------------------------------------------------------------------------------------

words = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_", min_size=1, max_size=30)
paths = st.text("abcdefghijklmnopqrstuvwxyz0123456789/_.-", min_size=1, max_size=300)


@given(st.dictionaries(words, paths.map(lambda path: f"ssm:/{path}"), max_size=12))
def test_variables_of_references(secrets):
    """References fit in the variables of a processing job, and are restored from them.

    Their order does not matter.
    """
    found = secret_variables(secrets)
    names = ["SSM_SECRETS", *(f"SSM_SECRETS_{number}" for number in range(2, len(found) + 1))][: len(found)]

    assert names == list(found)
    assert all(0 < len(value) <= 256 for value in found.values())
    assert secrets == json.loads("".join(found.values()) or "{}")
    assert found == secret_variables(dict(reversed(secrets.items())))


@pytest.mark.parametrize("kind", ["training", "processing"])
def test_the_request_has_the_references(kind):
    """The request has the references in its environment, and no additional variable without secrets."""
    environment = request(spec(kind=kind_of(kind), secrets={"A": "ssm:/x"}))["Environment"]

    assert environment == {"SSM_SECRETS": '{"A":"ssm:/x"}', "SSM_TASK": "fit"}
    assert request(spec(kind=kind_of(kind)))["Environment"] == {"SSM_TASK": "fit"}


# -- fingerprint ---------------------------------------------------------------------------------------------------


def parts(**secrets):
    return ingredients(spec(secrets=secrets), None, (), 1)


def test_where_a_secret_is_kept_is_a_part_of_the_work():
    """Another reference changes the fingerprint, with its reason; without secrets the fingerprint is as before."""
    one, other, none = parts(A="ssm:/x"), parts(A="ssm:/y"), parts()

    assert len({fingerprint(each) for each in (one, other, none)}) == 3
    assert differences(one, other) == ['secret "A" is kept elsewhere (ssm:/x -> ssm:/y)']
    assert differences(none, one) == ['secret "A" added']
    assert differences(one, none) == ['secret "A" removed']
    assert "secrets" not in none


# -- permissions ---------------------------------------------------------------------------------------------------


def test_the_permissions_of_the_jobs_role():
    """The role may read these secrets only. Wildcards stand for the end of a secret's ARN, which its name lacks."""
    references = ["secretsmanager:team/db#user", SECRET_ARN, "ssm:/team/token:3", PARAMETER_ARN, "ssm:plain"]
    found = {each["Sid"]: each for each in job_policy(make_block(region="eu-west-1"), (), references)["Statement"]}

    assert found["ReadSecrets"]["Action"] == ["secretsmanager:GetSecretValue"]
    assert found["ReadSecrets"]["Resource"] == [
        "arn:aws:secretsmanager:eu-west-1:*:secret:team/db-??????",
        SECRET_ARN,
    ]
    assert found["ReadParameters"]["Action"] == ["ssm:GetParameter"]
    assert found["ReadParameters"]["Resource"] == [
        "arn:aws:ssm:eu-west-1:*:parameter/team/token",
        PARAMETER_ARN,
        "arn:aws:ssm:eu-west-1:*:parameter/plain",
    ]


def test_no_permissions_without_secrets():
    """A project without secrets has no permission to read any."""
    assert not re.search("ssm:|secretsmanager:", json.dumps(job_policy(make_block())))


def test_a_policy_of_no_reference():
    """An invalid reference is refused and not shown."""
    with pytest.raises(InvalidTask) as caught:
        job_policy(make_block(), (), ["hunter2"])

    assert "hunter2" not in str(caught.value)
