"""Makes the files of `ssm init`: all of them are written, or none.

The templates are real files that run as they are, so they are linted and tested like all others. Two names in them are
replaced, and for AWS also the project in `project.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

from blocks import SageMakerProject
from tasks_lib.errors import PrefectSageMakerError
from tasks_lib.shadowing import OUR_PACKAGES

_TEMPLATES = {
    "flow.py": "flow.py",
    "code/prepare.py": "code/prepare.py",
    "code/train.py": "code/train.py",
    "data/houses.csv": "data/houses.csv",
    "project.py": "project.py",
    "prefect.yaml": "prefect.yaml",
    "README.md": "README.md",
    ".gitignore": "gitignore",  # under its own name it would apply to the templates themselves
}
_PROJECT, _BLOCK = "my-project", "my-block"
_FIELDS = ("project", "bucket", "region", "image", "role")


def contents(project: SageMakerProject, block: str) -> dict[str, str]:
    """Return the text of each file by its path, relative to the repository.

    Args:
        project: The project that `project.py` describes.
        block: The name under which it is saved.
    """
    templates = files("tasks_lib.cli") / "templates"
    made = {name: (templates / source).read_text(encoding="utf-8") for name, source in _TEMPLATES.items()}
    installed = distribution("prefect-sagemaker")
    made["requirements.txt"] = requirement(installed.version, installed.read_text("direct_url.json")) + "\n"
    if not project.is_local:
        made["project.py"] = _on_aws(made["project.py"], project)
    return {name: text.replace(_PROJECT, project.project).replace(_BLOCK, block) for name, text in made.items()}


def requirement(version: str, origin: str | None) -> str:
    """Return the line of a requirements.txt that installs the prefect-sagemaker that is running.

    Args:
        version: Its version.
        origin: Where it was installed from: the text of `direct_url.json` (PEP 610); None if from an index. With an
            origin, no index has this version, or it has another package of that name.
    """
    if origin is None:
        return f"prefect-sagemaker=={version}"
    found = json.loads(origin)
    if vcs := found.get("vcs_info"):
        return f"prefect-sagemaker @ {vcs['vcs']}+{found['url']}@{vcs['commit_id']}"
    return f"prefect-sagemaker @ {found['url']}"


def _on_aws(text: str, project: SageMakerProject) -> str:
    """Replace the local project in the template by the project on AWS."""
    start, end = text.index("# This machine."), text.index("\nif __name__")
    fields = [f'    {name}="{value}",\n' for name in _FIELDS if (value := getattr(project, name))]
    return f"{text[:start]}project = SageMakerProject(\n{''.join(fields)})\n{text[end:]}"


def write(directory: Path, texts: Mapping[str, str]) -> None:
    """Write all files or none; existing files are never changed.

    Raises:
        PrefectSageMakerError: A file exists already, or a module in the directory would be imported instead of
            prefect-sagemaker's own.
    """
    _check_free(directory, texts)
    with ExitStack() as undo:
        for name, text in texts.items():
            _make_folder((directory / name).parent, undo)
            with (directory / name).open("x", encoding="utf-8") as file:
                undo.callback((directory / name).unlink)
                file.write(text)
        undo.pop_all()


def _make_folder(folder: Path, undo: ExitStack) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent, undo)
        folder.mkdir()
        undo.callback(folder.rmdir)


def _check_free(directory: Path, texts: Mapping[str, str]) -> None:
    wanted = {parent for name in texts for parent in Path(name).parents if parent != Path()}
    taken = [name for name in texts if (directory / name).exists() or (directory / name).is_symlink()]
    taken += [str(folder) for folder in wanted if (directory / folder).exists() and not (directory / folder).is_dir()]
    if taken:
        raise PrefectSageMakerError(
            f"In {directory.absolute()} there is already: {', '.join(sorted(taken))}. Nothing was written.",
            fix="name another directory (`ssm init NAME`), or move these away.",
        )
    shadows = [name for name in OUR_PACKAGES if _is_importable(directory, name)]
    if shadows:
        raise PrefectSageMakerError(
            f"In {directory.absolute()} Python would import {', '.join(shadows)} in place of prefect-sagemaker's own. "
            "Nothing was written.",
            fix="give that another name, or name another directory (`ssm init NAME`).",
        )


def _is_importable(directory: Path, name: str) -> bool:
    return (directory / name / "__init__.py").exists() or (directory / f"{name}.py").exists()
