"""The code bundle: which files are in it, the same digest for the same code, and archives with the same bytes."""

import io
import os
import stat
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.aws.sync import hash_file
from tasks_lib.errors import InputsChanged, InvalidName, InvalidTask, MissingPath
from tasks_lib.staging.source import Source, bundle_digest, toolkit
from worker_toolkit.contract import CONTRACT_VERSION


def tree(root, **files):
    """Write files, with `a__b` for `a/b`."""
    for name, text in files.items():
        write(root / name.replace("__", "/"), text)
    return root


def write(path, text="x", mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def names(source):
    return sorted(source.files)


def collected(folder, entry_point=None, dependencies=()):
    return Source.collect(folder, entry_point, dependencies)[0]


@pytest.fixture
def code(tmp_path):
    """A directory with an entry point, a package and a script."""
    folder = tmp_path / "code"
    write(folder / "fit.py", "print(1)")
    write(folder / "lib" / "util.py", "x = 1")
    write(folder / "run.sh", "echo", 0o755)
    return folder


# -- which files ---------------------------------------------------------------------------------------------------


def test_a_source_directory_becomes_the_code(code):
    """The files of a source directory are named relative to it."""
    source, entry_point = Source.collect(code, "fit.py")

    assert names(source) == ["fit.py", "lib/util.py", "run.sh"]
    assert entry_point == "fit.py"


def test_a_single_file_travels_alone(code):
    """Without `source_dir` the bundle has only the entry point."""
    source, entry_point = Source.collect(None, str(code / "fit.py"))

    assert (names(source), entry_point) == (["fit.py"], "fit.py")


@pytest.mark.parametrize("written", ["lib/util.py", "./lib/util.py", "lib/../lib/util.py", "lib//util.py"])
def test_an_entry_point_may_be_written_in_many_ways(code, written):
    """Different spellings of an entry point's path give one name in the job."""
    assert Source.collect(code, written)[1] == "lib/util.py"


IGNORED = [
    ".git/HEAD", ".hg/store", "__pycache__/fit.cpython-311.pyc", "lib/__pycache__/x.pyc", "old.pyc", ".DS_Store",
    "lib/.DS_Store", ".ipynb_checkpoints/a.ipynb", ".venv/bin/python", "venv/bin/python", ".mypy_cache/x",
    ".pytest_cache/x", ".ruff_cache/x",
]  # fmt: skip


@pytest.mark.parametrize("name", IGNORED)
def test_what_tools_leave_behind_is_no_code(code, name):
    """Files of tools are ignored: they change with every test run or edit, and would make every step run again."""
    before = collected(code).manifest.digest
    write(code / name)

    assert before == collected(code).manifest.digest


def test_an_environment_by_any_name_is_no_code(code):
    """A directory with `pyvenv.cfg` is a virtual environment, and is ignored."""
    write(code / "my-env" / "pyvenv.cfg")
    write(code / "my-env" / "lib" / "huge.py")

    assert names(collected(code)) == ["fit.py", "lib/util.py", "run.sh"]


def test_ignore_file_follows_the_rules_of_git(code):
    """`.sagemakerignore` has Git's rules: patterns, directories, anchors, comments, exceptions. It is not bundled."""
    for name in ("data/big.csv", "keep/big.csv", "notes.md", "lib/notes.md", "only/here.txt", "lib/only/here.txt"):
        write(code / name)
    write(code / ".sagemakerignore", "# comment\n*.csv\n!keep/big.csv\nnotes.md\n/only/\n")

    assert names(collected(code)) == ["fit.py", "keep/big.csv", "lib/only/here.txt", "lib/util.py", "run.sh"]


SECRETS = [
    *(".env", ".env.production", "prod.env", "deep/.env", "ca.pem", "tls.key", "id_rsa", "id_ed25519", ".netrc"),
    *(".pypirc", ".git-credentials", ".aws/credentials", ".ssh/config", ".docker/config.json", "credentials.json"),
    *("store.p12", "terraform.tfstate", "service-account-7.json", ".streamlit/secrets.toml"),
]


@pytest.mark.parametrize("name", SECRETS)
def test_what_looks_like_a_secret_stays_behind_and_is_named(code, name):
    """A file or directory whose name suggests a secret is left out and reported, wherever it is."""
    write(code / name, "s3cret")
    source = collected(code, "fit.py")

    assert names(source) == ["fit.py", "lib/util.py", "run.sh"]
    (left_out,) = source.left_out
    assert left_out == name or (left_out.endswith("/") and name.startswith(left_out))


@pytest.mark.parametrize(
    "name",
    [".env.example", "env.py", "environment.yml", "key.py", "id_rsa.pub", "keys/a.txt", "pem.txt", "aws/x", "k.asc"],
)
def test_what_only_sounds_like_a_secret_travels(code, name):
    """Templates, public keys and code about keys are included."""
    write(code / name)
    source = collected(code, "fit.py")

    assert name in names(source)
    assert source.left_out == ()


def test_a_secret_travels_where_it_is_named(code, tmp_path):
    """A secret is included if the ignore file or a dependency names it; one that the user ignores is not reported."""
    write(code / ".sagemakerignore", "!ca.pem\nother.pem\n")
    for name in ("ca.pem", "other.pem", ".env"):
        write(code / name)
    source = collected(code, "fit.py", [write(tmp_path / "named.pem")])

    assert names(source) == ["ca.pem", "fit.py", "lib/util.py", "named.pem", "run.sh"]
    assert source.left_out == (".env",)


def test_another_ignore_file_can_be_included(code):
    """`#!include:.gitignore` works as in Google's `.gcloudignore`, and later lines win.

    Without it the file is not read.
    """
    write(code / ".gitignore", "*.sh\nlib/\n")
    before = names(collected(code))
    write(code / ".sagemakerignore", "#!include:.gitignore\n!run.sh\n")

    assert before == [".gitignore", "fit.py", "lib/util.py", "run.sh"]
    assert names(collected(code)) == [".gitignore", "fit.py", "run.sh"]


def test_an_ignore_file_that_is_not_there_cannot_be_included(code):
    """The error for a missing included file has both paths."""
    write(code / ".sagemakerignore", "#!include:.dockerignore\n")

    with pytest.raises(MissingPath, match=r"\.sagemakerignore includes .*\.dockerignore, which does not exist"):
        collected(code)


def test_a_shell_script_of_windows_is_refused(code):
    """A shell entry point with CRLF is refused, because the CRs would be in its commands; other files may have CRLF."""
    for name, text in (("a.sh", "ls\r\n"), ("b.sh", "#!/bin/bash\r\nls\r\n"), ("c.py", "x = 1\r\n"), ("d.sh", "ls\n")):
        (code / name).write_bytes(text.encode())

    for name in ("a.sh", "b.sh"):
        with pytest.raises(InvalidTask, match=f"{name} has line ends of Windows"):
            collected(code, name)
        with pytest.raises(InvalidTask, match="CRLF"):
            Source.collect(None, str(code / name))
    for name in ("c.py", "d.sh"):
        assert name in names(collected(code, name))


def test_a_file_whose_name_is_no_utf_8_is_named(code):
    """A file name that is not UTF-8 is an `InvalidName` with the file, not a bare `UnicodeEncodeError` later."""
    (code / os.fsdecode(b"caf\xe9.txt")).write_text("x")

    with pytest.raises(InvalidName, match=r"caf\\udce9\.txt' in .* is not valid UTF-8"):
        collected(code, "fit.py")


def test_dependencies_lie_beside_the_entry_point(code, tmp_path):
    """A dependency has its own name beside the entry point; ignored files in a directory are left out."""
    extra = tree(tmp_path / "shared", a="1", sub__b="2", __pycache____c="3")
    single = write(tmp_path / "setup.cfg")

    assert names(collected(code, "fit.py", [extra, str(single)])) == [
        *("fit.py", "lib/util.py", "run.sh", "setup.cfg", "shared/a", "shared/sub/b"),
    ]


def test_two_files_cannot_have_one_name(code, tmp_path):
    """The error for two files with the same name has both paths."""
    other = write(tmp_path / "fit.py", "other")

    with pytest.raises(InvalidTask) as caught:
        collected(code, "fit.py", [other])

    assert str(other) in caught.value.message
    assert str(code / "fit.py") in caught.value.message


def test_the_same_file_twice_is_one_file(code):
    """A dependency that is already in the source directory is included once."""
    assert names(collected(code, "fit.py", [code / "fit.py"])) == ["fit.py", "lib/util.py", "run.sh"]


def test_links_are_followed(code, tmp_path):
    """A linked file is included as a regular file, because a link's target does not exist in the job."""
    write(tmp_path / "elsewhere" / "deep.py", "deep")
    (code / "linked").symlink_to(tmp_path / "elsewhere")
    (code / "alias.py").symlink_to("fit.py")
    source = collected(code)

    assert names(source) == ["alias.py", "fit.py", "lib/util.py", "linked/deep.py", "run.sh"]
    assert source.manifest.items["alias.py"] == source.manifest.items["fit.py"]


def test_link_loops_end(code):
    """A directory that contains a link to itself is included once."""
    (code / "lib" / "loop").symlink_to(code)
    (code / "self").symlink_to(".")

    assert names(collected(code)) == ["fit.py", "lib/util.py", "run.sh"]


def test_broken_links_and_pipes_are_no_files(code):
    """Broken links and pipes are left out, so that reading does not block."""
    (code / "broken.py").symlink_to("nowhere.py")
    os.mkfifo(code / "pipe")

    assert names(collected(code)) == ["fit.py", "lib/util.py", "run.sh"]


def test_a_directory_that_is_linked_to_lies_in_both_places(tmp_path):
    """A linked directory is included at both places, in any alphabetical order."""
    code = tmp_path / "code"
    write(code / "common" / "util.py")
    for package in ("app", "zoo"):
        write(code / package / "main.py")
        (code / package / "common").symlink_to("../common")

    assert names(collected(code)) == [
        *("app/common/util.py", "app/main.py", "common/util.py", "zoo/common/util.py", "zoo/main.py"),
    ]


# -- errors --------------------------------------------------------------------------------------------------------


def test_errors_have_the_absolute_path(tmp_path, monkeypatch):
    """Errors have the absolute path, because the working directory may not be known to the reader."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code").mkdir()
    calls = {
        "code/fit.py": lambda: Source.collect(Path("code"), "fit.py"),
        "gone": lambda: Source.collect(Path("gone"), "fit.py"),
        "fit.py": lambda: Source.collect(None, "fit.py"),
        "shared": lambda: Source.collect(Path("code"), None, ["shared"]),
    }

    for path, call in calls.items():
        with pytest.raises(MissingPath) as caught:
            call()
        assert str(tmp_path / path) in caught.value.message
        assert caught.value.fix


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("code/fit.py", ": 'fit.py'?"),  # names the directory twice
        ("code/lib/util.py", ": 'lib/util.py'?"),
        ("ft.py", ": 'fit.py'?"),
        ("evaluate.sh", "."),
    ],
)
def test_an_entry_point_that_is_not_there_is_looked_for(code, written, advice):
    """The fix for a missing entry point says where paths start and which file is probably meant."""
    with pytest.raises(MissingPath, match="does not exist") as caught:
        Source.collect(code, written)

    assert caught.value.fix == f"give a path relative to source_dir, {code}{advice}"


def test_an_ignored_entry_point_can_be_sent(code):
    """The fix for an ignored entry point is the line that includes it."""
    write(code / ".sagemakerignore", "fit.py")
    with pytest.raises(MissingPath, match="is ignored") as caught:
        Source.collect(code, "fit.py")

    assert caught.value.fix == "`!fit.py` in .sagemakerignore sends it."
    write(code / ".sagemakerignore", "fit.py\n!fit.py")
    assert Source.collect(code, "fit.py")[1] == "fit.py"


def test_a_directory_is_no_entry_point(code):
    """A directory as entry point is refused, with and without a source directory."""
    with pytest.raises(MissingPath):
        Source.collect(code, "lib")
    with pytest.raises(MissingPath):
        Source.collect(None, str(code / "lib"))


def test_a_file_is_no_source_directory(code):
    """A file as `source_dir` is refused."""
    with pytest.raises(MissingPath, match="source directory"):
        Source.collect(code / "fit.py", None)


def test_an_entry_point_outside_of_the_source_is_refused(code, tmp_path):
    """An entry point outside the source directory is refused, because it would not be in the bundle."""
    write(tmp_path / "other.py")

    with pytest.raises(MissingPath, match="entry point"):
        Source.collect(code, "../other.py")


@pytest.mark.parametrize("which", ["ignored", "outside", "absolute"])
def test_an_existing_file_is_not_reported_missing(code, tmp_path, which):
    """The error for a file that exists but cannot be used does not say that it is missing."""
    write(code / ".sagemakerignore", "ignored.py")
    write(code / "ignored.py")
    write(tmp_path / "outside.py")
    entry_point = {"ignored": "ignored.py", "outside": "../outside.py", "absolute": str(code / "fit.py")}[which]
    try:
        Source.collect(code, entry_point)
    except MissingPath as error:
        assert "does not exist" not in error.message  # noqa: PT017


# -- one digest ----------------------------------------------------------------------------------------------------


def test_the_digest_is_of_names_contents_and_executable_flags(code):
    """File names, contents and executable bits change the digest."""
    found = {collected(code).manifest.digest}
    write(code / "fit.py", "print(2)")
    found.add(collected(code).manifest.digest)
    (code / "fit.py").chmod(0o755)
    found.add(collected(code).manifest.digest)
    (code / "fit.py").rename(code / "fit2.py")
    found.add(collected(code).manifest.digest)

    assert len(found) == 4


def test_clock_and_umask_do_not_matter(code, tmp_path):
    """Modification times and umask do not change the digest: a checkout on another machine is the same code."""
    other = tmp_path / "checkout" / "code"
    for name in reversed(["fit.py", "lib/util.py", "run.sh"]):
        write(other / name, (code / name).read_text(), 0o700 if name == "run.sh" else 0o600)
        os.utime(other / name, (1, 1))

    assert collected(code).manifest.digest == collected(other).manifest.digest
    assert collected(code).archive() == collected(other).archive()


@given(st.dictionaries(st.from_regex(r"[a-z]{1,4}", fullmatch=True), st.binary(max_size=50), min_size=1, max_size=5))
def test_an_archive_holds_the_files_and_nothing_else(tmp_path_factory, contents):
    """An archive has exactly the files, sorted by name, with mode 644 and without owner or time."""
    folder = tmp_path_factory.mktemp("code")
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with tarfile.open(fileobj=io.BytesIO(collected(folder).archive())) as tar:
        members = tar.getmembers()
        unpacked = {member.name: tar.extractfile(member).read() for member in members}

    assert contents == unpacked
    assert sorted(contents) == list(unpacked)
    assert {(member.mode, member.mtime, member.uid, member.gid, member.uname) for member in members} == {
        (0o644, 0, 0, 0, "")
    }


def test_an_archive_keeps_the_executable_flag(code):
    """An archive keeps the executable bit."""
    with tarfile.open(fileobj=io.BytesIO(collected(code).archive())) as tar:
        assert {member.name: member.mode for member in tar} == {"fit.py": 0o644, "lib/util.py": 0o644, "run.sh": 0o755}


def test_code_that_changes_meanwhile_is_noticed(code):
    """A file that changed after it was hashed is an error, so that the upload always matches the fingerprint."""
    source = collected(code)
    assert source.manifest
    write(code / "fit.py", "print(3)")

    with pytest.raises(InputsChanged) as caught:
        source.archive()

    assert str(code / "fit.py") in caught.value.message


def test_hash_of_a_file(tmp_path):
    """The hash of a file has its size, its content's digest, and whether its owner may execute it."""
    path = write(tmp_path / "x", "abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1

    assert (3, expected, False) == tuple(vars(hash_file(path)).values())
    path.chmod(0o644 | stat.S_IXGRP)
    assert not hash_file(path).executable
    path.chmod(0o744)
    assert hash_file(path).executable


# -- the toolkit ---------------------------------------------------------------------------------------------------


def test_the_toolkit_travels_as_files():
    """The toolkit is a zip with a `__main__` that starts the bootstrap, and the shell script that starts Python."""
    folder = Path(__file__).parents[2] / "worker_toolkit"
    with zipfile.ZipFile(io.BytesIO(toolkit().package)) as packed:
        assert set(packed.namelist()) == {
            "__main__.py",
            *(f"worker_toolkit/{path.name}" for path in folder.glob("*.py")),
        }
        assert b"worker_toolkit.bootstrap" in packed.read("__main__.py")
        assert packed.read("worker_toolkit/bootstrap.py") == (folder / "bootstrap.py").read_bytes()
        assert {info.date_time for info in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert toolkit().starter == (folder / "start.sh").read_bytes()


def test_the_toolkit_is_the_same_bytes_every_time():
    """The toolkit's bytes are the same in every call, so the bundle's name does not change."""
    first = toolkit()
    toolkit.cache_clear()

    assert (first.package, first.digest) == (toolkit().package, toolkit().digest)


def test_one_number_of_the_toolkit_is_in_the_fingerprint():
    """The fingerprint has the version of the toolkit's contract, not its content."""
    assert toolkit().contract == CONTRACT_VERSION


def test_a_foreign_toolkit_is_refused(tmp_path, monkeypatch):
    """The user's own module of the name `worker_toolkit` is refused, and the error has its path."""
    write(tmp_path / "worker_toolkit" / "__init__.py", "")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "worker_toolkit"]:
        monkeypatch.delitem(sys.modules, name)
    toolkit.cache_clear()
    try:
        with pytest.raises(InvalidTask, match="not importable") as caught:
            toolkit()
    finally:
        toolkit.cache_clear()

    assert str(tmp_path / "worker_toolkit") in caught.value.message


def test_a_bundle_is_named_by_code_and_toolkit(code):
    """The bundle's name depends on its code and on the toolkit."""
    before = bundle_digest(collected(code))
    assert before == bundle_digest(collected(code))
    write(code / "fit.py", "print(4)")

    assert before != bundle_digest(collected(code))
