"""Archives: valid ones are unpacked, hostile ones write nothing, and channels are extracted as requested."""

import os
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker_toolkit.archive import unpack
from worker_toolkit.errors import BootstrapError

pytestmark = pytest.mark.sampled(20, group="all")

FILE, LINK, HARD_LINK, FOLDER = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE

HOSTILE = {
    "parent": [("../evil", FILE, "", b"x")],
    "parent in the middle": [("a/../../evil", FILE, "", b"x")],
    "absolute": [("{outside}/evil", FILE, "", b"x")],
    "parent directory": [("..", FOLDER, "", b"")],
    "link out": [("a", LINK, "../../..", b"")],
    "link to nothing": [("a", LINK, "b", b"")],
    "link to itself": [("a", LINK, "a", b"")],
    "absolute link": [("a", LINK, "{outside}", b"")],
    "link to a file outside": [("a", LINK, "{outside}/kept", b"")],
    "file behind a link": [("a", LINK, "{outside}", b""), ("a/evil", FILE, "", b"x")],
    "directory over a link": [("a", LINK, "{outside}", b""), ("a", FOLDER, "", b""), ("a/evil", FILE, "", b"x")],
    "chain of links": [("b/c/up", LINK, "../..", b""), ("x", LINK, "b/c/up/..", b"")],
    "hard link out": [("a", HARD_LINK, "{outside}/kept", b"")],
    "hard link to the parent": [("a", HARD_LINK, "../kept", b"")],
    "hard link through a link": [("a", LINK, "{outside}", b""), ("b", HARD_LINK, "a/kept", b"")],
    "hard link to a link": [("a", LINK, "{outside}/kept", b""), ("b", HARD_LINK, "a", b"")],
    "hard link through a link that goes": [
        ("a", LINK, "{outside}", b""),
        ("b", HARD_LINK, "a/kept", b""),
        ("a", FILE, "", b"x"),
    ],
    "hard link to a link that goes": [
        ("a", LINK, "{outside}/kept", b""),
        ("b", HARD_LINK, "a", b""),
        ("a", FILE, "", b"x"),
    ],
    "hard link to nothing": [("a", HARD_LINK, "b", b"")],
    "character device": [("null", tarfile.CHRTYPE, "", b"")],
    "block device": [("disk", tarfile.BLKTYPE, "", b"")],
    "pipe": [("pipe", tarfile.FIFOTYPE, "", b"")],
}


@pytest.fixture
def outside(tmp_path):
    """A directory that no archive may touch."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "kept").write_text("as it was")
    return folder


@pytest.fixture(params=HOSTILE)
def hostile(request, outside, member, tarball_of):
    """A tarball with one valid member followed by a hostile one."""
    sound = (member("fit.py", FILE), b"print('ran')")
    return tarball_of(
        [sound]
        + [
            (member(name.format(outside=outside), kind, target.format(outside=outside)), content)
            for name, kind, target, content in HOSTILE[request.param]
        ]
    )


def test_hostile_code_is_refused(training, outside, hostile):
    """A hostile archive writes nothing, and no code runs. The reason names the archive and says why."""
    (training.bundle / "source.tar.gz").write_bytes(hostile)
    ended = training.run("--entry-point", "fit.py")

    assert ended.returncode == 1
    assert "ran" not in ended.stdout.replace("ssm: running", "")
    assert "source.tar.gz is refused, and nothing of it was unpacked" in training.reason.read_text()
    assert list(training.code.glob("*")) == []
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"kept": "as it was"}


def test_a_hostile_model_is_refused(processing, outside, hostile):
    """A hostile archive in a channel to extract is refused, and the channel is unchanged."""
    model = processing.channel("model", {"model.tar.gz": hostile})
    ended = processing.run("--extract", "model", "--command", "echo ran")

    assert ended.returncode == 1
    assert "model.tar.gz is refused" in processing.reason.read_text()
    assert [path.name for path in model.iterdir()] == ["model.tar.gz"]
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"kept": "as it was"}


NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "c"]), min_size=1, max_size=4).map("/".join)


ENTRIES = st.lists(st.tuples(NAMES, st.sampled_from([FILE, LINK, HARD_LINK, FOLDER]), NAMES), max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(ENTRIES, min_size=1, max_size=2))
def test_no_archive_reaches_outside(member, tarball_of, archives):
    """No sequence of files and links changes anything outside, or leaves a link that leads there.

    A refused archive writes nothing.
    """
    with TemporaryDirectory() as folder:
        world = Path(folder).resolve()
        destination = world / "in" / "side"
        destination.mkdir(parents=True)
        (world / "a").write_text("as it was")
        (world / "in" / "a").write_text("as it was")
        archive = world / "archive.tar.gz"
        for entries in archives:
            archive.write_bytes(
                tarball_of([(member(name, kind, link), b"x" * (kind == FILE)) for name, kind, link in entries])
            )
            before = sorted(destination.rglob("*"))
            try:
                unpack(archive, destination)
            except BootstrapError:
                assert sorted(destination.rglob("*")) == before

        assert sorted(path.name for path in world.iterdir()) == ["a", "archive.tar.gz", "in"]
        assert sorted(path.name for path in (world / "in").iterdir()) == ["a", "side"]
        assert (world / "a").read_text() == (world / "in" / "a").read_text() == "as it was"
        assert all(os.path.realpath(path).startswith(f"{destination}") for path in destination.rglob("*"))


def test_a_sound_archive_arrives_whole(training, member, tarball_of):
    """Directories, links inside, hard links, long and non-ASCII names and executable bits are unpacked.

    Of two members with the same name, the last is used.
    """
    long = "x" * 150
    (training.bundle / "source.tar.gz").write_bytes(
        tarball_of(
            [
                (member("./", FOLDER), b""),
                (member("empty/dir", FOLDER), b""),
                (member("./run.sh", FILE, mode=0o755), b"echo one"),
                (member(f"a/{long}/ö", FILE), b"deep"),
                (member("latest", LINK, f"a/{long}"), b""),
                (member("same", HARD_LINK, "run.sh"), b""),
                (member("twice", FILE), b"first"),
                (member("twice", FILE), b"second"),
            ]
        )
    )
    ended = training.run(
        "--command", f"cat latest/ö twice same && test -d empty/dir && test -x run.sh && ! test -x a/{long}/ö"
    )

    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.endswith("deepsecondecho one")


def test_special_bits_and_owners_are_dropped(training, member, tarball_of):
    """A setuid program is unpacked as a plain executable of the job's user, which no other user can write."""
    evil = member("evil", FILE, mode=0o6777)
    evil.uid, evil.gid = 12345, 12345
    (training.bundle / "source.tar.gz").write_bytes(tarball_of([(evil, b"#!/bin/sh\n")]))
    training.run("--command", "true")
    facts = (training.code / "evil").stat()

    assert facts.st_mode & 0o7777 == 0o755
    assert facts.st_uid == os.getuid()


def test_code_goes_over_what_the_image_has(training):
    """The job's files replace only files of the same name that the image has in /opt/ml/code."""
    image = {
        "pkg/old.py": b"X = 'image'",
        "pkg/fit.py": b"print('image')",
        "file": b"",
        "folder/x": b"",
        "to/x": b"kept",
    }
    code = training.fill("/opt/ml/code", image)
    (code / "link").symlink_to("to")
    job = {"file/now.txt": "a folder", "folder": "a file", "link/x": "no longer a link"}
    training.source({"pkg/fit.py": "import old; print('job', old.X)", **job})

    assert training.run("--entry-point", "pkg/fit.py").stdout.endswith("job image\n")
    assert {name: (code / name).read_text() for name in [*job, "to/x"]} == {**job, "to/x": "kept"}


@pytest.mark.parametrize("content", [b"", b"no archive", "cut"])
def test_a_broken_archive_is_the_reason(training, tarball, content):
    """The reason names a truncated or invalid archive, and nothing of it is left unpacked."""
    if content == "cut":
        content = tarball({"a": os.urandom(100_000), "b": b"x"})[:60_000]
    (training.bundle / "source.tar.gz").write_bytes(content)
    ended = training.run("--command", "true")

    assert ended.returncode == 1
    assert "source.tar.gz is not a valid tarball" in training.reason.read_text()
    assert list(training.code.glob("*")) == []


def test_a_missing_archive_is_the_reason(training):
    """The reason says that the bundle's code is missing."""
    (training.bundle / "source.tar.gz").unlink()

    assert training.run("--command", "true").returncode == 1
    assert "source.tar.gz is missing" in training.reason.read_text()


def test_extracted_channels(container, tarball):
    """The tarballs of an extracted channel are unpacked in place, and other channels are unchanged.

    `NAME=DIR` makes the channel's variable point to that directory.
    """
    packed = tarball({"weights/w.bin": b"w", "model.tar.gz": b"a namesake inside"})
    model = container.channel(
        "model", {"model.tar.gz": packed, "readme.txt": b"r", "second.tar": tarball({"weights/v.bin": b"v"})}
    )
    other = container.channel("other", {"deep.tgz": tarball({"sub/dir/x": b"x", "y": b"y"})})
    plain = container.channel("plain", {"model.tar.gz": packed})
    ended = container.run(
        *("--extract", "model", "--extract", "other=sub/dir"),
        *("--command", 'echo "$SM_CHANNEL_MODEL $SM_CHANNEL_OTHER $SM_CHANNEL_PLAIN" "$SM_TRAINING_ENV"'),
    )

    assert ended.returncode == 0, ended.stdout
    assert f"{model} {other}/sub/dir {plain} " in ended.stdout
    assert f'"other":"{other}/sub/dir"' in ended.stdout
    assert {str(path.relative_to(model)): path.read_bytes() for path in model.rglob("*") if path.is_file()} == {
        "weights/w.bin": b"w",
        "weights/v.bin": b"v",
        "model.tar.gz": b"a namesake inside",
        "readme.txt": b"r",
    }
    assert [path.name for path in plain.iterdir()] == ["model.tar.gz"]


def test_an_idle_host_has_an_empty_channel(training):
    """A host that got no objects of a sharded input gets an empty directory instead of the data."""
    training.channel("other")

    assert (
        training.run("--extract", "other=sub", "--command", 'ls "$SM_CHANNEL_OTHER" | wc -l').stdout.split()[-1] == "0"
    )


@pytest.mark.parametrize(
    ("extract", "said"),
    [
        ("modle", "no channel 'modle' to extract; it has: model"),
        ("model=sbu", "no directory 'sbu' after unpacking; it holds: sub"),
    ],
)
def test_what_cannot_be_extracted_is_the_reason(container, tarball, extract, said):
    """The reason for an unknown channel or directory lists the existing ones."""
    container.channel("model", {"model.tar.gz": tarball({"sub/x": b""})})
    ended = container.run("--extract", extract, "--command", "true")

    assert ended.returncode == 1
    assert said in container.reason.read_text()
