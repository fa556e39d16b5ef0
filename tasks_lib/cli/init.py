"""`ssm init`: makes a repository with a flow that runs at once, and saves its block."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import httpx
from prefect.settings import get_current_settings

from blocks import SageMakerProject
from tasks_lib.cli.place import checked, project_on_aws
from tasks_lib.cli.repository import contents, write
from tasks_lib.errors import InvalidName, ProjectError
from tasks_lib.jobs.naming import slug

_EXAMPLE_BUCKET = "your-bucket"
_BLOCK_NAME = r"[a-z0-9-]+"  # the names that Prefect allows


def init(options: argparse.Namespace) -> str:
    """Make the repository; return the text to print.

    Raises:
        PrefectSageMakerError: A name or a value is invalid, or a file exists already. Nothing was written.
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
            f"Made in {directory}:{made}",
            _saved(project, block),
            _later(project),
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
    """Return AWS's own image for scikit-learn: it is small, needs no GPU, is in each region, and need not be built."""
    from sagemaker.core import image_uris  # noqa: PLC0415 - takes 2 s, needed only without --image

    return str(image_uris.retrieve("sklearn", project.region, version="1.4-2", instance_type=project.instance_type))


def _saved(project: SageMakerProject, block: str) -> str:
    """Save the block if a Prefect server is configured; return what happened as text.

    No server is started for it: Prefect's temporary one takes 10 to 15 s, and `python flow.py` needs no block.
    """
    api = get_current_settings().api.url
    later = f"`python project.py` saves it as {block!r}"
    if api is None:
        return f"Not saved as a block, since no Prefect server is configured: {later}."
    try:
        project.save(block)
    except ValueError:  # Prefect raises it for a name that is taken
        return f"Not saved as a block, since one of that name is there: {later} in its place."
    except httpx.HTTPError as error:
        return f"Not saved as a block, since the Prefect server at {api} does not take it ({error}): {later}."
    return f"Saved the block {block!r} on the Prefect server at {api}."


def _later(project: SageMakerProject) -> str:
    """Return what to do later: on AWS, grant permissions; on this machine, end the local SageMaker."""
    if project.is_local:
        return (
            "The flow starts the local SageMaker, which runs on after it: `python -m local_sagemaker down` ends it.\n"
            f"On AWS it needs permissions: `ssm policy --project {project.project} --bucket … --region …` prints them."
        )
    role = f" --role {shlex.quote(project.role)}" if project.role else ""
    place = f"--project {project.project} --bucket {project.bucket} --region {project.region}{role}"
    return f"It needs permissions on AWS: `ssm policy {place}` prints them."


def _go_to(directory: Path) -> str:
    return "" if directory == Path.cwd() else f"cd {shlex.quote(str(directory))} && "
