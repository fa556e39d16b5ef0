"""Channels as users write them: which are accepted, which are refused, and what they mean."""

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
    """Without an output name a training task gives its model, and a processing task its output."""
    name, uri = output_place("x", output_of("fit"), kind_of(kind), MADE[kind])

    assert (expected, MADE[kind][expected]) == (name, uri)
    assert kind_of(kind).default_output == expected


@pytest.mark.parametrize(
    ("kind", "output"), [(kind.name, output) for kind in KINDS.values() for output in kind.outputs]
)
def test_every_output_of_a_kind_has_a_place(kind, output):
    """Each output of a kind of job can be an input."""
    assert (output, MADE[kind][output]) == output_place("x", output_of("fit", output), kind_of(kind), MADE[kind])


def test_an_output_that_there_is_not_is_refused():
    """An unknown output name is refused before any task runs."""
    with pytest.raises(InvalidInput, match="There is no output 'weights'"):
        output_of("fit", "weights")


def test_an_output_that_the_job_does_not_have_is_refused():
    """An output that the job does not have is refused, and the error names the existing ones."""
    with pytest.raises(InvalidInput, match="asks for the 'model'") as caught:
        output_place("x", output_of("prepare", "model"), KINDS["processing"], PROCESSED)

    assert "output, source, state" in caught.value.fix


def test_a_task_without_state_has_none_to_give():
    """With `state="none"` there is no state output."""
    outputs = {name: uri for name, uri in TRAINED.items() if name != "state"}

    with pytest.raises(InvalidInput):
        output_place("x", output_of("fit", "state"), KINDS["training"], outputs)


@pytest.mark.parametrize("subdir", ["a", "/a/", "a//b", "a/b/"])
def test_a_subdir_of_a_directory_ends_in_one_slash(subdir):
    """The URI of a subdir ends with one slash, so that `test` does not match `test2`."""
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
    """A subdir that leaves its source is refused, however the channel is written."""
    with pytest.raises(InvalidInput, match="leaves its output"):
        channel(subdir)


@given(st.lists(st.sampled_from(["a", "b.c", "..", ".", ""]), max_size=5).map("/".join))
def test_a_subdir_is_clean_or_refused(subdir):
    """An accepted subdir is a relative path without empty parts and without dots; all others are refused."""
    try:
        channel = as_channel("x", Channel("data", subdir=subdir))
    except InvalidInput:
        assert {"..", "."} & set(subdir.split("/"))
    else:
        assert not channel.subdir or all(part not in ("", ".", "..") for part in channel.subdir.split("/"))
        assert Path("data") in (Path("data") / channel.subdir / "x").parents


def test_a_subdir_of_a_tarball_needs_unpacking():
    """A subdir of a packed output needs `extract=True`, because a tarball has no directories in S3."""
    with pytest.raises(InvalidInput, match="which is packed") as caught:
        output_place("x", output_of("fit", "model", subdir="best"), KINDS["training"], TRAINED)

    assert "extract=True" in caught.value.fix


def test_a_tarball_is_addressed_as_one_object():
    """A tarball stays one object in S3; its subdir is applied after it is unpacked."""
    wanted = output_of("fit", "model", subdir="best", extract=True)

    assert ("model", TRAINED["model"]) == output_place("x", wanted, KINDS["training"], TRAINED)


@pytest.mark.parametrize(
    ("kind", "output"),
    [(name, output) for name, kind in KINDS.items() for output in kind.outputs if MADE[name][output].endswith("/")],
)
def test_a_directory_cannot_be_unpacked(kind, output):
    """`extract` of an output that is not a tarball is refused instead of ignored."""
    with pytest.raises(InvalidInput, match="which is a directory"):
        output_place("x", output_of("fit", output, extract=True), kind_of(kind), MADE[kind])


def test_an_output_that_is_not_packed_is_a_directory():
    """A model that is not compressed is a directory: it can have a subdir and cannot be unpacked."""
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
    """The error for an invalid input names the input and the allowed values."""
    with pytest.raises(InvalidInput, match="Input 'train'") as caught:
        as_channel("train", value)

    assert "output_of(task)" in caught.value.fix


@pytest.mark.parametrize("channel", [Channel("data", distribution="Sharded"), TaskOutput("fit", distribution="all")])
def test_an_unknown_distribution_is_refused(channel):
    """An unknown distribution is refused with the two valid ones."""
    with pytest.raises(InvalidInput, match="distribution") as caught:
        as_channel("train", channel)

    assert "FullyReplicated, ShardedByS3Key" in caught.value.fix


def test_a_project_needs_a_name_to_look_up():
    """A project can be given only with a task's name, because a future or a result knows its own project."""
    with pytest.raises(InvalidInput, match="needs a task's name"):
        output_of(object(), project="features")

    assert output_of("embed", project="features").project == "features"


def test_plain_values_become_channels():
    """A string or a path becomes a channel, a channel stays as it is, and no inputs give no channels."""
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
def test_which_sources_are_in_s3(source, expected):
    """Only the scheme decides whether a source is in S3."""
    assert Channel(source).is_s3 is expected


class FutureDouble:
    """Stands for a Prefect future: an object that a visitor replaces by its result."""


@pytest.mark.parametrize(
    "inputs",
    [
        lambda channel: {"data": channel},
        lambda channel: {"a": "data", "b": {"c": [channel]}},
        lambda channel: [(channel,)],
    ],
)
def test_prefect_finds_futures_inside_channels(inputs):
    """Prefect's `visit_collection` finds and replaces futures in a channel, although the dataclass is frozen."""
    future = FutureDouble()
    channel = output_of(future, "model", subdir="best", extract=True, distribution="ShardedByS3Key")

    resolved = visit_collection(
        inputs(channel), lambda value: "the result" if value is future else value, return_data=True
    )

    assert resolved == inputs(
        output_of("the result", "model", subdir="best", extract=True, distribution="ShardedByS3Key")
    )
