"""The policy that `ssm policy` prints for a caller, checked against every request of real work."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError
from iam_rights import allows, needs
from journey_tools import Gate, in_background, jobs_of
from waiting import wait_until

from tasks_lib import output_of, sagemaker_tasks
from tasks_lib.aws.jobs import Jobs
from tasks_lib.aws.policies import caller_policy, job_policy, trust_policy
from tasks_lib.errors import AccessDenied, InputNotReady, JobFailed, JobStopped
from tasks_lib.jobs.kinds import PROCESSING, TRAINING

# boto3 sends it if a part of a large file cannot be uploaded, which needs a fault of S3.
NOT_SEEN = "TakeBackHalfAnUpload"
PARTS_BEGIN_AT = 8 << 20
KEEP_STATE = 'echo 1 > "$SSM_STATE/step"; echo 2 > "$SM_MODEL_DIR/model"; echo loss=0.5'


def note_needs(project):
    """Return a list that collects, from now on, the permissions that a project's requests need on AWS."""
    found = []

    def note(params, model, **_):
        found.extend(needs(model.service_model.service_name, model.name, params, project.project))

    for service in ("s3", "sagemaker", "logs", "iam", "sts", "service-quotas"):
        project.client(service).meta.events.register("provide-client-params", note)
    return found


def refuse_once(project, operation):
    """Make AWS refuse the next call of an operation of IAM."""
    events, name = project.client("iam").meta.events, f"before-call.iam.{operation}"

    def refuse(**_):
        events.unregister(name, unique_id="refuse")
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "not authorized"}}, operation)

    events.register(name, refuse, unique_id="refuse")


def all_kinds_of_work(project, backend, folder):
    """Do all that a caller does: run, skip, change, force, clean, fail, stop, and read what was left."""
    sm = sagemaker_tasks(project)
    folder.mkdir()
    (folder / "small").write_text("1")
    (folder / "large").write_bytes(bytes(PARTS_BEGIN_AT + 1))
    copy = {"command": 'cp -r "$SM_CHANNEL_RAW"/. "$SM_OUTPUT_DATA_DIR"', "inputs": {"raw": folder}}
    refuse_once(project, "PutRolePolicy")
    with pytest.raises(AccessDenied):
        sm.process("clean", **copy)
    for text in ("1", "1", "2"):
        (folder / "small").write_text(text)
        clean = sm.process("clean", **copy)
    fit = {"command": KEEP_STATE, "inputs": {"data": output_of(clean)}, "metrics": {"loss": "loss=(.*)"}}
    sm.train("fit", **fit)
    result = sm.train("fit", clean_state=True, **fit)
    result.model.download(folder / "model")
    with pytest.raises(InputNotReady):
        sm.train("late", command="true", inputs={"data": output_of("never")})
    for kind, call in ((TRAINING, sm.train), (PROCESSING, sm.process)):
        stop_one(project, backend, (kind, call), Gate(folder.parent / f"gate-{kind}"))


def stop_one(project, backend, what, gate):
    """Run a job that does not end, and stop it as a cancelled flow does."""
    kind, call = what
    with in_background(lambda: call(f"endless-{kind}", command=gate.wait)) as running:
        try:
            [name] = wait_until(lambda: jobs_of(backend, project, f"endless-{kind}"), "the job")
            Jobs(project).stop(Jobs(project).describe(kind, name))
            with pytest.raises(JobStopped):
                running.result()
        finally:
            gate.open()


def test_the_callers_policy_is_enough_and_no_more(make_aws_project, backend, tmp_path):
    """The policy allows each request of all kinds of work, and no statement or action of it is superfluous."""
    project = make_aws_project(backend.endpoint, role=None)
    policy = caller_policy(project)
    seen = note_needs(project)
    all_kinds_of_work(project, backend, tmp_path / "raw")

    assert [need for need in seen if not allows(policy, need)] == []

    for statement in policy["Statement"]:
        rest = {"Statement": [other for other in policy["Statement"] if other is not statement]}
        assert statement["Sid"] == NOT_SEEN or not all(allows(rest, need) for need in seen), statement["Sid"]
        unused = set(statement["Action"]) - {need.action for need in seen}
        assert statement["Sid"] == NOT_SEEN or not unused, unused


def read_all_that_the_api_offers(project, backend, make_project, caller):
    """Run a job that reads another bucket, another project's output and a secret; return its result."""
    name = f"{project.project}-other"
    backend.client("s3").create_bucket(Bucket=name)
    backend.client("s3").put_object(Bucket=name, Key="raw/a", Body=b"1")
    backend.client("secretsmanager").create_secret(Name=f"{name}/db", SecretString="a-long-secret")
    features = make_project(project=name)
    caller.gets_policy_of(project, [f"s3://{name}/raw/", features.uri])
    sagemaker_tasks(features).process("embed", command='echo 2 > "$SM_OUTPUT_DATA_DIR/b"')
    return sagemaker_tasks(project).process(
        "join",
        command='cat "$SM_CHANNEL_RAW/a" "$SM_CHANNEL_OTHER/b" > "$SM_OUTPUT_DATA_DIR/c"; printf %s "${#DB}" >> '
        '"$SM_OUTPUT_DATA_DIR/c"',
        inputs={"raw": f"s3://{name}/raw/", "other": output_of("embed", project=name)},
        secrets={"DB": f"secretsmanager:{name}/db"},
    )


def test_the_made_role_reads_what_the_api_offers(make_project, backend, caller, tmp_path):
    """A role that was made for less is extended to another bucket's input, another project's output, and a secret."""
    project = make_project()
    sm = sagemaker_tasks(project)
    sm.process("first", command="true")
    result = read_all_that_the_api_offers(project, backend, make_project, caller)
    result.output.download(tmp_path / "out")

    assert (tmp_path / "out" / "c").read_text() == "12\n13"


def test_a_named_role_without_a_permission(make_project, backend, caller):
    """If the role lacks a permission, the job fails as on AWS; with the policy for the same reads it completes."""
    project, iam = make_project(), backend.client("iam")
    name, other = f"role-{project.project}", f"{project.project}-other"
    backend.client("s3").create_bucket(Bucket=other)
    backend.client("s3").put_object(Bucket=other, Key="raw/a", Body=b"1")
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust_policy()))["Role"]["Arn"]
    caller.gets_policy_of(project.model_copy(update={"role": role}), [f"s3://{other}/raw/"])
    sm, call = sagemaker_tasks(project.model_copy(update={"role": role})), {"inputs": {"raw": f"s3://{other}/raw/"}}

    def may(policy):
        iam.put_role_policy(RoleName=name, PolicyName="jobs", PolicyDocument=json.dumps(policy))

    may(job_policy(project))
    with pytest.raises(JobFailed, match="s3:ListBucket"):
        sm.train("fit", command="true", **call)
    may(job_policy(project, [f"s3://{other}/raw/"]))
    assert sm.train("fit", command="true", **call).status == "Completed"
