"""Requests that name one operation for policies and another for moto; the other is not executed."""

from __future__ import annotations

import json

import pytest
import requests
from api_requests import new_name
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.session import Session
from test_role_rights import RoleOfTest, allow

FORM, JSON = "application/x-www-form-urlencoded", "application/x-amz-json-1.1"


@pytest.fixture
def lister(backend):
    """Return a role that may list and describe, but change nothing."""
    role = RoleOfTest(backend)
    role.may(allow(["ssm:DescribeParameters", "iam:List*", "cloudwatch:List*", "sagemaker:List*", "sqs:ListQueues"]))
    return role


def send(role, service, body="", *, path="/", headers=None, method="POST"):
    """Send a request signed by the role; return the HTTP status."""
    credentials = role.client("sts")._request_signer._credentials
    asked = AWSRequest(method, f"{role.backend.endpoint}{path}", data=body, headers=headers or {})
    SigV4Auth(credentials, service, "us-east-1").add_auth(asked)
    sent = asked.prepare()
    return requests.request(method, sent.url, headers=dict(sent.headers), data=sent.body, timeout=60).status_code


def parameter(name, **more):
    """Return the body of PutParameter."""
    return json.dumps({"Name": name, "Value": "v", "Type": "String", **more})


LOOK = {"x-amz-target": "AmazonSSM.DescribeParameters", "content-type": JSON}


@pytest.mark.parametrize("way", ["query", "text", "form"])
def test_an_action_beside_the_target(lister, way):
    """An action in the query string, in a document's text or in a form body is not executed beside the target."""
    name = new_name("parameter")
    fields = f"Action=PutParameter&Name={name}&Value=v&Type=String"
    if way == "query":
        send(lister, "ssm", parameter(name), path=f"/?{fields}", headers=LOOK)
    elif way == "text":
        send(lister, "ssm", parameter(name, Description=f"&{fields}&"), headers=LOOK)
    else:
        send(lister, "ssm", fields, headers={**LOOK, "content-type": FORM})

    assert_missing(lister.backend, name)


def assert_missing(backend, name):
    """Check, as the home's own user, that a parameter was not created."""
    found = backend.client("ssm").describe_parameters()["Parameters"]
    assert name not in [one["Name"] for one in found]


def test_a_text_with_an_action_is_a_text(backend):
    """A parameter whose value looks like an action is stored unchanged."""
    name, text = new_name("parameter"), "a&Action=DeleteParameter&Name=b"

    backend.client("ssm").put_parameter(Name=name, Value=text, Type="String")

    assert backend.client("ssm").get_parameter(Name=name)["Parameter"]["Value"] == text


@pytest.mark.parametrize("way", ["first in the query", "last in the query", "body and query", "form and query", "gzip"])
def test_two_actions(lister, way):
    """Of two actions, one permitted and one not, the second is never executed."""
    name = new_name("user")
    may, may_not = "Action=ListUsers&Version=2010-05-08", f"Action=CreateUser&UserName={name}&Version=2010-05-08"
    if way == "first in the query":
        send(lister, "iam", path=f"/?{may_not}&{may}")
    elif way == "last in the query":
        send(lister, "iam", path=f"/?{may}&{may_not}")
    elif way == "body and query":
        for body, query in ((may, may_not), (may_not, may)):
            send(lister, "iam", body, path=f"/?{query}")
    elif way == "form and query":
        for body, query in ((may, may_not), (may_not, may)):
            send(lister, "iam", body, path=f"/?{query}", headers={"content-type": FORM})
    else:
        import gzip

        send(lister, "iam", gzip.compress(may_not.encode()), path=f"/?{may}", headers={"content-encoding": "gzip"})

    assert name not in [one["UserName"] for one in lister.backend.client("iam").list_users()["Users"]]


def cbor(text):
    """Return a CBOR map with one member, `Namespace`, whose value is the text."""
    data = text.encode()
    return b"\xa1" + b"\x69Namespace" + bytes([0x78, len(data)]) + data


@pytest.mark.parametrize("way", ["query", "text"])
def test_an_action_beside_the_path_of_cbor(lister, way):
    """An action in the query string or in the text is not executed beside CloudWatch's operation in the path."""
    name = new_name("alarm")
    fields = (
        f"Action=PutMetricAlarm&AlarmName={name}&ComparisonOperator=GreaterThanThreshold&EvaluationPeriods=1"
        "&Threshold=1&MetricName=m&Namespace=n&Period=60&Statistic=Sum"
    )
    path = "/service/GraniteServiceVersion20100801/operation/ListMetrics"
    headers = {"smithy-protocol": "rpc-v2-cbor", "content-type": "application/cbor"}
    if way == "query":
        send(lister, "monitoring", b"\xa0", path=f"{path}?{fields}", headers=headers)
    else:
        send(lister, "monitoring", cbor(f"&{fields}"), path=path, headers=headers)

    found = lister.backend.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert name not in [one["AlarmName"] for one in found]


def test_a_target_beside_the_path_of_cbor(lister):
    """A CBOR path beside a SageMaker target is refused, because SageMaker speaks only JSON."""
    name = new_name("group")
    headers = {
        "smithy-protocol": "rpc-v2-cbor", "x-amz-target": "SageMaker.AddTags", "content-type": JSON,
    }  # fmt: skip
    body = json.dumps({"ResourceArn": f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}", "Tags": []})

    status = send(lister, "sagemaker", body, path="/service/SageMaker/operation/ListTags", headers=headers)

    assert status in (400, 403)


@pytest.mark.parametrize("service", ["scheduler", "iam", "ssm", "sqs"])
def test_the_control_of_moto_is_out_of_reach(lister, service):
    """The control API of moto, which could erase everything in the home, is not reachable."""
    name = new_name("parameter")
    lister.backend.client("ssm").put_parameter(Name=name, Value="v", Type="String")

    send(lister, service, path="/moto-api/reset")
    send(lister, service, path="/moto-api/reset", headers=LOOK)

    assert lister.backend.client("ssm").get_parameter(Name=name)["Parameter"]["Value"] == "v"


def test_schedules_need_their_right(lister):
    """An operation of a REST service is refused without its permission, and executed with it."""
    scheduler, name = lister.client("scheduler"), new_name("group")
    with pytest.raises(scheduler.exceptions.ClientError, match="scheduler:CreateScheduleGroup"):
        scheduler.create_schedule_group(Name=name)
    lister.may(allow("scheduler:CreateScheduleGroup"), policy="schedules")

    assert scheduler.create_schedule_group(Name=name)["ScheduleGroupArn"].endswith(name)


def test_all_operations_of_rest_are_known(backend):
    """Each operation of a REST service has a name, by which a policy refuses it."""
    role, service = RoleOfTest(backend), "scheduler"
    model = Session().get_service_model(service)
    client = role.client(service)
    for operation in model.operation_names:
        shape = model.operation_model(operation).input_shape
        call = getattr(client, client_method(client, operation))
        with pytest.raises(client.exceptions.ClientError, match=f"scheduler:{operation}"):
            call(**{name: minimal(shape.members[name]) for name in shape.required_members})


def client_method(client, operation):
    """Return the name of the client's method for an operation."""
    return next(method for method, name in client.meta.method_to_api_mapping.items() if name == operation)


def minimal(shape):
    """Return a value of a shape that passes botocore's validation."""
    if shape.type_name == "structure":
        return {name: minimal(shape.members[name]) for name in shape.required_members}
    if shape.type_name == "list":
        return [minimal(shape.member)]
    return "arn:aws:scheduler:us-east-1:123456789012:schedule-group/a" if shape.type_name == "string" else 1


def test_a_change_by_query_string_is_kept(own_backend):
    """A user that an old client creates by GET still exists after a restart."""
    own_backend.up()
    name, iam = new_name("user"), own_backend.client("iam")
    asked = AWSRequest("GET", f"{own_backend.endpoint}/?Action=CreateUser&UserName={name}&Version=2010-05-08")
    SigV4Auth(iam._request_signer._credentials, "iam", "us-east-1").add_auth(asked)
    sent = asked.prepare()
    assert requests.get(sent.url, headers=dict(sent.headers), timeout=60).status_code == 200
    own_backend.run("down")
    own_backend.up()

    assert own_backend.client("iam").get_user(UserName=name)["User"]["UserName"] == name


def test_a_body_that_boto3_compresses(backend):
    """A body of more than 10 KB, which boto3 compresses, is accepted."""
    cloudwatch, name = backend.client("cloudwatch"), new_name("metric")
    data = [{"MetricName": name, "Dimensions": [{"Name": "n", "Value": "v" * 50}], "Value": 1.0}] * 200

    cloudwatch.put_metric_data(Namespace="compressed", MetricData=data)

    found = cloudwatch.list_metrics(Namespace="compressed")["Metrics"]
    assert name in {one["MetricName"] for one in found}
