"""The inline policies of the role that this package creates, one per thing that it may access.

There is one for the project, and one for each thing outside it that a request references. They are not one document:
`PutRolePolicy` replaces a policy as a whole, so if two callers extended it at once, one extension would be lost. A
policy's name is a hash of its content. So its name tells whether it is there, and to put it again changes nothing.
Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from blocks import SageMakerProject
from tasks_lib.aws.policies import (
    Policy,
    job_policy,
    key_policy,
    network_policy,
    output_policy,
    reading_policy,
    secret_policy,
)
from tasks_lib.jobs.s3_layout import BUNDLES, OUTPUT

POLICY_NAME = "prefect-sagemaker"


def role_policies(
    project: SageMakerProject, request: Mapping[str, Any], secrets: Mapping[str, str]
) -> dict[str, Policy]:
    """Return the policies that the role of a job needs, by name.

    Args:
        project: A project on AWS.
        request: The job's request, with the caller's overrides.
        secrets: The job's references to secrets, by variable.

    Raises:
        InvalidTask: A reference to a secret is invalid.
    """
    found = [job_policy(project)]
    found += [reading_policy(project, uri) for uri in sorted(_foreign(project, _inputs(request)))]
    found += [output_policy(project, uri) for uri in sorted(_outside(project, _outputs(request)))]
    found += [secret_policy(project, reference) for reference in sorted(set(secrets.values()))]
    known = {project.volume_kms_key, project.output_kms_key}
    found += [key_policy(key) for key in sorted(_keys(request) - known) if key.startswith("arn:")]
    if not project.subnets and any(_values(request, "VpcConfig")):
        found.append(network_policy())
    return {_name(policy): policy for policy in found}


def _name(policy: Policy) -> str:
    return f"{POLICY_NAME}-{hashlib.sha256(json.dumps(policy, sort_keys=True).encode()).hexdigest()[:12]}"


def _inputs(request: Mapping[str, Any]) -> set[str]:
    found = {source["S3Uri"] for source in _values(request.get("InputDataConfig"), "S3DataSource") if "S3Uri" in source}
    return found | {source["S3Uri"] for source in _values(request.get("ProcessingInputs"), "S3Input")}


def _outputs(request: Mapping[str, Any]) -> set[str]:
    found = {output["S3Uri"] for output in _values(request.get("ProcessingOutputConfig"), "S3Output")}
    found |= {checkpoints["S3Uri"] for checkpoints in _values(request, "CheckpointConfig")}
    return found | set(_values(request.get("OutputDataConfig"), "S3OutputPath"))


def _keys(request: Mapping[str, Any]) -> set[str]:
    return {*_values(request, "KmsKeyId"), *_values(request, "VolumeKmsKeyId")}


def _outside(project: SageMakerProject, uris: set[str]) -> set[str]:
    return {uri for uri in uris if not uri.startswith(project.uri)}


def _foreign(project: SageMakerProject, uris: set[str]) -> set[str]:
    """Return the folders outside the project that the job reads.

    For an output of another project's task it is the folder of that task. Each of the task's jobs has its own folder; a
    policy for each of them would soon reach IAM's limit.
    """
    root = project.uri.removesuffix(f"{project.project}/")
    return {_of_all_jobs(root, uri) for uri in _outside(project, uris)}


def _of_all_jobs(root: str, uri: str) -> str:
    """Return the task's folder for a job's output, the project's code folder for a bundle, else the URI."""
    if not uri.startswith(root):
        return uri
    project, task, *below = [*uri.removeprefix(root).split("/"), "", ""][:-1]
    is_output = below[1:2] == [OUTPUT] or task == BUNDLES
    return f"{root}{project}/{task}/" if is_output else uri


def _values(value: Any, name: str) -> Iterator[Any]:
    """Yield the non-empty values of a member at any depth of a request."""
    if isinstance(value, Mapping):
        if value.get(name):
            yield value[name]
        for member in value.values():
            yield from _values(member, name)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _values(item, name)
