"""The data directory: which directories become a home, its file permissions, and partly written lines."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
from api_requests import error_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local_sagemaker.home import Home, NotAHome
from local_sagemaker.moto_journal import append_line

pytestmark = pytest.mark.sampled(6, group="all")

TORN = '{"service": "ssm", "re'


def tear(backend):
    """Append a partly written line, as a process that dies or finds the disk full leaves it."""
    with (backend.home / "moto.jsonl").open("a") as journal:
        journal.write(TORN)


def put(backend, name):
    """Write a parameter, which is kept only in moto's journal."""
    backend.client("ssm").put_parameter(Name=name, Value=name, Type="String")


def known(backend):
    """Return the names of all parameters."""
    return [each["Name"] for each in backend.client("ssm").describe_parameters()["Parameters"]]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "while it is down"])
def test_half_a_line_loses_nothing_else(own_backend, running):
    """A partly written line loses no acknowledged change before or after it, and all services answer after restarts."""
    own_backend.up()
    put(own_backend, "/before")
    if not running:
        own_backend.kill()
    tear(own_backend)
    own_backend.up()
    put(own_backend, "/after")
    own_backend.kill()
    own_backend.up()

    assert sorted(known(own_backend)) == ["/after", "/before"]
    for service, call in (("iam", "list_roles"), ("sns", "list_topics"), ("secretsmanager", "list_secrets")):
        getattr(own_backend.client(service), call)()


@pytest.mark.always
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text('ab{}"', max_size=9), st.integers(0, 12), st.booleans()), max_size=8))
def test_a_line_is_written_wholly_or_not_at_all(tmp_path_factory, story):
    """Each line is written completely or not at all, wherever the disk is full or an earlier writer was killed."""
    path, written = tmp_path_factory.mktemp("journal") / "lines", []
    for text, room, torn in story:
        if torn:
            with path.open("a") as file:
                file.write(TORN)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", _with_room(room))
            try:
                append_line(path, text)
            except OSError:
                continue
        written.append(text)
    lines = path.read_text().split("\n") if path.exists() else []

    assert [line for line in lines if line and TORN not in line] == [text for text in written if text]


def _with_room(room):
    left, write = [room], os.write

    def limited(descriptor, data):
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = write(descriptor, data[: left[0]])
        left[0] -= count
        return count

    return limited


def test_a_line_that_does_not_fit_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    """A line that does not fit leaves the file unchanged, so that the next line can be read."""
    append_line(tmp_path / "lines", "one")
    monkeypatch.setattr(os, "write", _with_room(2))
    with pytest.raises(OSError, match="No space"):
        append_line(tmp_path / "lines", "two")

    assert (tmp_path / "lines").read_text() == "one\n"


CHANGES = {
    "ssm": ("put_parameter", {"Name": "/a", "Value": "b", "Type": "String"}),
    "iam": ("create_user", {"UserName": "u"}),
    "scheduler": ("create_schedule_group", {"Name": "g"}),
}


@pytest.mark.logs_errors("could not be written to the journal", "Traceback", "FileNotFoundError")
def test_change_that_cannot_be_journaled_is_refused(own_backend):
    """A change that cannot be journaled is an error of the client's protocol; a later retry succeeds and is kept."""
    own_backend.up()
    journal = own_backend.home / "moto.jsonl"
    journal.symlink_to(own_backend.home / "missing" / "moto.jsonl")  # whose directory is missing, even for root
    for service, (name, arguments) in CHANGES.items():
        code, message = error_of(getattr(own_backend.client(service), name), **arguments)
        assert code == "InternalFailure"
        assert message.endswith("could not be written down (No such file or directory), and was not done.")
        assert message.startswith(f"{service}:")
    journal.unlink()
    for service, (name, arguments) in CHANGES.items():
        assert getattr(own_backend.client(service), name)(**arguments)
    own_backend.kill()
    own_backend.up()

    assert known(own_backend) == ["/a"]
    assert [one["UserName"] for one in own_backend.client("iam").list_users()["Users"]] == ["u"]
    groups = own_backend.client("scheduler").list_schedule_groups()["ScheduleGroups"]
    assert sorted(one["Name"] for one in groups) == ["default", "g"]


@pytest.mark.always
def test_foreign_directory_is_not_a_home(tmp_path):
    """A directory that is not a home is neither used, nor made private, nor emptied, even by `reset --yes`."""
    for name in ("logs", "jobs", "s3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    tmp_path.chmod(0o755)
    command = [sys.executable, "-m", "local_sagemaker"]
    for words in (["up"], ["reset", "--yes"]):
        done = subprocess.run(
            [*command, *words, "--home", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 1
        assert "is not a data directory of the local SageMaker" in done.stderr
    subprocess.run([*command, "down", "--home", str(tmp_path)], capture_output=True, check=True, timeout=60)

    assert sorted(path.parent.name for path in tmp_path.rglob("mine")) == ["jobs", "logs", "s3"]
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("there", [[], ["settings.json"], ["endpoint.json", "notes.txt"], ["jobs.sqlite", "s3"]])
def test_a_directory_that_may_become_a_home_is_closed(tmp_path, there):
    """An empty directory, one with settings, or an older home without a marker becomes a home private to its user."""
    for name in there:
        (tmp_path / name).touch()
    tmp_path.chmod(0o755)
    Home(tmp_path).make()

    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert Home(tmp_path).is_home


def test_what_stands_in_the_way_is_named(tmp_path):
    """The error names the files that prevent a directory from becoming a home."""
    (tmp_path / "flow.py").touch()

    with pytest.raises(NotAHome, match=r"other things in it: flow\.py"):
        Home(tmp_path).make()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"endpoint": 1}', "\0\0\0\0"])
def test_a_damaged_endpoint_is_none(tmp_path, content):
    """A damaged endpoint.json, as a machine crash may leave it, counts as none; the next `up` writes it again."""
    (tmp_path / "endpoint.json").write_text(content)

    assert Home(tmp_path).endpoint() is None


def test_nothing_in_a_home_is_for_others(own_backend):
    """Whatever the shell's umask, a home's directories are 0700 and its files 0600; settings.json is the user's."""
    script = 'umask 0; exec "$@"'
    subprocess.run(["/bin/sh", "-c", script, "sh", *own_backend.command("up")], check=True, capture_output=True)
    own_backend.client("s3").create_bucket(Bucket="private")
    own_backend.client("s3").put_object(Bucket="private", Key="k", Body=b"v")
    put(own_backend, "/kept")
    users = own_backend.home / "settings.json"
    found = [path for path in own_backend.home.rglob("*") if not path.is_symlink() and path != users]
    open_to_others = [path for path in found if path.stat().st_mode & 0o077]

    assert open_to_others == []
