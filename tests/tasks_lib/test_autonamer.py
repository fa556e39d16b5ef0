"""Names of a grid's points: exactly the seed's table, and distinct and valid for any other values."""

from enum import Enum

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.errors import InvalidName, InvalidTask
from tasks_lib.jobs.autonamer import autoname, grid, named_points
from tasks_lib.jobs.naming import check_task_name


class Network(Enum):
    SelfAttentionAndLSTM = 1


LAYERS = {"network_size": [(), (10,), (10, 10)], "learning_rate": [0.1, 0.3, 1], "algorithm": ["Adam", "SGD"]}
BATCHES = {"batch_size": [999, 1000, 1001, 20000, 1_000_000, 2_500_000]}
TABLE = {
    "two axes": (
        {"learning_rate": [1, 2], "network_size": [[10], [10, 5]]},
        "LR1-NS10 LR1-NS10-5 LR2-NS10 LR2-NS10-5",
        "LR1-NS10 LR1-NS10x5 LR2-NS10 LR2-NS10x5",
    ),
    "big numbers": (BATCHES, "BS999 BS1000 BS1K BS20K BS1000K BS2M", "BS999 BS1K BS1K BS20K BS1M BS2M"),
    "a fixed value": ({"x": [None, "p"], "batch_size": 50000}, "XNone-BS50K Xp-BS50K", "XNone-BS50K Xp-BS50K"),
    "fixed values behind the axes": ({"layers": (1, 2), "C": [0.5]}, "C05-L1-2", "C05-L1x2"),
    "an enum": ({"network_type": [Network.SelfAttentionAndLSTM]}, "NTSelfAttentionAndLSTM", "NTSAALSTM"),
    "floats": ({"C": [0.1, 1e-05, 1.0]}, "C01 C1e-05 C10", "C01 C1e-05 C10"),
    "truth": ({"l": [True, False]}, "LTrue LFalse", "LTrue LFalse"),
    "numpy's numbers": ({"n": [np.int64(20000), np.float64(0.5)]}, "N20K N05", "N20K N05"),
    "nothing": ({}, "", ""),
}


@pytest.mark.parametrize("style", ["seed", "latest"])
@pytest.mark.parametrize("row", TABLE)
def test_the_table_of_the_seed(row, style):
    """Each call in the seed's table gives its names, in both styles and in the table's order."""
    over, seed, latest = TABLE[row]
    expected = (seed if style == "seed" else latest).split(" ")

    assert [autoname(values, style) for values in grid(over)] == expected


def test_the_last_axis_varies_fastest():
    """Axes of 3, 3 and 2 values give 18 points, and the last axis varies fastest."""
    names = [autoname(values) for values in grid(LAYERS)]

    assert len(set(names)) == 18
    assert (names[0], names[1], names[-1]) == ("NS-LR01-AAdam", "NS-LR01-ASGD", "NS10-10-LR1-ASGD")
    assert autoname(grid(LAYERS)[-1], "latest") == "NS10x10-LR1-ASGD"


def test_the_stem_stands_before():
    """Names begin with the stem of the task; without values the only point has the stem as its name."""
    assert [point.name for point in named_points("att", {"hidden_size": [10, 20]})] == ["att-HS10", "att-HS20"]
    assert [point.name for point in named_points("att", {})] == ["att"]


def names(over, **options):
    return {repr(point.values): point.name for point in named_points("fit", over, **options)}


@pytest.mark.parametrize(
    ("value", "other", "plain"),
    [(1.0, 10, "fit-C10"), (0.1, "01", "fit-C01"), (1001, 1999, "fit-C1K"), (None, "None", "fit-CNone")],
)
def test_a_shared_name_gets_a_hash_that_stays(value, other, plain):
    """Values with the same spelling get a hash, in any order and among any others; each alone has its plain name."""
    alone = names({"C": [value]}) | names({"C": [other]})
    together = names({"C": [value, other]})

    assert set(alone.values()) == {plain}
    assert all(name.startswith(f"{plain}-") for name in together.values())
    assert len(set(together.values())) == 2
    assert names({"C": [7, other, value, "x"]}).items() >= together.items()
    assert names({"C": [7, other, value]})[repr({"C": 7})] == "fit-C7"


@pytest.mark.parametrize(
    ("value", "readable"),
    [("a b/ü", "fit-Xa_b"), (1e20, "fit-X1e_20"), ("end.", "fit-Xend"), ("x" * 200, "fit-X" + "x" * 80)],
)
def test_what_no_folder_can_be_called(value, readable):
    """A value with other characters, or a long value, gives a readable prefix and a hash, among any other values."""
    (name,) = names({"x": [value]}).values()

    assert name.startswith(readable)
    assert check_task_name(name) == name
    assert names({"x": [value, "more"]})[repr({"x": value})] == name


def test_long_stems_do_not_meet():
    """Two stems that differ only in the part that is cut off give different names for the same point."""
    stems = ("s" * 126 + "1", "s" * 126 + "2")

    assert len({named_points(stem, {"C": [1]})[0].name for stem in stems}) == 2


@pytest.mark.parametrize(
    ("over", "error", "words"),
    [
        ({"C": []}, InvalidTask, "'C' has no values"),
        ({"C": range(3)}, InvalidTask, "'C' is a range"),
        ({"C": np.array([1, 2])}, InvalidTask, r"\.tolist\(\)"),
        ({"C": [1, 2, 1]}, InvalidTask, '{"C": 1} is there twice'),
        ({"C": [(1, 2), [1, 2]]}, InvalidTask, r"\[1, 2\]} is there twice"),
    ],
)
def test_what_is_no_grid(over, error, words):
    """An axis without values, an axis that is not a list, and a repeated point are refused with the cause."""
    with pytest.raises(error, match=words):
        named_points("fit", over)


def test_the_stem_and_the_style_are_checked():
    """A stem that is not a task name and an unknown style are refused."""
    with pytest.raises(InvalidName, match="'my fit'"):
        named_points("my fit", {"C": [1]})
    with pytest.raises(InvalidTask, match="use one of seed, latest"):
        named_points("fit", {"C": [1]}, style="new")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=150)
VALUES = SCALARS | st.lists(SCALARS, max_size=3)
KEYS = st.text(st.characters(codec="utf-8"), max_size=20)
AXES = st.dictionaries(KEYS, st.lists(VALUES, min_size=1, max_size=4, unique_by=repr), max_size=3)
STEMS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._\-]{0,126}[A-Za-z0-9])?", fullmatch=True)
STYLES = st.sampled_from(["seed", "latest"])


@given(STEMS, AXES, STYLES)
def test_all_points_have_names_of_their_own(stem, over, style):
    """For any values every point has a unique, valid and reproducible task name."""
    points = named_points(stem, over, style=style)
    again = named_points(stem, over, style=style)

    assert len({check_task_name(point.name) for point in points}) == len(points) == len(grid(over))
    assert points == again


@given(STEMS, st.lists(VALUES, min_size=1, max_size=6, unique_by=repr), STYLES, st.randoms())
def test_no_name_depends_on_a_place(stem, values, style, random):
    """In another order every point keeps its name; among fewer points it has the same name or its plain name."""
    named = {repr(point.values): point.name for point in named_points(stem, {"x": values}, style=style)}
    shuffled = random.sample(values, len(values))
    some = shuffled[: 1 + len(shuffled) // 2]

    assert named == {repr(point.values): point.name for point in named_points(stem, {"x": shuffled}, style=style)}
    for point in named_points(stem, {"x": some}, style=style):
        assert point.name in {named[repr(point.values)], f"{stem}-{autoname(point.values, style)}"}


@given(STEMS, st.dictionaries(KEYS, VALUES.filter(lambda value: not isinstance(value, list)), max_size=4), STYLES)
def test_the_hash_does_not_see_the_order_of_the_keys(stem, values, style):
    """The name for a dict value does not depend on the order of its keys."""
    turned = dict(reversed(values.items()))

    assert named_points(stem, {"d": values}, style=style)[0].name == (
        named_points(stem, {"d": turned}, style=style)[0].name
    )
