"""The inline policies of the role that we make: one for the project, and one for each thing that a request references.

Not one document: `PutRolePolicy` replaces a policy as a whole, so of two callers that extend it at once, one would lose
its rights. A policy is named by its content, so that putting it again changes nothing and its name tells that it is
there. Pure; `roles` uses it.
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
    """Return the policies by name that the role of a job needs.

    Args:
        project: On AWS.
        request: The job's, with the overrides of its caller.
        secrets: The job's references to secrets, by variable.

    Raises:
        InvalidTask: A secret's reference is none.
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
    """Return what is to be read outside of the project.

    Of another project's task it is all of its outputs: each of its jobs has a folder of its own, and the role would get
    a policy for each of them until IAM takes no more.
    """
    root = project.uri.removesuffix(f"{project.project}/")
    return {_of_all_jobs(root, uri) for uri in _outside(project, uris)}


def _of_all_jobs(root: str, uri: str) -> str:
    """Return the folder of a task for an output of one of its jobs, and that of a project's code for a bundle."""
    if not uri.startswith(root):
        return uri
    project, task, *below = [*uri.removeprefix(root).split("/"), "", ""][:-1]
    is_output = below[1:2] == [OUTPUT] or task == BUNDLES
    return f"{root}{project}/{task}/" if is_output else uri


def _values(value: Any, name: str) -> Iterator[Any]:
    """Yield the members of a name at any depth of a request."""
    if isinstance(value, Mapping):
        if value.get(name):
            yield value[name]
        for member in value.values():
            yield from _values(member, name)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _values(item, name)
