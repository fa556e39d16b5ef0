"""Metrics from the log: SageMaker's rule of the first group, and only numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.errors import InvalidTask, MetricMissing
from tasks_lib.jobs.metrics import MAX_POINTS, MetricReader, Metrics, metric_patterns, metric_warnings


def read(patterns, *lines):
    reader = MetricReader(patterns)
    for moment, line in enumerate(lines):
        reader.read(float(moment), line)
    return reader


def test_the_first_group_is_the_value():
    """The first group is the value, and further groups are ignored."""
    reader = read({"loss": r"(?:train|test) loss=([0-9.]+) \((\w+)\)"}, "train loss=0.5 (ok)")

    assert reader.history == {"loss": [(0.0, 0.5)]}


def test_all_metrics_are_read_off_each_line():
    """Several metrics, and several values of one metric, are read from a line."""
    reader = read({"d": r"D: ([0-9.]+)", "g": r"G: ([0-9.]+)"}, "D: 1.5 G: 2.5 D: 3.5", "nothing", "G: 4")

    assert reader.history == {"d": [(0.0, 1.5), (0.0, 3.5)], "g": [(0.0, 2.5), (2.0, 4.0)]}
    assert reader.last == {"d": 3.5, "g": 4.0}


def test_lines_of_several_hosts_make_one_history():
    """Values of several hosts form one history in the order of arrival, and the last one is the metric."""
    reader = MetricReader({"auc": "auc=([0-9.]+)"})
    for moment, line in [(5.0, "auc=0.7"), (4.0, "auc=0.6"), (6.0, "auc=0.8")]:
        reader.read(moment, line)

    assert reader.history["auc"] == [(5.0, 0.7), (4.0, 0.6), (6.0, 0.8)]
    assert reader.last == {"auc": 0.8}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1e-05", 1e-05), ("-3", -3.0), ("+2.5E+3", 2500.0), ("0.85", 0.85), (".5", 0.5), ("7", 7.0)],
)
def test_numbers_as_programs_print_them(text, expected):
    """Numbers may have a sign and an exponent."""
    assert read({"x": "###x:(.*)###"}, f"###x:{text}###").last == {"x": expected}


@pytest.mark.parametrize("text", ["", "high", "1,5", "0.95.", "0x10"])
def test_what_is_no_number_is_passed_over(text):
    """A text that is not a number is ignored, as by SageMaker."""
    assert read({"x": "x=(.*)"}, f"x={text}").last == {}


@pytest.mark.parametrize(
    ("text", "expected"), [("nan", math.nan), ("NaN", math.nan), ("inf", math.inf), ("-Infinity", -math.inf)]
)
def test_what_is_not_finite_is_a_value(text, expected):
    """NaN and infinities are values: they show that a training diverges."""
    reader = read({"loss": "loss=([^;]+);"}, "loss=0.5;", f"loss={text};")

    assert reader.history == {"loss": [(0.0, 0.5), (1.0, expected)]}
    assert str(reader.last["loss"]) == str(expected)


# -- prefixes --------------------------------------------------------------------------------------------------------


@given(st.floats(), st.sampled_from(["{!r}", "{:e}", "{:+.3f}", "{:g}", "{:E}"]))
def test_a_prefix_finds_whatever_number_follows(value, form):
    """A prefix finds any number after it: with a sign or exponent, `nan` and `inf`."""
    text = form.format(value)
    reader = read(metric_patterns({"val loss": "val loss: "}), f"step 3 - val loss: {text}, lr=0.1")

    assert repr(reader.last["val loss"]) == repr(float(text))
    assert reader.cut == {}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("loss=0.5 val_loss=0.7", [0.5]),
        ("train/loss=0.5 loss=0.6", [0.6]),
        ("loss=0.5,loss=0.6", [0.5, 0.6]),
        ("INFO:loss=1", [1.0]),
        ("loss= -2", [-2.0]),
        ("loss=info", []),
        ("loss=nano", []),
        ("loss=", []),
    ],
)
def test_a_prefix_is_a_whole_name(line, found):
    """`loss=` matches neither in `val_loss=` nor before a word that begins like a number."""
    assert [value for _, value in read(metric_patterns({"loss": "loss="}), line).history.get("loss", [])] == found


def test_the_expression_of_a_prefix_is_one_that_aws_takes():
    """AWS accepts the expression of a prefix: it is short (limit of `MetricDefinition`: 500) and has no lookaround."""
    (pattern,) = metric_patterns({"auc": "val.auc="}).values()

    assert r"val\.auc=" in pattern
    assert len(pattern) < 200
    assert "(?=" not in pattern
    assert "(?<" not in pattern
    assert "(?!" not in pattern


@pytest.mark.parametrize("given", ["auc=[0-9.]+", "auc", "auc=1", "auc=(", "", "auc=(" + "x" * 500 + ")"])
def test_an_expression_that_cannot_be_is_refused(given):
    """An invalid expression is refused before a job is created."""
    with pytest.raises(InvalidTask, match="'auc'"):
        metric_patterns({"auc": given})


# -- warnings about metrics -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "line", "cut"),
    [
        (r"x=([0-9.]+)", "x=1e-05", True),
        (r"x=[^0-9]*([0-9.]+)", "x=-0.3", True),
        (r"x=.*([0-9.]+)", "x=0.25", True),
        (r"x=([0-9]+)", "x=0.25", True),
        (r"x=([0-9.]+)", "x=0.25", False),
        (r"x=(\S+)", "x=-1e-05", False),
        (r"x=([0-9.]+)%", "x=93.1%", False),
        (r"loss-([0-9.]+)", "loss-0.3", False),
        (r"x=(.*)", "x= 7 ", False),
    ],
)
def test_a_part_of_a_number_causes_a_warning(pattern, line, cut):
    """A warning says that an expression matched only a part of a number."""
    said = metric_warnings(read({"x": pattern}, line), [line])

    assert bool(said) is cut
    assert all(repr(line) in sentence and "metrics={'x': 'x='}" in sentence for sentence in said)


def test_a_metric_without_a_value_is_reported_with_the_nearest_lines():
    """The warning for a metric without a value shows lines with its name, or else lines with a number."""
    lines = ["start", "AUC: 0.9", "done 3"]
    reader = read(metric_patterns({"auc": "auc=", "f1": "f1="}), *lines)
    auc, f1 = metric_warnings(reader, lines)

    assert "'auc' has no value: no line has a number behind 'auc='" in auc
    assert auc.endswith("the nearest lines of the log: 'AUC: 0.9'.")
    assert f1.endswith("'AUC: 0.9' / 'done 3'.")


def test_a_metric_that_is_not_there_says_so():
    """A missing metric raises `MetricMissing`, a `KeyError` that names the existing ones; `.get` works as usual."""
    metrics = Metrics(loss=0.5)

    assert metrics["loss"] == 0.5
    assert metrics.get("auc") is None
    with pytest.raises(MetricMissing, match=r"no value of a metric 'auc'; it had 'loss'"):
        metrics["auc"]
    with pytest.raises(KeyError):
        metrics["auc"]


def test_a_group_that_did_not_take_part_is_passed_over():
    """A match whose group did not take part is ignored: `(a)|b` matches `b` without a value."""
    assert read({"x": "x=([0-9]+)|none"}, "none").history == {}


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_what_is_printed_is_what_is_read(values):
    """A float's `repr` is read back exactly and in order, and the last one is the metric."""
    reader = read({"x": "x=(.+)"}, *(f"x={value!r}" for value in values))

    assert [value for _, value in reader.history["x"]] == values
    assert reader.last == {"x": values[-1]}


def test_a_long_history_is_thinned_and_keeps_its_end():
    """A long history is thinned evenly and keeps its last value, so that a result stays small."""
    reader = MetricReader({"x": "x=(.+)"})
    for step in range(3 * MAX_POINTS):
        reader.read(float(step), f"x={step}")
        if step % 5000 == 0:
            assert reader.last == {"x": float(step)}
    steps = [value for _, value in reader.history["x"]]

    assert len(steps) <= MAX_POINTS
    assert len(steps) > MAX_POINTS // 4
    assert steps == sorted(steps)
    assert steps[-1] == 3 * MAX_POINTS - 1
    assert all(math.isfinite(step) for step in steps)


@pytest.mark.parametrize(("pattern", "words"), [("auc=(", "does not compile"), ("auc=[0-9]+", "has no group")])
def test_a_bad_expression_is_refused_by_name(pattern, words):
    """An invalid expression is refused by the metric's name when the task is called."""
    with pytest.raises(InvalidTask, match=words) as caught:
        MetricReader({"auc": pattern})

    assert "'auc'" in caught.value.message
    assert caught.value.fix


def test_no_patterns_no_metrics():
    """Without patterns there are no metrics."""
    assert read({}, "auc=1").last == {}
