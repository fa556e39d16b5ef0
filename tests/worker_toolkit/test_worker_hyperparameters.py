"""Hyperparameters: typed by the caller, sent as strings, typed again in the job, and passed as script arguments."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.jobs.spec import encode_hyperparameters
from worker_toolkit.job import decode_hyperparameters

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
SHOW = """
import json, os, sys
from worker_toolkit import worker_lib
config = worker_lib.WorkerConfig(False)
shown = {"hps": config.hps, "argv": sys.argv[1:], "user_args": json.loads(os.environ.get("SM_USER_ARGS", "null"))}
shown["variables"] = {name: value for name, value in os.environ.items() if name.startswith("SM_HP_")}
print(json.dumps(shown))
"""


@given(st.dictionaries(st.text(min_size=1), JSON).filter(lambda values: len({*map(str.upper, values)}) == len(values)))
def test_values_come_back_as_typed(values):
    """The job decodes what `tasks_lib` encoded to the same value of the same type."""
    decoded = decode_hyperparameters(encode_hyperparameters(values))

    assert decoded == values
    assert json.dumps(decoded, sort_keys=True) == json.dumps(values, sort_keys=True)


@given(st.text())
def test_any_string_of_the_api_is_a_value(text):
    """Any string that another client sends as a hyperparameter is decoded to a value, and none is refused."""
    value = decode_hyperparameters({"x": text})["x"]

    assert value == text or value == json.loads(text) or math.isnan(value)


def test_nesting_deeper_than_json_can_read_is_text():
    """A string that looks like JSON but is nested too deeply to parse stays a string."""
    text = "[" * 100_000

    assert decode_hyperparameters({"x": text}) == {"x": text}


def show(training, *arguments):
    training.source({"show.py": SHOW})
    ended = training.run("--entry-point", "show.py", *arguments)

    assert ended.returncode == 0, ended.stdout

    return json.loads(ended.stdout.splitlines()[-1])


def test_they_reach_the_script_in_three_ways(training):
    """The script gets them as arguments before the user's own, as `SM_HP_…` variables, and typed in `hps`.

    One-letter names also have two dashes.
    """
    values = {
        "C": 0.1,
        "batch-size": 32,
        "flag": True,
        "layers": [10, 5],
        "msg": "Hello, world!",
        "nothing": None,
        "quoted": "1e-05",
        "shape": {"b": "x"},
    }
    training.hyperparameters(encode_hyperparameters(values))
    shown = show(training, "--", "--extra", "--", "a b")
    arguments = [
        *("--C", "0.1", "--batch-size", "32", "--flag", "True", "--layers", "[10, 5]", "--msg", "Hello, world!"),
        *("--nothing", "", "--quoted", "1e-05", "--shape", '{"b": "x"}', "--extra", "--", "a b"),
    ]

    assert shown["hps"] == values
    assert shown["argv"] == arguments
    assert shown["user_args"] == arguments
    assert shown["variables"] == {
        "SM_HP_C": "0.1",
        "SM_HP_BATCH-SIZE": "32",
        "SM_HP_FLAG": "true",
        "SM_HP_LAYERS": "[10,5]",
        "SM_HP_MSG": "Hello, world!",
        "SM_HP_NOTHING": "",
        "SM_HP_QUOTED": "1e-05",
        "SM_HP_SHAPE": '{"b":"x"}',
    }


READS = """
import argparse
parser = argparse.ArgumentParser()
for name in ("shift", "scale", "offset"):
    parser.add_argument(f"--{name}", type=float)
parser.add_argument("--text")
parser.add_argument("--list")
print(vars(parser.parse_args()))
"""


def test_argparse_reads_values_that_begin_with_a_dash(training):
    """Values with a leading dash are passed as one word: `argparse` would read `-1e-05` and texts as options.

    A simple negative number stays a word of its own.
    """
    values = {"shift": -1e-05, "scale": -1e300, "offset": -0.5, "text": "-v --x", "list": [-1]}
    training.hyperparameters(encode_hyperparameters(values))
    training.source({"reads.py": READS})
    ended = training.run("--entry-point", "reads.py")

    assert ended.stdout.splitlines()[-1] == str({**values, "list": "[-1]"})
    assert [word for word in show(training)["argv"] if word.startswith("--offset")] == ["--offset"]


def test_names_like_our_own_options_are_the_scripts(training):
    """Neither the bootstrap nor `WorkerConfig` takes a hyperparameter for one of its own options."""
    names = ("model", "input", "num", "command", "extract", "entry-point", "model_dir")
    training.hyperparameters(dict.fromkeys(names, "x"))
    shown = show(training)

    assert shown["hps"] == dict.fromkeys(names, "x")
    assert shown["argv"] == [word for name in sorted(names) for word in (f"--{name}", "x")]


def test_as_many_as_sagemaker_allows(training):
    """A job with 100 values of 2,500 characters, too long for one variable, runs, and `hps` has them all."""
    values = {f"p{number}": "x" * 2500 for number in range(100)}
    training.hyperparameters(values)
    shown = show(training)

    assert shown["hps"] == values
    assert len(shown["argv"]) == 200


def test_a_name_that_no_variable_can_have(training):
    """A name with `=` has no variable, but is in `hps` and among the arguments."""
    training.hyperparameters({"a=b": "1"})
    shown = show(training)

    assert shown["hps"] == {"a=b": 1}
    assert shown["argv"] == ["--a=b", "1"]
    assert shown["variables"] == {}


def test_a_value_that_no_command_line_can_carry(training):
    """The error for a value with NUL names the hyperparameter and does not show the value."""
    training.hyperparameters({"weird": "s3cret\0"})
    ended = training.run_script("")

    assert ended.returncode == 1
    assert "The value of --weird cannot stand on a command line" in ended.stdout
    assert "s3cret" not in ended.stdout + training.reason.read_text()
