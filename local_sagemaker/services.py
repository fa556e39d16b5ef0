"""The AWS services of this backend: one table for the server, the command line and the documentation.

A request to any other service is refused. Standard library only, because the command line imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ServedService:
    """One AWS service of this backend.

    Attributes:
        name: its name in boto3 and the AWS CLI.
        signed_as: its name in a signature's credential scope.
        has: the parts of it that this backend has.
        lost: the data of it that is lost when the server ends; empty if all is kept.
        in_moto: whether moto implements it; the others are in this package.
        is_global: whether it has no region on AWS, so that clients of every home may sign for us-east-1 or any other.
        is_rest: whether method and path name the operation. S3 is read separately, and does not set it.
    """

    name: str
    signed_as: str
    has: str
    lost: str = ""
    in_moto: bool = True
    is_global: bool = False
    is_rest: bool = False


SERVICES = (
    ServedService("sagemaker", "sagemaker", "training and processing jobs, which really run", in_moto=False),
    ServedService("s3", "s3", "buckets and objects", in_moto=False),
    ServedService("logs", "logs", "logs of jobs, to read", in_moto=False),
    ServedService("service-quotas", "servicequotas", "quotas of `settings.json`, to read", in_moto=False),
    ServedService(
        "resourcegroupstaggingapi",
        "tagging",
        "tags of jobs, buckets, topics, queues, secrets and alarms, to read",
        in_moto=False,
    ),
    ServedService("iam", "iam", "users, roles and policies; a role may do what its policies say", is_global=True),
    ServedService("sts", "sts", "identities and temporary keys", is_global=True),
    ServedService("sns", "sns", "topics, and subscriptions of queues"),
    ServedService("sqs", "sqs", "queues and messages", lost="messages of SQS queues"),
    ServedService("events", "events", "rules and targets; events of jobs reach targets that are queues, and no others"),
    ServedService("scheduler", "scheduler", "schedules, to keep and to read; none starts anything", is_rest=True),
    ServedService(
        "cloudwatch",
        "monitoring",
        "metrics and alarms; an alarm changes its state by SetAlarmState only",
        lost="metric data of CloudWatch",
    ),
    ServedService("ssm", "ssm", "Parameter Store"),
    ServedService("secretsmanager", "secretsmanager", "secrets"),
    ServedService(
        "kms",
        "kms",
        "keys, for which a role needs permissions; objects in S3 are not encrypted",
        lost="what KMS has encrypted",
    ),
    ServedService("ecr", "ecr", "repositories; images cannot be pushed"),
)
"""All services of this backend."""

BY_SIGNATURE: Mapping[str, ServedService] = {service.signed_as: service for service in SERVICES}
"""The services by their names in signatures."""

LOST = tuple(service.lost for service in SERVICES if service.lost)
"""The data that is lost when the server ends."""


def not_served(signed_as: str) -> str:
    """Return the message for a client of a service that is not in the table.

    Args:
        signed_as: the service's name in the client's signature.
    """
    names = ", ".join(sorted(service.name for service in SERVICES))
    return f"{signed_as} is not served by local_sagemaker. It serves: {names}."
