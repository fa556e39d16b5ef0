"""Audit tags: they describe the run, the code and the user in characters that AWS allows, and never fail a job."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from aws_doubles import make_block
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.prefect_runtime.run_context import RunContext
from tasks_lib.run.audit_tags import as_tag, audit_tags, commit_of, started_by
from tasks_lib.staging.source import Source

pytestmark = pytest.mark.processes

LETTERS = re.compile(r"[\w\s.:/=+\-@]{0,256}")


def git(folder: Path, *arguments: str) -> str:
    """Run Git in a folder, without any user's configuration."""
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    environ = {**os.environ, **identity, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, env=environ
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository with the folders `code` and `other`, and an ignore file."""
    folder = tmp_path / "repository"
    for name in ("code/fit.py", "other/note.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1")
    (folder / ".gitignore").write_text("*.log\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def tags_of(source=None, *, entry_point=None, run=None, task="fit"):
    """Return the tags of a job without the prefix `prefect-sagemaker:`."""
    spec = SimpleNamespace(task=task, entry_point=entry_point)
    found = audit_tags(make_block(project="demo"), spec, "f1", run or RunContext(), source)
    assert all(name.startswith("prefect-sagemaker:") for name in found)
    return {name.partition(":")[2]: value for name, value in found.items()}


# -- git -----------------------------------------------------------------------------------------------------------


def test_the_commit_of_the_code(repository):
    """The tag has the full id of the checked-out commit, from any folder of the repository."""
    commit = git(repository, "rev-parse", "HEAD")

    assert commit == commit_of(repository / "code") == commit_of(repository)


@pytest.mark.parametrize("change", ["changed", "added", "staged", "deleted"])
def test_changed_code_is_dirty(repository, change):
    """A folder that differs from its commit is marked dirty, also by new files, which become part of the code."""
    commit, code = git(repository, "rev-parse", "HEAD"), repository / "code"
    if change == "deleted":
        (code / "fit.py").unlink()
    else:
        (code / ("new.py" if change == "added" else "fit.py")).write_text("2")
    if change == "staged":
        git(repository, "add", ".")

    assert commit_of(code) == f"{commit}-dirty"


def test_changes_elsewhere_do_not_count(repository):
    """Changes outside the folder and ignored files do not make it dirty."""
    (repository / "other/note.txt").write_text("2")
    (repository / "code/run.log").write_text("2")

    assert commit_of(repository / "code") == git(repository, "rev-parse", "HEAD")


def test_nothing_is_written_into_the_repository(repository):
    """Reading the commit takes no lock and does not refresh the index, because the user may be committing."""
    (repository / ".git/index.lock").touch()
    before = (repository / ".git/index").read_bytes()
    os.utime(repository / "code/fit.py", (1, 1))  # makes a plain `git status` write the index again

    assert commit_of(repository / "code")
    assert (repository / ".git/index").read_bytes() == before


def test_a_repository_runs_nothing(repository, tmp_path):
    """A program that the repository configures as its file system monitor is not run."""
    monitor = tmp_path / "monitor"
    monitor.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    monitor.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(monitor))

    assert commit_of(repository / "code")
    assert not (tmp_path / "ran").exists()


def test_no_commit(tmp_path, repository):
    """There is no commit without a repository, before the first commit, and for a missing folder."""
    (tmp_path / "plain").mkdir()
    (tmp_path / "new").mkdir()
    git(tmp_path / "new", "init", "--quiet")

    assert commit_of(tmp_path / "plain") is None
    assert commit_of(tmp_path / "new") is None
    assert commit_of(tmp_path / "gone") is None


@pytest.mark.parametrize(
    "trouble",
    [
        FileNotFoundError("git"),
        PermissionError("git"),
        subprocess.TimeoutExpired("git", 5),
        subprocess.CalledProcessError(1, "git"),
    ],
)
def test_git_that_fails(trouble):
    """If Git is missing, must not be run, hangs or fails, there is no commit and no error."""

    def run(_):
        raise trouble

    assert commit_of(Path(), run) is None


def test_variables_of_a_hook_do_not_mislead(repository, tmp_path, monkeypatch):
    """`GIT_DIR` of another repository, which a flow in a Git hook has, is ignored."""
    commit = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other.git"))

    assert commit == commit_of(repository / "code")


# -- tags of a job -------------------------------------------------------------------------------------------------


def test_all_that_is_known_without_prefect(repository):
    """Without a flow run the tags are project, task, fingerprint, commit and user."""
    source, entry_point = Source.collect(repository / "code", "fit.py")
    found = tags_of(source, entry_point=entry_point)

    assert found.keys() == {"project", "task", "fingerprint", "git-commit", "user"}
    assert (found["project"], found["task"], found["fingerprint"]) == ("demo", "fit", "f1")
    assert found["git-commit"] == git(repository, "rev-parse", "HEAD")
    assert found["user"] == started_by()


def test_the_flow_run():
    """In a flow run the tags have its id."""
    assert tags_of(run=RunContext(flow_run="11-22"))["flow-run"] == "11-22"


def test_code_that_is_laid_out_elsewhere(repository, tmp_path):
    """Files that link into a repository, like those of a function task, have that repository's commit."""
    laid = tmp_path / "laid"
    laid.mkdir()
    (laid / "run.py").write_text("generated")
    (laid / "fit.py").symlink_to(repository / "code/fit.py")
    source, entry_point = Source.collect(laid, "run.py")

    assert tags_of(source, entry_point=entry_point)["git-commit"] == git(repository, "rev-parse", "HEAD")


def test_code_without_a_repository(tmp_path):
    """Code without a repository has no commit tag; the commit of the working directory is not used."""
    (tmp_path / "fit.py").write_text("1")
    source, entry_point = Source.collect(tmp_path, "fit.py")

    assert "git-commit" not in tags_of(source, entry_point=entry_point)


def test_a_bare_command(repository, monkeypatch):
    """A command without files belongs to the code of the flow, so it has the commit of the working directory."""
    monkeypatch.chdir(repository / "code")

    assert tags_of()["git-commit"] == git(repository, "rev-parse", "HEAD")


def test_git_is_asked_once_for_a_run(repository, monkeypatch):
    """The commit is cached within a flow run; another run sees a later commit."""
    monkeypatch.chdir(repository)
    one, other = RunContext(flow_run="one"), RunContext(flow_run="other")
    first = tags_of(run=one)["git-commit"]
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "second")

    assert first == tags_of(run=one)["git-commit"]
    assert first != tags_of(run=other)["git-commit"]


def test_the_user_by_variable():
    """`PREFECT_SAGEMAKER_USER` overrides the user of the process."""
    assert started_by({"PREFECT_SAGEMAKER_USER": "ada@example.org"}) == "ada@example.org"
    assert started_by({})


# -- characters that AWS allows ------------------------------------------------------------------------------------


@given(st.text(max_size=600))
def test_every_text_becomes_a_tag(text):
    """Any text becomes a tag of at most 256 allowed characters."""
    assert LETTERS.fullmatch(as_tag(text))


@pytest.mark.parametrize(
    ("text", "tag"), [("DOMAIN\\ada", "DOMAIN_ada"), ("a b/ü-1@x", "a b/ü-1@x"), ("x" * 300, "x" * 256)]
)
def test_what_a_tag_looks_like(text, tag):
    """Allowed characters are kept."""
    assert tag == as_tag(text)
