"""The table of the members in which operations name their resources. Pure, except for `ResourceLookup`.

Source: the pages of the Service Authorization Reference.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from local_sagemaker.account import ACCOUNT
from local_sagemaker.iam.request_context import RequestContext

Form = Callable[[RequestContext, str], "str | None"]
"""Returns the ARN of a resource for a member's text; None if it is unknown."""


@dataclass(frozen=True)
class Row:
    """How a group of operations names its resources.

    Attributes:
        operations: a regular expression for the names of the operations.
        members: the members that name a resource, with the form of its ARN. The request needs every resource named.
        otherwise: the resource of a request without these members, as the end of its ARN; `*` for an action without a
            resource, None if the resource is unknown.
    """

    operations: str
    members: Sequence[tuple[str, Form]] = ()
    otherwise: str | None = None


def resources_of(asked: RequestContext) -> list[str | None]:
    """Return the ARNs of all resources of a request, with None for an unknown one."""
    rows = _ROWS.get(asked.prefix, ())
    row = next((one for one in rows if re.fullmatch(one.operations, asked.operation)), Row(".*"))
    found = [form(asked, text) for member, form in row.members for text in asked.texts(member)]
    if found or row.otherwise in (None, "*"):
        return found or [row.otherwise]
    return [asked.arn(str(row.otherwise))]


def key_of(asked: RequestContext, name: str) -> str:
    """Return the ARN of the KMS key that moto uses for an id, alias or ARN, whatever account the ARN names."""
    found = asked.known.key(asked.region, name)
    if found or name.startswith("arn:"):
        return found or name
    return asked.arn(name if name.startswith("alias/") else f"key/{name}")


def secret_of(asked: RequestContext, name: str) -> str:
    """Return the ARN of a secret. For one that does not exist, return an ARN with a possible random suffix."""
    found = asked.known.secret(asked.region, name)
    if found or name.startswith("arn:"):
        return found or name
    return f"arn:aws:secretsmanager:{asked.region}:{ACCOUNT}:secret:{name}-AAAAAA"


def event_bus(asked: RequestContext, name: str) -> str:
    """Return the ARN of an event bus in this account, even if the request names it by another account's ARN."""
    return asked.arn(f"event-bus/{name.rpartition('/')[2]}")


def key_of_ciphertext(asked: RequestContext, text: str) -> str | None:
    """Return the ARN of the KMS key of a ciphertext, which in moto begins with the key's id; None if unknown."""
    try:
        name = base64.b64decode(text)[:_KEY_ID].decode()
    except ValueError:
        return None
    return asked.known.key(asked.region, name)


def _arn(_asked: RequestContext, text: str) -> str:
    return text


def _own_arn(asked: RequestContext, text: str) -> str:
    """Return the ARN in this account: moto finds the resource by the end of an ARN, whatever its account."""
    return asked.arn(text.split(":", _COLONS)[-1])


def _named(resource: str) -> Form:
    return lambda asked, name: asked.arn(resource.format(name))


def _arn_or(resource: str) -> Form:
    return lambda asked, name: name if name.startswith("arn:") else asked.arn(resource.format(name))


def _global(kind: str) -> Form:
    """Return the form of IAM's ARNs, which have no region. The path of a new resource is that of its request."""
    return lambda asked, name: f"arn:aws:iam::{ACCOUNT}:{kind}{asked.text('Path') or '/'}{name}"


def _role(asked: RequestContext, name: str) -> str:
    return asked.known.role(name) or f"arn:aws:iam::{ACCOUNT}:role/{name}"


def _user(asked: RequestContext, name: str) -> str:
    return asked.known.user(asked.region, name) or f"arn:aws:iam::{ACCOUNT}:user/{name}"


def _parameter(asked: RequestContext, name: str) -> str:
    if name.startswith("arn:"):
        return name
    return asked.arn(f"parameter/{name.partition(':')[0].removeprefix('/')}")  # without version or label


def _tagged_by_ssm(asked: RequestContext, name: str) -> str | None:
    kind = asked.text("ResourceType")
    if kind == "Parameter":
        return _parameter(asked, name)
    return asked.arn(f"{kind.lower()}/{name}") if kind in ("Document", "MaintenanceWindow") else None


def _log_group(asked: RequestContext, name: str) -> str:
    group = name.partition(":log-group:")[2].removesuffix(":*") if name.startswith("arn:") else name
    return asked.arn(f"log-group:{group}:log-stream:{asked.text('logStreamName')}")


def _queue_of_url(asked: RequestContext, url: str) -> str:
    return asked.arn(url.rstrip("/").rpartition("/")[2])


def _rule(asked: RequestContext, name: str) -> str:
    bus = asked.text("EventBusName").rpartition("/")[2] or "default"
    return asked.arn(f"rule/{name}" if bus == "default" else f"rule/{bus}/{name}")


def _schedule(asked: RequestContext, name: str) -> str:
    return asked.arn(f"schedule/{asked.text('GroupName') or 'default'}/{name}")


def _dashboard(_asked: RequestContext, name: str) -> str:
    return f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/{name}"


def _each(form: Form, *members: str) -> list[tuple[str, Form]]:
    return [(member, form) for member in members]


def _everything(_asked: RequestContext, _text: str) -> str:
    return "*"


_KEY_ID = 36  # characters
_COLONS = 5  # of an ARN, before its resource
_group, _profile = _global("group"), _global("instance-profile")
_TAGGING = r"(Tag|Untag)Resource|ListTagsForResource"
_ROWS: Mapping[str, Sequence[Row]] = {
    "cloudwatch": (
        Row("PutMetricData", otherwise="*"),
        Row(_TAGGING, [("ResourceARN", _arn)]),
        Row(r"\w*Dashboards?", _each(_dashboard, "DashboardName", "DashboardNames")),
        Row("DescribeAlarms", [("AlarmNames", _named("alarm:{}"))], "alarm:*"),  # without names, it needs all alarms
        Row(".*", _each(_named("alarm:{}"), "AlarmName", "AlarmNames")),
    ),
    "ecr": (
        Row("GetAuthorizationToken", otherwise="*"),
        Row("DescribeRepositories", [("repositoryNames", _named("repository/{}"))], "repository/*"),
        Row(".*", [("repositoryName", _named("repository/{}")), ("resourceArn", _arn)]),
    ),
    "events": (
        Row("(Put|Delete|Describe|Enable|Disable)Rule", [("Name", _rule)]),
        Row("(Put|Remove)Targets|ListTargetsByRule", [("Rule", _rule)]),
        Row("(Create|Update|Describe|Delete)EventBus", [("Name", event_bus)], "event-bus/default"),
        Row("(Put|Remove)Permission", [("EventBusName", event_bus)], "event-bus/default"),
        Row(r"\w+Archive", [("ArchiveName", _named("archive/{}"))]),
        Row(r"\w+Replay", [("ReplayName", _named("replay/{}"))]),
        Row(_TAGGING, [("ResourceARN", _own_arn)]),
    ),
    "iam": (
        Row("CreateRole", [("RoleName", _global("role"))]),
        Row("CreateUser", [("UserName", _global("user"))]),
        Row("CreateGroup", [("GroupName", _group)]),
        Row("CreatePolicy", [("PolicyName", _global("policy"))]),
        Row("CreateInstanceProfile", [("InstanceProfileName", _profile)]),
        Row(r"(Add|Remove)\w+InstanceProfile", [("InstanceProfileName", _profile)]),
        Row(r"(Add|Remove)User\w+Group", [("GroupName", _group)]),
        Row(r"(Attach|Detach)\w+Policy", [("RoleName", _role), ("UserName", _user), ("GroupName", _group)]),
        Row(
            ".*",
            [
                *(("RoleName", _role), ("UserName", _user), ("GroupName", _group), ("InstanceProfileName", _profile)),
                *_each(_arn, "PolicyArn", "PolicySourceArn"),
            ],
        ),
    ),
    "kms": (
        Row("CreateAlias", [("AliasName", _arn_or("{}")), ("TargetKeyId", key_of)]),
        Row("UpdateAlias", [("AliasName", _arn_or("{}")), ("AliasName", key_of), ("TargetKeyId", key_of)]),
        Row("DeleteAlias", [("AliasName", _arn_or("{}")), ("AliasName", key_of)]),
        Row("CreateKey|ListKeys|ListAliases|GenerateRandom", otherwise="*"),
        Row(".*", [("KeyId", key_of), ("CiphertextBlob", key_of_ciphertext)]),
    ),
    "logs": (Row(".*", _each(_log_group, "logGroupName", "logGroupIdentifier")),),
    "scheduler": (
        Row("(Create|Get|Update|Delete)Schedule", [("Name", _schedule)]),
        Row("(Create|Get|Delete)ScheduleGroup", [("Name", _named("schedule-group/{}"))]),
        Row(_TAGGING, [("ResourceArn", _arn)]),
    ),
    "secretsmanager": (
        Row("CreateSecret", [("Name", secret_of)]),
        Row("BatchGetSecretValue|ListSecrets|GetRandomPassword", otherwise="*"),
        Row(".*", [("SecretId", secret_of)]),
    ),
    "sns": (
        Row("CreateTopic", [("Name", _named("{}"))]),
        Row(
            ".*",
            [
                *_each(_arn, "TopicArn", "TargetArn", "ResourceArn", "PlatformApplicationArn", "EndpointArn"),
                ("PhoneNumber", _everything),
            ],
        ),
    ),
    "sqs": (
        Row("CreateQueue|GetQueueUrl", [("QueueName", _named("{}"))]),
        Row(".*", [("QueueUrl", _queue_of_url), ("SourceArn", _arn), ("DestinationArn", _arn)]),
    ),
    "ssm": (
        Row("(AddTagsTo|RemoveTagsFrom|ListTagsFor)Resource", [("ResourceId", _tagged_by_ssm)]),
        Row(r"\w*Document\w*", [("Name", _arn_or("document/{}"))]),
        Row(r"\w+Parameter\w*", _each(_parameter, "Name", "Names", "Path")),
    ),
    "sts": (Row(r"AssumeRole\w*", [("RoleArn", _arn)], "*"),),
    "tag": (Row(".*", otherwise="*"),),
}
