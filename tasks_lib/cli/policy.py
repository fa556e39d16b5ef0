"""`ssm policy`: least-privilege IAM policies for the caller and for the jobs of a project, as JSON for AWS."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from blocks import SageMakerProject
from tasks_lib.aws.policies import Policy, caller_policy, job_policy, trust_policy
from tasks_lib.cli.place import project_on_aws
from tasks_lib.errors import ProjectError

_LINE = 100


def policy(options: argparse.Namespace) -> str:
    """Return the text to print: one document, or all three by name.

    Raises:
        BlockNotFound: No block is saved under the name.
        ProjectError: The project is on this machine, or its bucket is not given.
        InvalidTask: A reference to a secret is invalid.
    """
    found = documents(_project(options), options.read, options.secret)
    return as_json(found[options.part] if options.part else found)


def documents(project: SageMakerProject, reads: Sequence[str] = (), secrets: Sequence[str] = ()) -> dict[str, Policy]:
    """Return the three documents by name: `caller`, `job`, `trust`."""
    job = job_policy(project, reads, secrets)
    return {"caller": caller_policy(project, reads), "job": job, "trust": trust_policy()}


def as_json(value: Any, indent: str = "") -> str:
    """Return JSON for IAM. A value that fits on a line is on one, so that a reader sees whole statements."""
    line = json.dumps(value)
    if len(indent) + len(line) <= _LINE or not isinstance(value, (dict, list)):
        return line
    inner = indent + "  "
    if isinstance(value, list):
        rows, (left, right) = [as_json(item, inner) for item in value], "[]"
    else:
        rows, (left, right) = [f"{json.dumps(key)}: {as_json(item, inner)}" for key, item in value.items()], "{}"
    return f"{left}\n{inner}" + f",\n{inner}".join(rows) + f"\n{indent}{right}"


def _project(options: argparse.Namespace) -> SageMakerProject:
    if options.block:
        found = SageMakerProject.named(options.block)
        if found.is_local:
            raise ProjectError(
                f"The block {options.block!r} is a project on this machine, which needs no permissions.",
                fix="name a block of a project on AWS, or give --project, --bucket and --region.",
            )
        return found
    if not options.bucket:
        raise ProjectError("--project needs the bucket, too.", fix="give --bucket NAME, or the name of a --block.")
    return project_on_aws(
        options.project, options.bucket, region=options.region, role=options.role, prefix=options.prefix
    )
