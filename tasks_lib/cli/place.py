"""Makes a project on AWS from command-line options; an error names the option that is wrong."""

from __future__ import annotations

from typing import Any

import botocore.session
from pydantic import ValidationError

from blocks import SageMakerProject
from tasks_lib.errors import ProjectError


def project_on_aws(project: str, bucket: str, *, region: str | None, **fields: Any) -> SageMakerProject:
    """Return the project, in the given region or else the one configured for AWS.

    Raises:
        ProjectError: No region is known, or a value is invalid.
    """
    found = region or botocore.session.Session().get_config_variable("region")
    if not found:
        raise ProjectError(
            "No region is given, and none is configured for AWS.", fix="name one, such as --region eu-central-1."
        )
    return checked(project=project, bucket=bucket, region=found, **fields)


def checked(**fields: Any) -> SageMakerProject:
    """Return a block with these fields.

    Raises:
        ProjectError: A field is invalid.
    """
    try:
        return SageMakerProject(**fields)
    except ValidationError as error:
        wrong = [(str(row["loc"][0]), row["msg"]) for row in error.errors() if row["loc"]]
        told = "; ".join(f"--{name} {fields.get(name)!r}: {why}" for name, why in wrong)
        raise ProjectError(f"Not a project: {told or error}.", fix="correct what is named, and try again.") from error
