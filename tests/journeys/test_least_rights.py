"""The policy that `ssm policy` prints for a caller, held against every request that real work makes."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from iam_rights import allows, needs
from journey_tools import Gate, in_background, jobs_of
from waiting import wait_until

from tasks_lib import output_of, sagemaker_tasks
from tasks_lib.aws.jobs import Jobs
from tasks_lib.aws.policies import caller_policy
from tasks_lib.errors import AccessDenied, InputNotReady, JobStopped

# boto3 sends it when a part of a large file cannot be sent: not without a fault of S3's.
NOT_SEEN = "TakeBackHalfAnUpload"
PARTS_BEGIN_AT = 8 << 20
KEEP_STATE = 'echo 1 > "$SSM_STATE/step"; echo 2 > "$SM_MODEL_DIR/model"; echo loss=0.5'


def note_needs(project):
    """Return a list that gets, from now on, what each request of a project's clients needs on AWS."""
    found = []

    def note(params, model, **_):
        found.extend(needs(model.service_model.service_name, model.name, params, project.project))

    for service in ("s3", "sagemaker", "logs", "iam", "sts", "service-quotas"):
        project.client(service).meta.events.register("provide-client-params", note)
    return found


def refuse_once(project, operation):
    """Let AWS refuse the next call of an operation of IAM's."""
    events, name = project.client("iam").meta.events, f"before-call.iam.{operation}"

    def refuse(**_):
        events.unregister(name, unique_id="refuse")
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "not authorized"}}, operation)

    events.register(name, refuse, unique_id="refuse")


def all_kinds_of_work(project, backend, folder):
    """Do whatever a caller does: run, skip, change, force, clean, ask in vain, stop, and read what was left."""
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
    for kind, call in (("training", sm.train), ("processing", sm.process)):
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
    """Each request of all kinds of work is allowed, and without any one of its statements some would not be."""
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
