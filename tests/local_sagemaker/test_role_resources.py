"""Resources of a role's requests: permissions apply to the resources that the operation reads, each by its ARN."""

from __future__ import annotations

import json
import uuid

import pytest
from api_requests import error_of, new_name, training_request
from test_forged_calls import FORM, JSON, send
from test_role_rights import TRUST, RoleOfTest, allow, deny, outcome

ACCOUNT = "123456789012"
REFUSED = {"AccessDenied", "AccessDeniedException"}
EAST = f"us-east-1:{ACCOUNT}"


@pytest.fixture
def role(backend):
    """Return a role without permissions."""
    return RoleOfTest(backend)


def assert_needs(role, call, arguments, action, resource, *, more=()):
    """Check that a call fails with permission on another resource or with a denial, and passes with the permission."""
    other = resource.replace(ACCOUNT, "210987654321") if resource != "*" else "arn:aws:s3:::x"
    role.may(*more, allow(action, other))
    missing = error_of(call, **arguments)
    role.may(*more, allow("*"), deny(action, resource))
    denied = error_of(call, **arguments)
    role.may(*more, allow(action, resource))
    found = outcome(call, **arguments)

    assert f"is not authorized to perform: {action}" in missing[1]
    assert "with an explicit deny" in denied[1]
    assert missing[0] in REFUSED
    # moto may answer that something is missing or not implemented; what counts is that the request reached it.
    assert found not in REFUSED, found


# -- the resource of each operation --------------------------------------------------------------------------------


def key_of(backend):
    """Create a KMS key; return its ARN."""
    return backend.client("kms").create_key()["KeyMetadata"]["Arn"]


LOGS = "logs:R:log-group:/new"
GROUP = "scheduler:R:schedule-group/new"
DOCUMENT = {"ResourceType": "Document", "ResourceId": "new"}
TAGS = [{"Key": "a", "Value": "b"}]


def named(service, method, resource, **arguments):
    """Return a test case whose resource is named by a member, as `new` in the ARN."""
    return pytest.param(service, method, resource, arguments, id=f"{service}-{method}")


@pytest.mark.parametrize(
    ("service", "method", "resource", "arguments"),
    [
        named("logs", "get_log_events", "logs:R:log-group:/new:*", logGroupIdentifier="/new", logStreamName="s"),
        named("logs", "filter_log_events", "logs:R:log-group:/new:*", logGroupIdentifier=f"arn:aws:{LOGS}"),
        named("secretsmanager", "create_secret", "secretsmanager:R:secret:new-??????", Name="new", SecretString="s"),
        named("sqs", "create_queue", "sqs:R:new", QueueName="new"),
        named("sqs", "get_queue_url", "sqs:R:new", QueueName="new"),
        named("sns", "create_topic", "sns:R:new", Name="new"),
        named("sns", "list_tags_for_resource", "sns:R:new", ResourceArn="arn:aws:sns:R:new"),
        named("sns", "tag_resource", "sns:R:new", ResourceArn="arn:aws:sns:R:new", Tags=TAGS),
        named("ssm", "list_tags_for_resource", "ssm:R:parameter/new", ResourceType="Parameter", ResourceId="/new"),
        named("ssm", "add_tags_to_resource", "ssm:R:document/new", **DOCUMENT, Tags=TAGS),
        named("ecr", "describe_repositories", "ecr:R:repository/new", repositoryNames=["new"]),
        named("ecr", "describe_repositories", "ecr:R:repository/*"),
        named("ecr", "list_tags_for_resource", "ecr:R:repository/new", resourceArn="arn:aws:ecr:R:repository/new"),
        named("cloudwatch", "delete_alarms", "cloudwatch:R:alarm:new", AlarmNames=["new"]),
        named("cloudwatch", "describe_alarms", "cloudwatch:R:alarm:*"),
        named("cloudwatch", "describe_alarm_history", "cloudwatch:R:alarm:new", AlarmName="new"),
        named("cloudwatch", "get_dashboard", "cloudwatch::A:dashboard/new", DashboardName="new"),
        named("scheduler", "get_schedule", "scheduler:R:schedule/default/new", Name="new"),
        named("scheduler", "delete_schedule", "scheduler:R:schedule/group/new", Name="new", GroupName="group"),
        named("scheduler", "create_schedule_group", "scheduler:R:schedule-group/new", Name="new"),
        named("scheduler", "list_tags_for_resource", GROUP, ResourceArn=f"arn:aws:{GROUP}"),
        named("events", "put_rule", "events:R:rule/new", Name="new", ScheduleExpression="rate(1 day)"),
        named("events", "list_targets_by_rule", "events:R:rule/bus/new", Rule="new", EventBusName="bus"),
        named("events", "create_event_bus", "events:R:event-bus/new", Name="new"),
        named("iam", "create_user", "iam::A:user/high/new", UserName="new", Path="/high/"),
        named("iam", "get_user", "iam::A:user/new", UserName="new"),
        named("iam", "create_role", "iam::A:role/a/new", RoleName="new", Path="/a/", AssumeRolePolicyDocument=TRUST),
        named("iam", "create_policy", "iam::A:policy/new", PolicyName="new", PolicyDocument=TRUST),
        named("iam", "get_policy", "iam::A:policy/new", PolicyArn="arn:aws:iam::A:policy/new"),
        named("iam", "attach_user_policy", "iam::A:user/new", UserName="new", PolicyArn="arn:aws:iam::A:policy/x"),
        named("iam", "add_user_to_group", "iam::A:group/new", UserName="x", GroupName="new"),
        named("resourcegroupstaggingapi", "get_resources", "*"),
    ],
)  # fmt: skip
def test_the_resource_of_an_operation(role, service, method, resource, arguments):
    """The resource comes from the request: a denial of it applies, and a permission on another one does not."""
    new = uuid.uuid4().hex[:12]

    def written(value):
        return json.loads(
            json.dumps(value).replace(":R:", f":{EAST}:").replace("::A:", f"::{ACCOUNT}:").replace("new", new)
        )

    client = role.client(service)
    operation = client.meta.method_to_api_mapping[method]
    prefix = {"resourcegroupstaggingapi": "tag"}.get(service, service)
    arn = resource if resource == "*" else written(f"arn:aws:{resource}")

    assert_needs(role, getattr(client, method), written(arguments), f"{prefix}:{operation}", arn)


def test_alarms_that_are_made(role):
    """The name of an alarm is read from the members of a CBOR request."""
    name = new_name("alarm")
    alarm = {"AlarmName": name, "ComparisonOperator": "GreaterThanThreshold", "EvaluationPeriods": 1, "Threshold": 1.0}
    alarm |= {"MetricName": "m", "Namespace": "n", "Period": 60, "Statistic": "Sum"}
    call = role.client("cloudwatch").put_metric_alarm

    assert_needs(role, call, alarm, "cloudwatch:PutMetricAlarm", f"arn:aws:cloudwatch:{EAST}:alarm:{name}")


def test_lists_of_the_query_protocol(role):
    """DeleteAlarms needs permission on each alarm of a list, which the query protocol writes as numbered fields."""
    fields = "Action=DeleteAlarms&Version=2010-08-01&AlarmNames.member.1=a&AlarmNames.member.2=b"
    statuses = []
    for names in ("ab", "a"):
        role.may(allow("cloudwatch:DeleteAlarms", [f"arn:aws:cloudwatch:{EAST}:alarm:{name}" for name in names]))
        statuses.append(send(role, "monitoring", fields, headers={"content-type": FORM}))

    assert statuses == [200, 403]


def test_events_for_several_buses(role):
    """PutEvents needs permission on each bus, including the default bus, which need not be named."""
    put, event = role.client("events").put_events, {"Source": "s", "DetailType": "t", "Detail": "{}"}
    other, default = (f"arn:aws:events:{EAST}:event-bus/{name}" for name in ("other", "default"))
    both = {"Entries": [{**event, "EventBusName": "other"}, event]}

    assert_needs(role, put, both, "events:PutEvents", default, more=[allow("events:PutEvents", other)])
    assert_needs(role, put, both, "events:PutEvents", other, more=[allow("events:PutEvents", default)])


def test_roles_have_their_path_in_their_arn(backend, role):
    """Roles and users that are named without their path have it in their ARN."""
    name, iam = new_name("other"), backend.client("iam")
    iam.create_role(RoleName=name, Path="/high/", AssumeRolePolicyDocument=TRUST)
    iam.create_user(UserName=name, Path="/low/")
    mine = role.client("iam")

    assert_needs(role, mine.get_role, {"RoleName": name}, "iam:GetRole", f"arn:aws:iam::{ACCOUNT}:role/high/{name}")
    assert_needs(role, mine.get_user, {"UserName": name}, "iam:GetUser", f"arn:aws:iam::{ACCOUNT}:user/low/{name}")


# -- keys and secrets ----------------------------------------------------------------------------------------------


def test_keys_by_their_aliases(backend, role):
    """A permission on a KMS key applies however the key is named, even by an alias, which only KMS can resolve."""
    key, alias, kms = key_of(backend), f"alias/{new_name()}", role.client("kms")
    backend.client("kms").create_alias(AliasName=alias, TargetKeyId=key)
    for name in (key, key.rpartition("/")[2], alias, f"arn:aws:kms:{EAST}:{alias}"):
        assert_needs(role, kms.encrypt, {"KeyId": name, "Plaintext": b"x"}, "kms:Encrypt", key)

    new = f"alias/{new_name()}"
    arguments = {"AliasName": new, "TargetKeyId": key}
    on_alias = allow("kms:CreateAlias", f"arn:aws:kms:{EAST}:{new}")
    assert_needs(role, kms.create_alias, arguments, "kms:CreateAlias", key, more=[on_alias])


def test_the_key_of_another_account_is_not_the_one_here(backend, role):
    """A permission on the ARN of another account's key does not reach the local key with the same ID."""
    key, kms = key_of(backend), role.client("kms")
    foreign = key.replace(ACCOUNT, "210987654321")
    role.may(allow("kms:Encrypt", foreign))

    assert outcome(kms.encrypt, KeyId=foreign, Plaintext=b"x") == "AccessDeniedException"
    assert outcome(kms.encrypt, KeyId=key, Plaintext=b"x") == "AccessDeniedException"


def test_a_rule_by_the_arn_of_another_account(backend, role):
    """For rules, moto reads only the end of an ARN, so another account's ARN needs the permission on the local rule."""
    name, events = new_name("rule"), role.client("events")
    arn = backend.client("events").put_rule(Name=name, ScheduleExpression="rate(1 day)")["RuleArn"]
    foreign = {"ResourceARN": arn.replace(ACCOUNT, "210987654321")}
    role.may(allow("events:ListTagsForResource", foreign["ResourceARN"]))

    assert outcome(events.list_tags_for_resource, **foreign) == "AccessDeniedException"
    assert_needs(role, events.list_tags_for_resource, {"ResourceARN": arn}, "events:ListTagsForResource", arn)


def test_what_was_encrypted_is_decrypted_by_the_right_on_its_key(backend, role):
    """`Decrypt` and `ReEncrypt` need permission on the ciphertext's key; `ReEncrypt` has an action for each key."""
    kms, (key, other) = role.client("kms"), (key_of(backend) for _ in range(2))
    blob = backend.client("kms").encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]

    assert_needs(role, kms.decrypt, {"CiphertextBlob": blob}, "kms:Decrypt", key)
    arguments = {"CiphertextBlob": blob, "DestinationKeyId": other}
    assert_needs(role, kms.re_encrypt, arguments, "kms:ReEncryptFrom", key, more=[allow("kms:ReEncryptTo", other)])
    assert_needs(role, kms.re_encrypt, arguments, "kms:ReEncryptTo", other, more=[allow("kms:ReEncryptFrom", key)])


def test_secrets_in_a_batch(backend, role):
    """A batch needs permission on each of its secrets; a filter, which may find any, needs it on all."""
    arns = [backend.client("secretsmanager").create_secret(Name=new_name(), SecretString="s")["ARN"] for _ in range(2)]
    batch, listed = role.client("secretsmanager").batch_get_secret_value, allow("secretsmanager:ListSecrets")
    may = allow("secretsmanager:BatchGetSecretValue")
    filters = [{"Key": "name", "Values": ["a"]}]

    first = allow("secretsmanager:GetSecretValue", arns[0])
    assert_needs(role, batch, {"SecretIdList": arns}, "secretsmanager:GetSecretValue", arns[1], more=[may, first])
    assert_needs(role, batch, {"Filters": filters}, "secretsmanager:GetSecretValue", "*", more=[may, listed])


def test_a_secret_by_the_name_of_a_parameter(backend, role):
    """A secret that is read through Parameter Store needs permission for both services."""
    name, ssm = new_name("secret"), role.client("ssm")
    arn = backend.client("secretsmanager").create_secret(Name=name, SecretString="s")["ARN"]
    arguments = {"Name": f"/aws/reference/secretsmanager/{name}", "WithDecryption": True}

    assert_needs(role, ssm.get_parameter, arguments, "secretsmanager:GetSecretValue", arn, more=[allow("ssm:*")])


# -- members that an operation does not have -----------------------------------------------------------------------


@pytest.fixture
def parameters(backend):
    """Create two parameters; return the path that a role may read, and the path of the other."""
    stem, ssm = new_name(), backend.client("ssm")
    for name in ("ok", "secret"):
        ssm.put_parameter(Name=f"/{stem}/{name}/x", Value="v", Type="String")
    return f"/{stem}/ok", f"/{stem}/secret"


def target(operation):
    """Return the headers of a call to Parameter Store."""
    return {"x-amz-target": f"AmazonSSM.{operation}", "content-type": JSON}


def test_a_member_of_another_operation(role, parameters):
    """Only members that an operation reads count: a member of another operation neither permits nor denies it."""
    ok, secret = parameters
    role.may(allow("ssm:*", f"arn:aws:ssm:{EAST}:parameter{ok}*"))
    bodies = [
        ("GetParametersByPath", {"Path": secret, "Name": f"{ok}/x"}, {"Path": ok, "Name": f"{secret}/x"}),
        ("GetParameter", {"Name": f"{secret}/x", "Names": [f"{ok}/x"]}, {"Name": f"{ok}/x", "Names": ["/x"]}),
        ("GetParameters", {"Names": [f"{secret}/x"], "Name": f"{ok}/x"}, {"Names": [f"{ok}/x"], "Name": "/x"}),
        ("DeleteParameter", {"Name": f"{secret}/x", "Names": [f"{ok}/x"]}, {"Name": f"{ok}/x", "Names": ["/x"]}),
    ]
    for operation, forged, honest in bodies:
        assert send(role, "ssm", json.dumps(forged), headers=target(operation)) == 400, operation
        assert send(role, "ssm", json.dumps(honest), headers=target(operation)) == 200, operation
    assert role.backend.client("ssm").get_parameter(Name=f"{secret}/x")


@pytest.mark.parametrize("operation", ["getParameter", "GETPARAMETER", "get_parameter"])
def test_the_name_of_an_operation_in_another_form(role, parameters, operation):
    """An operation name in another spelling is refused: moto would accept it, but policies do not have it."""
    role.may(allow("*"))

    assert send(role, "ssm", json.dumps({"Name": f"{parameters[0]}/x"}), headers=target(operation)) == 400
    assert send(role, "ssm", json.dumps({"Name": f"{parameters[0]}/x"}), headers=target("GetParameter")) == 200


def test_both_targets_of_a_message(backend, role):
    """If a request has both targets, SNS publishes to `TargetArn`, and the permission on it applies."""
    sns = backend.client("sns")
    allowed, other = (sns.create_topic(Name=new_name())["TopicArn"] for _ in range(2))
    publish = role.client("sns").publish
    both = {"TopicArn": allowed, "TargetArn": other, "Message": "m"}

    assert_needs(role, publish, both, "sns:Publish", other, more=[allow("sns:Publish", allowed)])


def test_the_queue_of_a_path(backend, role):
    """The query protocol may name a queue only in the path, and the permission on that queue applies."""
    names = [new_name("queue") for _ in range(2)]
    for name in names:
        backend.client("sqs").create_queue(QueueName=name)
    role.may(allow("sqs:SendMessage", f"arn:aws:sqs:{EAST}:{names[0]}"))
    fields = "Action=SendMessage&MessageBody=m&Version=2012-11-05"

    statuses = [send(role, "sqs", fields, path=f"/{ACCOUNT}/{name}", headers={"content-type": FORM}) for name in names]

    assert statuses == [200, 403]


def test_a_member_beside_its_place(backend, role):
    """In REST, a member counts only where the operation reads it, not in the query or body of another's place."""
    scheduler, (ok, secret) = backend.client("scheduler"), (new_name("group") for _ in range(2))
    for group in (ok, secret):
        scheduler.create_schedule_group(Name=group)
        target = {"Arn": "arn:aws:sqs:us-east-1:123456789012:q", "RoleArn": role.arn}
        schedule = {"ScheduleExpression": "rate(1 day)", "FlexibleTimeWindow": {"Mode": "OFF"}, "Target": target}
        scheduler.create_schedule(Name="a", GroupName=group, **schedule)
    role.may(allow("scheduler:UpdateSchedule", f"arn:aws:scheduler:{EAST}:schedule/{ok}/*"), allow("iam:PassRole"))
    body = json.dumps({**schedule, "GroupName": ok, "Description": "changed"})

    update = {"headers": {"content-type": "application/json"}, "method": "PUT"}
    assert send(role, "scheduler", body, path=f"/schedules/a?GroupName={secret}", **update) == 200
    assert send(role, "scheduler", body.replace(ok, secret), path="/schedules/a", **update) == 403

    found = [scheduler.get_schedule(Name="a", GroupName=group).get("Description") for group in (ok, secret)]
    assert found == ["changed", None]
    role.may(allow("scheduler:GetSchedule", f"arn:aws:scheduler:{EAST}:schedule/default/*"))
    body = json.dumps({"groupName": secret})
    assert send(role, "scheduler", body, path="/schedules/a", method="GET") == 404


# -- requests that cannot be read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tags", [5, True, [{"Foo": 1}], [{"Key": 5}], [{"Key": []}], [5], {"Key": "a"}])
def test_tags_of_a_wrong_form(role, tags):
    """Malformed tags are the same client error for a role as for the home's user."""
    role.may(allow("*"))
    arn = f"arn:aws:sagemaker:{EAST}:training-job/{new_name()}"
    for operation, body in (
        ("CreateTrainingJob", training_request(new_name(), RoleArn=role.arn, Tags=tags)),
        ("AddTags", {"ResourceArn": arn, "Tags": tags}),
    ):
        headers = {"x-amz-target": f"SageMaker.{operation}", "content-type": JSON}
        assert send(role, "sagemaker", json.dumps(body), headers=headers) == 400


@pytest.mark.parametrize("body", ['{"Names": 5}', '{"Names": [5]}', '{"Names": {"/a": 1}}', "[]", "5", "{"])
def test_members_of_a_wrong_type(role, body):
    """A request with members of a wrong type is neither executed nor a server error."""
    role.may(allow("*"))

    assert send(role, "ssm", body, headers=target("GetParameters")) == 400


@pytest.mark.parametrize(
    "body",
    [b'{"TrainingJobName": "\xff"}', b'{"TrainingJobName": "\\ud800"}', '{"TrainingJobName": "x"}'.encode("utf-16")],
    ids=["no UTF-8", "half a pair", "UTF-16"],
)
def test_undecodable_text_is_refused(role, body):
    """A request whose text cannot be decoded is a client error, because policies cannot judge it."""
    role.may(allow("*"))
    headers = {"x-amz-target": "SageMaker.DescribeTrainingJob", "content-type": JSON}

    assert send(role, "sagemaker", body, headers=headers) == 400
    assert send(role, "iam", b"Action=GetRole&RoleName=%FF&Version=2010-05-08", headers={"content-type": FORM}) == 400


def test_tag_keys_that_are_removed(backend, role):
    """`aws:TagKeys` of DeleteTags has the tag keys that are removed."""
    sagemaker, name = backend.client("sagemaker"), new_name()
    arn = sagemaker.create_training_job(**training_request(name))["TrainingJobArn"]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": key, "Value": "v"} for key in ("mine", "theirs")])
    only = {"ForAllValues:StringEquals": {"aws:TagKeys": ["mine"]}}
    role.may(allow("sagemaker:DeleteTags", "*", {**only, "Null": {"aws:TagKeys": "false"}}))
    delete = role.client("sagemaker").delete_tags

    assert outcome(delete, ResourceArn=arn, TagKeys=["mine", "theirs"]) == "AccessDeniedException"
    assert outcome(delete, ResourceArn=arn, TagKeys=["mine"]) == "ok"
    assert [tag["Key"] for tag in sagemaker.list_tags(ResourceArn=arn)["Tags"]] == ["theirs"]
