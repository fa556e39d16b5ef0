"""The `iam.request_context.ResourceLookup` of a home, which completes what a request names only in part."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from local_sagemaker.iam.request_context import ResourceLookup
from local_sagemaker.iam.roles import RoleTable
from local_sagemaker.job_table import JobTable
from local_sagemaker.moto_services import MotoServices, element_of
from local_sagemaker.wire.call import Call

_FORM = "application/x-www-form-urlencoded"
_JSON = "application/x-amz-json-1.1"


def lookup_in(roles: RoleTable, jobs: JobTable, others: MotoServices) -> ResourceLookup:
    """Return the look-ups of a home.

    Args:
        roles: the roles of the home.
        jobs: the table of jobs, for their tags.
        others: moto's services, for secrets, KMS keys and users.
    """

    def ask(service: str, region: str, target: str, **members: str) -> dict[str, Any]:
        headers = {"content-type": _JSON, "x-amz-target": target}
        found: dict[str, Any] = json.loads(
            others.ask(Call(service, region, "POST", "/", headers, json.dumps(members))).body
        )
        return found

    def secret(region: str, name: str) -> str | None:
        return ask("secretsmanager", region, "secretsmanager.DescribeSecret", SecretId=name).get("ARN")

    def key(region: str, name: str) -> str | None:
        found = ask("kms", region, "TrentService.DescribeKey", KeyId=name)
        arn: str | None = found.get("KeyMetadata", {}).get("Arn")
        return arn

    def role(name: str) -> str | None:
        found = roles.named(name)
        return found.arn if found else None

    def user(region: str, name: str) -> str | None:
        body = urlencode({"Action": "GetUser", "UserName": name, "Version": "2010-05-08"})
        found = others.ask(Call("iam", region, "POST", "/", {"content-type": _FORM}, body))
        return element_of(found.body.decode(), "Arn") or None

    return ResourceLookup(jobs.tags, secret, key, role, user)
