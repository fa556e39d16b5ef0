"""The services that are served: the table in the documentation, and the errors for all others."""

from __future__ import annotations

import re
from pathlib import Path

import botocore.session
import pytest
from api_requests import error_of
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from local_sagemaker.services import SERVICES
from local_sagemaker.wire.protocols import ErrorContent, answer, error_format_of

DOCUMENTATION = Path(__file__).parents[2] / "docs/explanation/local-sagemaker.md"
# For each protocol of AWS, a service that is not served.
ABSENT = {
    "glue": "list_jobs",
    "lambda": "list_functions",
    "cloudformation": "list_stacks",
    "ec2": "describe_instances",
    "route53": "list_hosted_zones",
    "translate": "list_terminologies",
}
READING = {
    "sagemaker": "list_training_jobs",
    "s3": "list_buckets",
    "logs": "describe_log_groups",
    "service-quotas": ("list_service_quotas", {"ServiceCode": "sagemaker"}),
    "resourcegroupstaggingapi": "get_tag_keys",
    "iam": "list_roles",
    "sts": "get_caller_identity",
    "sns": "list_topics",
    "sqs": "list_queues",
    "events": "list_rules",
    "scheduler": "list_schedules",
    "cloudwatch": "describe_alarms",
    "ssm": "describe_parameters",
    "secretsmanager": "list_secrets",
    "kms": "list_keys",
    "ecr": "describe_repositories",
}


def test_the_documentation_lists_the_services():
    """The table in the documentation has each service, with the same description, and no other."""
    section = DOCUMENTATION.read_text().split("## Services")[1].split("\n## ")[0]

    assert re.findall(r"^\| `(.+?)` \| (.+) \|$", section, re.MULTILINE) == [(one.name, one.has) for one in SERVICES]


def test_the_services_of_the_table_answer(backend):
    """Each service has an operation that reads, and its client gets a response."""
    assert set(READING) == {one.name for one in SERVICES}
    for service, call in READING.items():
        operation, arguments = call if isinstance(call, tuple) else (call, {})
        assert getattr(backend.client(service), operation)(**arguments)["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.sampled(3)
@pytest.mark.parametrize("service", ABSENT)
def test_any_other_service_is_refused_by_name(backend, service):
    """Another service is refused in its own protocol, and the message lists the services that are served."""
    code, message = error_of(getattr(backend.client(service), ABSENT[service]))

    assert code in ("UnknownOperationException", "InvalidAction")
    assert message.startswith(f"{service} is not served by local_sagemaker. It serves: cloudwatch, ecr, ")
    assert backend.status()["requests"][f"{service}:NotServed"] >= 1


@pytest.mark.parametrize(
    ("service", "operation", "arguments"),
    [
        ("iam-toolbox", "get_request_authorization_details", {"authorizationId": "x" * 20}),
        ("eventbridgev2", "list_event_sources", {}),
    ],
)
def test_what_signs_as_a_service_of_the_table(backend, service, operation, arguments):
    """A service that signs as one of the table gets an error that its client can read, and not moto's HTML page."""
    code, message = error_of(getattr(backend.client(service), operation), **arguments)

    assert code == "UnknownOperationException"
    assert "is not built in local_sagemaker" in message


@pytest.mark.exhaustive
def test_every_client_of_botocore_shows_a_refusal():
    """For each service of botocore, the form of its requests determines a form of errors that its client reads."""
    session = botocore.session.Session()
    told = ErrorContent("TheCode", 400, "The message.")
    for name in session.get_available_services():
        model = session.get_service_model(name)
        protocol = model.resolved_protocol
        operation = min(
            map(model.operation_model, model.operation_names),
            key=lambda each: len(each.input_shape.required_members) if each.input_shape else 0,
        )
        given = {member: _value(operation.input_shape.members[member]) for member in _required(operation)}
        sent = create_serializer(protocol, include_validation=False).serialize_to_request(given, operation)
        headers = {key.lower(): str(value) for key, value in sent["headers"].items()}
        if isinstance(sent["body"], dict):
            headers["content-type"] = "application/x-www-form-urlencoded"
        response = answer(told, error_format_of(model.signing_name, headers), "/")
        raw = {"status_code": 400, "headers": dict(response.headers), "body": response.body}
        parsed = create_parser(protocol).parse(raw, operation.output_shape)

        assert (name, parsed["Error"]["Code"], parsed["Error"]["Message"]) == (name, "TheCode", "The message.")


def _required(operation):
    return operation.input_shape.required_members if operation.input_shape else []


def _value(shape):
    """Return a value that a serializer accepts; its content does not matter."""
    simple = {"string": "x", "integer": 1, "long": 1, "boolean": True, "timestamp": 0, "blob": b"x", "double": 1.0}
    return {**simple, "list": [], "map": {}, "structure": {}, "float": 1.0}[shape.type_name]
