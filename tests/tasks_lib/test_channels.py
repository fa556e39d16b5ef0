"""Channels as their author writes them: what is taken, what is refused, and what they mean."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.utilities.collections import visit_collection

from tasks_lib import Channel, TaskOutput, output_of
from tasks_lib.errors import InvalidInput
from tasks_lib.jobs.channels import as_channel, as_channels, output_place
from tasks_lib.jobs.kinds import KINDS, kind_of

FOLDER = "s3://bucket/demo/fit/fit-0-1/output/"
TRAINED = {
    "model": f"{FOLDER}model.tar.gz",
    "output": f"{FOLDER}output.tar.gz",
    "state": "s3://bucket/demo/fit/state/",
    "source": "s3://bucket/demo/_bundles/0/source.tar.gz",
}
PROCESSED = {"output": FOLDER, "state": "s3://bucket/demo/fit/state/", "source": TRAINED["source"]}
MADE = {"training": TRAINED, "processing": PROCESSED}


@pytest.mark.parametrize(("kind", "expected"), [("training", "model"), ("processing", "output")])
def test_default_output_of_a_kind(kind, expected):
    """Who names no output means a training task's model, and a processing task's output."""
    name, uri = output_place("x", output_of("fit"), kind_of(kind), MADE[kind])

    assert (expected, MADE[kind][expected]) == (name, uri)
    assert kind_of(kind).default_output == expected


@pytest.mark.parametrize(
    ("kind", "output"), [(kind.name, output) for kind in KINDS.values() for output in kind.outputs]
)
def test_every_output_of_a_kind_has_a_place(kind, output):
    """Each output that a kind of job has can be an input as it is."""
    assert (output, MADE[kind][output]) == output_place("x", output_of("fit", output), kind_of(kind), MADE[kind])


def test_an_output_that_there_is_not_is_refused():
    """By name, before any task runs."""
    with pytest.raises(InvalidInput, match="There is no output 'weights'"):
        output_of("fit", "weights")


def test_an_output_that_the_job_does_not_have_is_refused():
    """A processing task has no model; the error names what it has."""
    with pytest.raises(InvalidInput, match="asks for the 'model'") as caught:
        output_place("x", output_of("prepare", "model"), KINDS["processing"], PROCESSED)

    assert "output, source, state" in caught.value.fix


def test_a_task_without_state_has_none_to_give():
    """`state="none"` leaves no state output."""
    outputs = {name: uri for name, uri in TRAINED.items() if name != "state"}

    with pytest.raises(InvalidInput):
        output_place("x", output_of("fit", "state"), KINDS["training"], outputs)


@pytest.mark.parametrize("subdir", ["a", "/a/", "a//b", "a/b/"])
def test_a_subdir_of_a_directory_ends_in_one_slash(subdir):
    """`test` must not match `test2`."""
    parts = "/".join(part for part in subdir.split("/") if part)

    _, uri = output_place("x", output_of("prepare", subdir=subdir), KINDS["processing"], PROCESSED)

    assert f"{FOLDER}{parts}/" == uri


@pytest.mark.parametrize("subdir", ["..", "../b", "a/../../b", "./a", "a/."])
@pytest.mark.parametrize(
    "channel",
    [
        lambda subdir: output_of("fit", subdir=subdir),
        lambda subdir: as_channel("x", TaskOutput("fit", subdir=subdir)),
        lambda subdir: as_channel("x", Channel("data", subdir=subdir)),
        lambda subdir: as_channel("x", Channel("s3://bucket/data", subdir=subdir)),
    ],
    ids=["output_of", "TaskOutput", "local", "S3"],
)
def test_a_subdir_that_climbs_is_refused(channel, subdir):
    """Whichever way a channel is written: what lies beside a source is not part of it."""
    with pytest.raises(InvalidInput, match="leaves its output"):
        channel(subdir)


@given(st.lists(st.sampled_from(["a", "b.c", "..", ".", ""]), max_size=5).map("/".join))
def test_a_subdir_is_clean_or_refused(subdir):
    """What comes through is a plain path: no slash at the ends, nothing empty, nothing that climbs, never absolute."""
    try:
        channel = as_channel("x", Channel("data", subdir=subdir))
    except InvalidInput:
        assert {"..", "."} & set(subdir.split("/"))
    else:
        assert not channel.subdir or all(part not in ("", ".", "..") for part in channel.subdir.split("/"))
        assert Path("data") in (Path("data") / channel.subdir / "x").parents


def test_a_subdir_of_a_tarball_needs_unpacking():
    """Before it is unpacked nobody can look into it; the error says what to add."""
    with pytest.raises(InvalidInput, match="which is packed") as caught:
        output_place("x", output_of("fit", "model", subdir="best"), KINDS["training"], TRAINED)

    assert "extract=True" in caught.value.fix


def test_a_tarball_is_addressed_as_one_object():
    """Its subdir is found after the unpacking, not in S3."""
    wanted = output_of("fit", "model", subdir="best", extract=True)

    assert ("model", TRAINED["model"]) == output_place("x", wanted, KINDS["training"], TRAINED)


@pytest.mark.parametrize(
    ("kind", "output"),
    [(name, output) for name, kind in KINDS.items() for output in kind.outputs if MADE[name][output].endswith("/")],
)
def test_a_directory_cannot_be_unpacked(kind, output):
    """`extract` of something that is no tarball is a mistake, not a wish that does nothing."""
    with pytest.raises(InvalidInput, match="which is a directory"):
        output_place("x", output_of("fit", output, extract=True), kind_of(kind), MADE[kind])


def test_an_output_that_is_not_packed_is_a_directory():
    """A model that was left uncompressed has directories to read, and nothing to unpack."""
    outputs = TRAINED | {"model": f"{FOLDER}model/"}

    assert output_place("x", output_of("fit", subdir="best"), KINDS["training"], outputs) == (
        "model",
        f"{FOLDER}model/best/",
    )
    with pytest.raises(InvalidInput, match="which is a directory"):
        output_place("x", output_of("fit", extract=True), KINDS["training"], outputs)


@pytest.mark.parametrize(
    "value", [None, 3, 1.5, b"data", ["data"], {"a": "b"}, Channel(None), Channel(3), Channel(["a"])]
)
def test_what_cannot_be_read_is_refused(value):
    """The error names the input and says what one may give."""
    with pytest.raises(InvalidInput, match="Input 'train'") as caught:
        as_channel("train", value)

    assert "output_of(task)" in caught.value.fix


@pytest.mark.parametrize("channel", [Channel("data", distribution="Sharded"), TaskOutput("fit", distribution="all")])
def test_an_unknown_distribution_is_refused(channel):
    """With the two that there are."""
    with pytest.raises(InvalidInput, match="distribution") as caught:
        as_channel("train", channel)

    assert "FullyReplicated, ShardedByS3Key" in caught.value.fix


def test_a_project_needs_a_name_to_look_up():
    """A future or a result knows its own project."""
    with pytest.raises(InvalidInput, match="needs a task's name"):
        output_of(object(), project="features")

    assert output_of("embed", project="features").project == "features"


def test_plain_values_become_channels():
    """A text or a path is a source; what is a channel already stays one; no inputs are no channels."""
    assert as_channels(None) == {}
    assert as_channels({"a": "data", "b": Path("data"), "c": Channel("s3://b/p"), "d": output_of("t")}) == {
        "a": Channel("data"),
        "b": Channel(Path("data")),
        "c": Channel("s3://b/p"),
        "d": TaskOutput("t"),
    }


@pytest.mark.parametrize(
    ("source", "expected"), [("s3://b/p", True), ("data", False), (Path("data"), False), ("s3", False)]
)
def test_what_lies_in_s3(source, expected):
    """Told by the scheme alone."""
    assert Channel(source).is_s3 is expected


class FutureDouble:
    """Stands for a Prefect future: something that a visitor replaces by its result."""


@pytest.mark.parametrize(
    "inputs",
    [
        lambda channel: {"data": channel},
        lambda channel: {"a": "data", "b": {"c": [channel]}},
        lambda channel: [(channel,)],
    ],
)
def test_prefect_finds_futures_inside_channels(inputs):
    """Prefect draws the edges of its graph, and puts results in, with this very function; the dataclass is frozen."""
    future = FutureDouble()
    channel = output_of(future, "model", subdir="best", extract=True, distribution="ShardedByS3Key")

    resolved = visit_collection(
        inputs(channel), lambda value: "the result" if value is future else value, return_data=True
    )

    assert resolved == inputs(
        output_of("the result", "model", subdir="best", extract=True, distribution="ShardedByS3Key")
    )
