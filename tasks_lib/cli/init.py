"""`ssm init`: a repository with a flow that runs at once, its block, and the rights that it will need on AWS."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import httpx
from prefect.settings import get_current_settings

from blocks import SageMakerProject
from tasks_lib.cli.place import checked, project_on_aws
from tasks_lib.cli.policy import as_json, documents
from tasks_lib.cli.repository import contents, write
from tasks_lib.errors import InvalidName, ProjectError
from tasks_lib.naming import slug

_EXAMPLE_BUCKET, _EXAMPLE_REGION = "your-bucket", "us-east-1"
_BLOCK_NAME = r"[a-z0-9-]+"  # what Prefect allows


def init(options: argparse.Namespace) -> str:
    """Make the repository; return what the command prints.

    Raises:
        PrefectSageMakerError: A name or a value cannot be, or a file is in the way. Nothing was written.
    """
    directory = options.directory.resolve()
    name = options.project or _name_of(directory)
    block = _block_name(options.block or slug(name).lower())
    project = _project(options, name)
    texts = contents(project, block)
    write(directory, texts)
    made = "".join(f"\n  {path}" for path in texts)
    return "\n\n".join(
        [
            _rights(project),
            f"Made in {directory}:{made}",
            _saved(project, block),
            f"Next: {_go_to(directory)}python flow.py",
        ]
    )


def _name_of(directory: Path) -> str:
    name = slug(directory.name)
    if not name:
        raise InvalidName(f"{directory} gives the project no name.", fix="give one: --project NAME.")
    return name


def _block_name(name: str) -> str:
    if not re.fullmatch(_BLOCK_NAME, name):
        raise InvalidName(
            f"Prefect takes no block named {name!r}.", fix="use small letters, digits and dashes: --block NAME."
        )
    return name


def _project(options: argparse.Namespace, name: str) -> SageMakerProject:
    if not options.bucket:
        _check_is_local(options)
        checked(project=name, bucket=_EXAMPLE_BUCKET)
        return SageMakerProject.local(name)
    project = project_on_aws(name, options.bucket, region=options.region, role=options.role)
    return project.model_copy(update={"image": options.image or _image_of(project)})


def _check_is_local(options: argparse.Namespace) -> None:
    given = [f"--{option}" for option in ("region", "role", "image") if getattr(options, option)]
    if given:
        raise ProjectError(
            f"{', '.join(given)} says something about AWS, but no bucket is given.", fix="give --bucket NAME, too."
        )


def _image_of(project: SageMakerProject) -> str:
    """Return AWS's own image for scikit-learn: small, on CPUs, in each region, and nobody has to build it."""
    from sagemaker.core import image_uris  # noqa: PLC0415 - 2 s, for those who name no image

    return str(image_uris.retrieve("sklearn", project.region, version="1.4-2", instance_type=project.instance_type))


def _saved(project: SageMakerProject, block: str) -> str:
    """Save the block where there is a server; return what became of it.

    No server is started for it: Prefect's temporary one takes 10 to 15 s, and `python flow.py` needs no block.
    """
    api = get_current_settings().api.url
    later = f"`python project.py` saves it as {block!r}"
    if api is None:
        return f"Not saved as a block, since no Prefect server is configured: {later}."
    try:
        project.save(block)
    except ValueError:  # Prefect's word for a name that is taken
        return f"Not saved as a block, since one of that name is there: {later} in its place."
    except httpx.HTTPError as error:
        return f"Not saved as a block, since the Prefect server at {api} does not take it ({error}): {later}."
    return f"Saved the block {block!r} on the Prefect server at {api}."


def _rights(project: SageMakerProject) -> str:
    """Return the policies, with a place that is an example where the project has none on AWS."""
    if not project.is_local:
        return f"The rights that it needs on AWS, by `ssm policy`:\n{as_json(documents(project))}"
    role = f"{slug(project.project)}-jobs"
    example = project_on_aws(project.project, _EXAMPLE_BUCKET, region=_EXAMPLE_REGION, role=role)
    return (
        f"The rights that it will need on AWS, for a bucket {_EXAMPLE_BUCKET!r} and a role {role!r} "
        f"(for yours: ssm policy --project {project.project} --bucket … --region … --role …):\n"
        f"{as_json(documents(example))}"
    )


def _go_to(directory: Path) -> str:
    return "" if directory == Path.cwd() else f"cd {shlex.quote(str(directory))} && "
