"""Synchronization of local directories and S3 prefixes, and safe extraction of archives."""

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks_lib.aws.sync import download, extract, local_files, manifest_of, upload
from tasks_lib.errors import InputsChanged, InvalidName, MissingPath, UnsafeArchive
from tasks_lib.jobs.s3_layout import Location


def pack(path, *members):
    """Write a tarball of members (name, text or type of `tarfile`, optional attributes)."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content, *more in members:
            member = tarfile.TarInfo(name)
            for key, value in (more[0] if more else {}).items():
                setattr(member, key, value)
            if isinstance(content, str):
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content.encode()))
            else:
                member.type = content
                tar.addfile(member)
    return path


def everything(folder):
    """Return all paths below a directory with their modes."""
    return {str(path.relative_to(folder)): path.lstat().st_mode for path in sorted(folder.rglob("*"))}


@pytest.fixture
def place(tmp_path):
    """A directory with the target of an extraction, and a neighbour that must not change."""
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "file").write_text("mine")
    (tmp_path / "target").mkdir()
    return tmp_path


# -- extraction ----------------------------------------------------------------------------------------------------

GOOD = ("good", "fine")
HOSTILE = {
    "name too long": ("n" * 300, "evil"),
    "link to a name too long": ("link", tarfile.SYMTYPE, {"linkname": "n" * 300}),
    "climbs": ("../beside/file", "evil"),
    "climbs in the middle": ("a/../../beside/file", "evil"),
    "climbs at the end": ("a/..", tarfile.DIRTYPE),
    "absolute": ("/tmp/absolute-evil", "evil"),
    "absolute directory": ("/tmp/absolute-evil-dir", tarfile.DIRTYPE),
    "climbing directory": ("../beside/new", tarfile.DIRTYPE),
    "symbolic link": ("link", tarfile.SYMTYPE, {"linkname": "../beside"}),
    "symbolic link to nothing": ("link", tarfile.SYMTYPE, {"linkname": "gone"}),
    "hard link": ("link", tarfile.LNKTYPE, {"linkname": "../beside/file"}),
    "character device": ("null", tarfile.CHRTYPE, {"devmajor": 1, "devminor": 3}),
    "block device": ("disk", tarfile.BLKTYPE),
    "pipe": ("pipe", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("first", [True, False])
def test_a_hostile_archive_writes_nothing(place, what, first):
    """A hostile member at any position makes the extraction write nothing, not even the valid members."""
    members = [HOSTILE[what], GOOD] if first else [GOOD, HOSTILE[what]]
    archive = pack(place / "evil.tar.gz", *members)
    before = everything(place)

    with pytest.raises(UnsafeArchive, match="nothing of it was unpacked") as caught:
        extract(archive, place / "target")

    assert before == everything(place)
    assert (place / "beside" / "file").read_text() == "mine"
    assert repr(HOSTILE[what][0][:40]) in caught.value.message


def test_links_that_stay_inside_are_kept(place):
    """Links inside the archive are kept, like `latest -> step-100` in a model or the links of a Hugging Face cache."""
    archive = pack(
        place / "a.tar.gz",
        ("blobs/1", "weights"),
        ("snapshots/main/model.bin", tarfile.SYMTYPE, {"linkname": "../../blobs/1"}),
        ("latest", tarfile.SYMTYPE, {"linkname": "snapshots/main"}),
        ("same", tarfile.LNKTYPE, {"linkname": "blobs/1"}),
    )

    found = extract(archive, place / "target")

    names = ["blobs/1", "same", "snapshots/main/model.bin"]
    assert found == [place / "target" / name for name in names]
    assert {path.read_text() for path in found} == {"weights"}
    assert (place / "target" / "latest" / "model.bin").read_text() == "weights"
    assert (place / "target" / "latest").readlink() == Path("snapshots/main")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), kind=st.sampled_from(["gz", "bz2", "xz"]))
def test_a_damaged_byte_is_noticed(tmp_path_factory, part, flip, kind):
    """With any damaged byte in a compressed archive, the extraction gives the original content or writes nothing."""
    place = tmp_path_factory.mktemp("damaged")
    content = bytes(range(256)) * 40
    with tarfile.open(place / "a.tar.gz", f"w:{kind}") as tar:
        member = tarfile.TarInfo("weights")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    damaged = bytearray((place / "a.tar.gz").read_bytes())
    damaged[int(part * len(damaged))] ^= flip
    (place / "a.tar.gz").write_bytes(damaged)

    try:
        (path,) = extract(place / "a.tar.gz", place / "target")
    except UnsafeArchive:
        assert not list((place / "target").glob("*"))
    else:
        assert path.read_bytes() == content


def test_a_damaged_header_is_not_taken_for_the_end(place):
    """A damaged header in an uncompressed tarball is an error; `tarfile` would take it for the end."""
    with tarfile.open(place / "a.tar.gz", "w:") as tar:
        for name in ("one", "two"):
            tar.addfile(tarfile.TarInfo(name))
    content = bytearray((place / "a.tar.gz").read_bytes())
    sound = extract(place / "a.tar.gz", place / "target")
    content[512] ^= 1  # in the second header
    (place / "a.tar.gz").write_bytes(content)

    assert [path.name for path in sound] == ["one", "two"]
    with pytest.raises(UnsafeArchive, match="a header is damaged"):
        extract(place / "a.tar.gz", place / "new")


def test_an_archive_nested_without_end_is_refused(place):
    """1,500 nested directories are an `UnsafeArchive`, not a `RecursionError`."""
    with pytest.raises(UnsafeArchive, match="directories deep"):
        extract(pack(place / "a.tar.gz", ("d/" * 1500 + "x", "1")), place / "target")


def test_a_link_and_a_file_behind_it_write_nothing(place):
    """A link that leads outside and a file behind it write nothing."""
    archive = pack(place / "evil.tar.gz", ("d", tarfile.SYMTYPE, {"linkname": "../beside"}), ("d/file", "evil"))

    with pytest.raises(UnsafeArchive):
        extract(archive, place / "target")

    assert (place / "beside" / "file").read_text() == "mine"


def test_nothing_is_written_through_a_link_in_the_target(place):
    """A linked directory in the target is not followed, and no other file is written either."""
    (place / "target" / "sub").symlink_to("../beside")
    archive = pack(place / "a.tar.gz", GOOD, ("sub/file", "evil"))

    with pytest.raises(UnsafeArchive):
        extract(archive, place / "target")

    assert (place / "beside" / "file").read_text() == "mine"
    assert everything(place / "target").keys() == {"sub"}


def test_a_link_in_place_of_a_file_is_replaced(place):
    """A linked file in the target is replaced, and the file that it links to is unchanged."""
    (place / "target" / "good").symlink_to("../beside/file")

    extract(pack(place / "a.tar.gz", GOOD), place / "target")

    assert (place / "beside" / "file").read_text() == "mine"
    assert not (place / "target" / "good").is_symlink()
    assert (place / "target" / "good").read_text() == "fine"


def test_a_target_that_is_a_link_itself_is_fine(place):
    """A target that is itself a link is followed: its owner may have linked it to a large disk."""
    (place / "out").symlink_to("target")

    extract(pack(place / "a.tar.gz", ("sub/good", "fine")), place / "out")

    assert (place / "target" / "sub" / "good").read_text() == "fine"


def test_a_good_archive_is_unpacked(place):
    """Files and directories are extracted, also with `./` in their names; the files are returned in order."""
    archive = pack(
        place / "a.tar.gz", (".", tarfile.DIRTYPE), ("./b/c", "2"), ("a", "1"), ("empty", tarfile.DIRTYPE), ("z", "")
    )

    found = extract(archive, place / "new" / "target")

    assert [place / "new" / "target" / name for name in ("a", "b/c", "z")] == found
    assert [path.read_text() for path in found] == ["1", "2", ""]
    assert (place / "new" / "target" / "empty").is_dir()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(0o6755, 0o755), (0o7777, 0o755), (0o644, 0o644), (0o000, 0o600), (0o4711, 0o711), (0o666, 0o644)],
)
def test_modes_are_restricted(place, mode, expected):
    """Modes have no set-uid bit, are not writable for others, and are readable for the user."""
    (path,) = extract(pack(place / "a.tar.gz", ("x", "1", {"mode": mode})), place / "target")

    assert expected == stat.S_IMODE(path.stat().st_mode)


def test_the_last_of_two_members_of_one_name_counts(place):
    """Of two members with the same name, the last is used, as by `tar`."""
    extract(pack(place / "a.tar.gz", ("x", "1"), ("x", "2")), place / "target")

    assert (place / "target" / "x").read_text() == "2"


@pytest.mark.parametrize("broken", ["no tarball", "empty", "cut off", "cut off within a member"])
def test_a_broken_archive_is_unsafe(place, broken):
    """A truncated or invalid archive is an `UnsafeArchive`, and nothing is written."""
    archive = pack(place / "a.tar.gz", GOOD, ("big", os.urandom(200_000).hex()))
    content = archive.read_bytes()
    archive.write_bytes(
        {"no tarball": b"<html>", "empty": b"", "cut off": content[:15], "cut off within a member": content[:-50_000]}[
            broken
        ]
    )

    with pytest.raises(UnsafeArchive):
        extract(archive, place / "target")

    assert everything(place / "target") == {}


@pytest.mark.parametrize("members", [[("a", "1"), ("a/b", "2")], [("d/x", "1"), ("d", "2")], [("", "1")], [(".", "1")]])
def test_an_archive_that_contradicts_itself_is_unsafe(place, members):
    """An archive whose member is a file and a directory is an `UnsafeArchive`, not a bare `OSError`."""
    with pytest.raises(UnsafeArchive):
        extract(pack(place / "a.tar.gz", *members), place / "target")


# -- local files ---------------------------------------------------------------------------------------------------


def test_files_of_a_directory_and_of_a_file(tmp_path):
    """Files of a directory are named relative to it; a single file has its own name."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    (tmp_path / "y").write_text("2")

    assert local_files(tmp_path) == {"a/x": tmp_path / "a" / "x", "y": tmp_path / "y"}
    assert local_files(tmp_path / "y") == {"y": tmp_path / "y"}


def test_an_input_whose_name_is_no_utf_8_is_named(tmp_path):
    """A file name that is not UTF-8 is refused before the upload; `café` in UTF-8 is valid."""
    (tmp_path / "café").write_text("1")
    assert list(local_files(tmp_path)) == ["café"]

    (tmp_path / os.fsdecode(b"caf\xe9")).write_text("1")
    with pytest.raises(InvalidName, match="is not valid UTF-8"):
        local_files(tmp_path)


@pytest.mark.parametrize("name", ["gone", "empty"])
def test_no_input_is_an_error_with_its_absolute_path(tmp_path, monkeypatch, name):
    """A missing or empty input is an error with its absolute path, because SageMaker would refuse it late."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()

    with pytest.raises(MissingPath) as caught:
        local_files(Path(name))

    assert str(tmp_path / name) in caught.value.message


def test_a_link_loop_in_an_input_ends(tmp_path):
    """A loop of links ends, and each file has the name without a loop."""
    (tmp_path / "x").write_text("1")
    (tmp_path / "loop").symlink_to(".")

    assert list(local_files(tmp_path)) == ["x"]


@pytest.mark.parametrize("what", ["broken link", "pipe"])
def test_what_cannot_be_read_is_no_input(tmp_path, what):
    """A pipe and a broken link are not read, so that nothing blocks; an error that names them is also allowed."""
    (tmp_path / "x").write_text("1")
    if what == "pipe":
        os.mkfifo(tmp_path / "other")
    else:
        (tmp_path / "other").symlink_to("nowhere")

    try:
        assert list(local_files(tmp_path)) == ["x"]
    except MissingPath as error:
        assert str(tmp_path / "other") in error.message  # noqa: PT017 - a clear error is also allowed


def test_modes_do_not_enter_a_manifest_of_data(tmp_path):
    """File modes do not change the manifest of data, because S3 does not keep them."""
    (tmp_path / "x").write_text("1")
    before = manifest_of(local_files(tmp_path)).digest
    (tmp_path / "x").chmod(0o755)

    assert before == manifest_of(local_files(tmp_path)).digest


# -- to and from S3 ------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    """A directory with three local files."""
    for name in ("a.csv", "b.csv", "sub/c.csv"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    return tmp_path / "data"


def sent(objects, folder, target, earlier=None):
    files = local_files(folder)
    return upload(objects, files, manifest_of(files), Location("a-bucket", target), earlier)


def test_an_upload_makes_the_prefix_equal(objects, data):
    """1. All files are sent. 2. The second time none is sent. 3. A deleted object is sent again."""
    assert sent(objects, data, "input/1/") == 3
    assert sent(objects, data, "input/1/") == 0
    assert [name for name, _ in objects.listing(Location("a-bucket", "input/1/"))] == ["a.csv", "b.csv", "sub/c.csv"]

    objects.delete(Location("a-bucket", "input/1/b.csv"))
    assert sent(objects, data, "input/1/") == 1
    assert objects.open(Location("a-bucket", "input/1/b.csv")).read() == b"content of b.csv"


def test_known_content_is_copied_within_s3(objects, data):
    """Unchanged files are copied from the earlier prefix, also under a new name; only the changed file is sent."""
    files = local_files(data)
    earlier = (Location("a-bucket", "input/1/"), manifest_of(files))
    sent(objects, data, "input/1/")
    (data / "a.csv").write_text("new")
    (data / "b.csv").rename(data / "renamed.csv")

    assert sent(objects, data, "input/2/", earlier) == 1
    assert objects.open(Location("a-bucket", "input/2/renamed.csv")).read() == b"content of b.csv"
    assert objects.open(Location("a-bucket", "input/2/a.csv")).read() == b"new"


def test_an_earlier_prefix_that_is_gone_does_not_matter(objects, data):
    """If the earlier prefix is missing, all files are sent."""
    earlier = (Location("a-bucket", "input/1/"), manifest_of(local_files(data)))

    assert sent(objects, data, "input/2/", earlier) == 3


def test_a_file_that_changes_before_its_upload_is_noticed(objects, data):
    """A file that changes before its upload is an error, so that an object always matches its digest."""
    files = local_files(data)
    manifest = manifest_of(files)
    (data / "a.csv").write_text("changed")

    with pytest.raises(InputsChanged) as caught:
        upload(objects, files, manifest, Location("a-bucket", "input/1/"))

    assert str(data / "a.csv") in caught.value.message
    assert not len(objects.listing(Location("a-bucket", "input/1/")))


def test_download_of_a_prefix_and_of_an_object(objects, data, tmp_path):
    """Sent files are downloaded; folder markers of the console are not files, and siblings are not included."""
    sent(objects, data, "out/")
    objects.put(Location("a-bucket", "out/sub/"), b"")
    objects.put(Location("a-bucket", "out2/x"), b"sibling")

    found = download(objects, Location("a-bucket", "out/"), tmp_path / "here")

    assert [tmp_path / "here" / name for name in ("a.csv", "b.csv", "sub/c.csv")] == found
    assert download(objects, Location("a-bucket", "out/a.csv"), tmp_path / "one") == [tmp_path / "one" / "a.csv"]
    assert (tmp_path / "one" / "a.csv").read_text() == "content of a.csv"


@pytest.mark.parametrize("key", ["nothing/", "nothing"])
def test_nothing_to_download_is_an_error(objects, tmp_path, key):
    """Downloading a prefix or object that does not exist is an error."""
    with pytest.raises(MissingPath, match="nothing at s3://a-bucket/nothing"):
        download(objects, Location("a-bucket", key), tmp_path)


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/absolute"])
def test_a_hostile_key_writes_nothing(objects, tmp_path, name):
    """A key that would leave the target directory makes the download write nothing."""
    objects.put(Location("a-bucket", "out/good"), b"1")
    objects.put(Location("a-bucket", f"out/{name}"), b"2")

    with pytest.raises(UnsafeArchive, match="nothing was downloaded"):
        download(objects, Location("a-bucket", "out/"), tmp_path / "here")

    assert not (tmp_path / "here").exists()
    assert not (tmp_path / "evil").exists()
