"""A function as a job: its arguments, its result and files, and the stand-ins for Prefect.

The tests compare both sides of the format: the caller's side uses pydantic, the job's side only the standard library.
"""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import pickle
import subprocess
import sys
import typing
import uuid
from pathlib import Path
from typing import Any, Literal, NamedTuple, Optional, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter
from typing_extensions import TypedDict

from tasks_lib.functions.json_values import plain_value, same
from tasks_lib.functions.types import check_annotation
from worker_toolkit.typed_values import ValueMismatchError, decode, encode

pytestmark = pytest.mark.sampled(18, group="all")

RUN = 'from worker_toolkit.function import run\nrun("flow", "fit")\n'


class Colour(enum.Enum):
    RED = "red"
    GREEN = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Point:
    x: float
    tags: set[str] = dataclasses.field(default_factory=set)
    below: "Point | None" = None


class Pair(NamedTuple):
    left: int
    right: Colour


class Settings(TypedDict, total=False):
    depth: int
    when: dt.date


class Model(BaseModel):
    name: str
    when: dt.datetime
    sizes: frozenset[int] = frozenset()


moments = st.datetimes(timezones=st.sampled_from([None, dt.timezone.utc, dt.timezone(dt.timedelta(hours=5.5))]))
leaves = [
    (int, st.integers()),
    (float, st.floats()),
    (bool, st.booleans()),
    (str, st.text()),
    (type(None), st.none()),
    (dt.datetime, moments),
    (dt.date, st.dates()),
    (dt.time, st.times()),
    (dt.timedelta, st.timedeltas(dt.timedelta(days=-1000), dt.timedelta(days=1000))),
    (decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (uuid.UUID, st.uuids()),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Literal["a", 1, True], st.sampled_from(["a", 1, True])),
    (Point, st.builds(Point, st.floats(), st.sets(st.text()), st.none() | st.builds(Point, st.floats()))),
    (Pair, st.builds(Pair, st.integers(), st.sampled_from(Colour))),
    (Settings, st.fixed_dictionaries({}, optional={"depth": st.integers(), "when": st.dates()})),
    (Model, st.builds(Model, name=st.text(), when=moments, sizes=st.frozensets(st.integers(0, 9)))),
]
hashable = [leaf for leaf in leaves if leaf[0] not in (Point, Settings, Model)]
keys = [leaf for leaf in leaves if leaf[0] in (str, int, dt.date, uuid.UUID, Colour)][:4]


def containers(inner):
    """Return a strategy of pairs (annotation, strategy of its values) that contain other such pairs."""
    return st.one_of(
        inner.map(lambda pair: (list[pair[0]], st.lists(pair[1], max_size=3))),
        inner.map(lambda pair: (tuple[pair[0], ...], st.lists(pair[1], max_size=3).map(tuple))),
        inner.map(lambda pair: (Optional[pair[0]], st.none() | pair[1])),  # noqa: UP045 - the older spelling
        st.tuples(inner, inner).map(lambda both: (tuple[both[0][0], both[1][0]], st.tuples(both[0][1], both[1][1]))),
        st.tuples(st.sampled_from(keys), inner).map(
            lambda both: (dict[both[0][0], both[1][0]], st.dictionaries(both[0][1], both[1][1], max_size=3))
        ),
        st.sampled_from(hashable).map(lambda pair: (set[pair[0]], st.sets(pair[1], max_size=3))),
    )


typed = st.recursive(st.sampled_from(leaves), containers, max_leaves=4)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({math.nan, 1.0}, {float("nan"), 1.0}, True),  # the sets hold different NaN objects
        (frozenset({float("nan")}), frozenset({math.nan}), True),
        ({math.nan, 1.0}, {float("nan"), 2.0}, False),
        ({1}, {1.0}, True),  # equal in a set, as in Python
        ([math.nan], [float("nan")], True),
    ],
)
def test_nan_is_the_same_as_itself(one, other, equal):
    """NaN compares as equal, also in a set: an argument that contains it is the same after it was sent."""
    assert same(one, other) is equal


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_arguments_arrive_as_they_were_given(data):
    """The job reads what the caller's side wrote as an equal value of the same types."""
    annotation, values = data.draw(typed)
    value = data.draw(values)
    check_annotation(annotation)

    assert same(decode(annotation, json.loads(json.dumps(plain_value(value)))), value)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_results_come_back_as_they_were_returned(data):
    """The caller reads what the job wrote as an equal value of the same types; both sides write the same text."""
    annotation, values = data.draw(typed)
    value = data.draw(values)
    written = json.dumps(encode(value, str))

    assert written == json.dumps(plain_value(value))
    assert same(TypeAdapter(annotation).validate_json(written), value)


@pytest.mark.parametrize(
    ("annotation", "value", "read"),
    [
        (Any, {"a": [1, None]}, {"a": [1, None]}),
        (float, 3, 3.0),
        (float | int, 3, 3),
        (Union[int, str], "3", "3"),  # noqa: UP007 - images with an older Python need this spelling
        (list[int] | list[str], ["a"], ["a"]),
        (typing.List[int], [1], [1]),  # noqa: UP006 - the same
        (typing.Annotated[int, "metres"], 3, 3),
        (typing.NewType("Metres", int), 3, 3),
        (dt.datetime, "2024-01-02T03:04:05Z", dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc)),
        (tuple, [1, "a"], (1, "a")),
        (Path, "raw/data.csv", Path("raw/data.csv")),
        (Path | None, None, None),
    ],
)
def test_reading(annotation, value, read):
    """A value is read as its annotation says; in a union, an exact type match comes first."""
    found = decode(annotation, value)

    assert (type(found), found) == (type(read), read)


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (int, True, "True is not of the type int"),
        (int, 1.5, "1.5 is not of the type int"),
        (str, 1, "1 is not of the type str"),
        (dt.date, "soon", "'soon' is not of the type date"),
        (list[int], ["a"], "'a' is not of the type int"),
        (tuple[int, int], [1], "1 values are not a tuple of 2"),
        (int | None, "a", "'a' is none of int, NoneType"),
        (Literal["a"], "b", "'b' is none of 'a'"),
        (Colour, "blue", "'blue' is not of the type Colour"),
        (Point, {"y": 1}, "Point has no 'y'"),
        (Point, {}, "Point cannot be made of []"),
        (bytes, "a", "nothing of the type bytes"),
        (Model, {"name": 1}, "is not of the type Model"),
    ],
)
def test_what_does_not_fit(annotation, value, said):
    """The error for a value that does not match its annotation says what is wrong."""
    with pytest.raises(ValueMismatchError) as refused:
        decode(annotation, value)

    assert said in str(refused.value)


def test_scalars_of_numpy():
    """NumPy scalars are sent as numbers, and NumPy arrays are refused."""
    numpy = pytest.importorskip("numpy")

    assert encode([numpy.float32(0.5), numpy.int64(3), numpy.bool_(True)], str) == [0.5, 3, True]
    with pytest.raises(ValueMismatchError, match="cannot carry a ndarray"):
        encode(numpy.zeros(2), str)


def test_numbers_that_are_not_finite():
    """NaN and infinities are kept."""
    assert math.isnan(decode(float, json.loads(json.dumps(encode(math.nan, str)))))
    assert decode(float, json.loads(json.dumps(encode(math.inf, str)))) == math.inf


# -- a function in its container ------------------------------------------------------------------------------------


def fit(container, module, *, script=RUN, arguments=None, **files):
    """Run the function `fit` of a module as the job."""
    container.source({"run_fit.py": script, "flow.py": module, **files})
    if arguments is not None:
        container.channel("arguments", {name: json.dumps(value).encode() for name, value in arguments.items()})
    return container.run("--entry-point", "run_fit.py")


def value_of(container):
    return json.loads((container.output / "value.json").read_text())["value"]


def test_a_function_in_the_job(container):
    """Arguments are read as annotated, missing ones have their defaults, and the result is written for the caller."""
    module = "def fit(a: float, *more: int, b: str = 'x', **rest: tuple[int, int]):\n    return [a, more, b, rest]\n"
    given = {"a.json": 1, "more.json": [2, 3], "rest.json": {"c": [4, 5]}}
    ended = fit(container, module, arguments=given)

    assert ended.returncode == 0, ended.stdout
    assert value_of(container) == [1.0, [2, 3], "x", {"c": [4, 5]}]


def test_several_members_of_a_flag_together(processing):
    """A combination of flag members is a valid value; a value with an undefined bit is refused."""
    module = (
        "import enum\nclass Fl(enum.Flag):\n    X = 1\n    Y = 2\n\n"
        "def fit(a: Fl, b: Fl):\n    return [a is Fl.X, b == (Fl.X | Fl.Y)]\n"
    )
    ended = fit(processing, module, arguments={"a.json": 1, "b.json": 3})

    assert ended.returncode == 0, ended.stdout
    assert value_of(processing) == [True, True]
    assert "does not fit its annotation" in fit(processing, module, arguments={"a.json": 8, "b.json": 1}).stdout


def test_an_async_function(processing):
    """The coroutine of an async function is run to its end."""
    ended = fit(processing, "import asyncio\nasync def fit():\n    await asyncio.sleep(0)\n    return 7\n")

    assert ended.returncode == 0, ended.stdout
    assert value_of(processing) == 7


@pytest.mark.parametrize("only", ["", "one/*"])
def test_paths_in_and_out(container, only):
    """A path argument is a file or a channel's directory.

    A path in the result is copied to the output, wherever it is.
    """
    container.channel("one", {"data.csv": b"1,2"})
    container.channel("many", {"a": b"", "b": b""})
    module = (
        "import os\nfrom pathlib import Path\n"
        "def fit(one: Path, prefix: Path, many: list[Path]) -> dict[str, Path]:\n"
        "    inside = Path(os.environ['SM_OUTPUT_DATA_DIR'], 'inside.txt')\n"
        "    inside.write_text(one.read_text() + str(prefix == one.parent) + str(len(list(many[0].iterdir()))))\n"
        "    folder = Path('plots/deep')\n    folder.mkdir(parents=True)\n    (folder / 'a.png').touch()\n"
        "    return {'inside': inside, 'again': inside, 'folder': folder.parent, 'input': one}\n"
    )
    given = {"one.json": only or "one/data.csv", "prefix.json": "one/", "many.json": ["many/data"]}
    ended = fit(container, module, arguments=given)
    files = sorted(str(path.relative_to(container.output)) for path in container.output.rglob("*") if path.is_file())

    assert ended.returncode == 0, ended.stdout
    assert value_of(container) == {
        "inside": "paths/0/inside.txt",
        "again": "paths/0/inside.txt",
        "folder": "paths/1/plots",
        "input": "paths/2/data.csv",
    }
    assert files == ["paths/0/inside.txt", "paths/1/plots/deep/a.png", "paths/2/data.csv", "value.json"]
    assert json.loads((container.output / "value.json").read_text())["directories"] == ["paths/1/plots"]
    assert (container.output / "paths/0/inside.txt").read_text() == "1,2True2"


def test_a_path_without_an_annotation(processing):
    """A returned path is also kept without an annotation, so that a forgotten annotation does not lose a model."""
    ended = fit(processing, "from pathlib import Path\ndef fit():\n    Path('m').touch()\n    return Path('m')\n")

    assert ended.returncode == 0, ended.stdout
    left = json.loads((processing.output / "value.json").read_text())
    assert (left["value"], left["is_path"]) == ("paths/0/m", True)


@pytest.mark.parametrize("host", ["algo-1", "algo-2"])
def test_only_the_first_host_leaves_a_result(make_container, host):
    """Each host runs the function; only the first writes a result."""
    container = make_container("training", host=host)
    ended = fit(container, "def fit():\n    print('here')\n    return 1\n")

    assert "here" in ended.stdout
    assert (container.output / "value.json").exists() == (host == "algo-1")


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("def fit():\n    raise ValueError('no')\n", "ended with exit code 1: ValueError: no"),
        ("def fit() -> int:\n    return 'a'\n", "The result of fit() cannot be returned: 'a' is not of the type int"),
        ("def fit():\n    return object()\n", "JSON cannot carry a object"),
        ("from pathlib import Path\ndef fit() -> Path:\n    return Path('no')\n", "which is not a file or directory"),
        (
            "from pathlib import Path\ndef fit() -> Path:\n    Path('e').mkdir()\n    return Path('e')\n",
            "an empty directory",
        ),
        ("import sys\ndef fit():\n    sys.exit()\n", "fit() ended the program (sys.exit)"),
        ("import helpers\ndef fit():\n    return 1\n", "dependencies=['helpers.py']"),
        ("def fit_not():\n    return 1\n", "There is no 'fit' in flow"),
        (
            "def fit(a: int = 1):\n    return a\n",
            "The argument 'a' does not fit its annotation: 'x' is not of the type int",
        ),
    ],
)
def test_what_goes_wrong(processing, module, said):
    """The job fails, and its reason says what happened and how to fix it."""
    ended = fit(processing, module, arguments={"a.json": "x"} if "a: int" in module else None)

    assert ended.returncode == 1
    assert said in processing.reason.read_text()


def test_pickle_on_request(processing):
    """Pickle is used only if the script asks for it; the function's own classes are found in its module."""
    module = "class Thing:\n    pass\n\ndef fit(thing):\n    assert type(thing) is Thing\n    return thing\n"
    main = f"import pickle, sys\n{module}\nsys.stdout.buffer.write(pickle.dumps(Thing()))\n"
    given = subprocess.run([sys.executable, "-c", main], capture_output=True, check=True).stdout
    processing.channel("arguments", {"thing.pkl": given})
    ended = fit(processing, module, script=RUN.replace('"fit"', '"fit", "pickle"'))

    assert ended.returncode == 0, ended.stdout
    assert b"Thing" in (processing.output / "value.pkl").read_bytes()
    assert not (processing.output / "value.json").exists()
    with pytest.raises(ModuleNotFoundError):
        pickle.loads((processing.output / "value.pkl").read_bytes())


# -- stand-ins ------------------------------------------------------------------------------------------------------

FLOW = """
from __future__ import annotations
import functools
from typing import Optional
import prefect.runtime
from prefect import flow, get_run_logger, task, unmapped
from prefect.cache_policies import INPUTS, TASK_SOURCE
from prefect_aws import AwsCredentials
from blocks import SageMakerProject
from tasks_lib import output_of, sagemaker_task, sagemaker_tasks
from tasks_lib.errors import JobFailed

sm = sagemaker_tasks("local", instance_type="ml.m5.large")
policy = INPUTS + TASK_SOURCE - INPUTS

class Block(SageMakerProject, kind="x"):
    pass

def retried(function):
    return task(retries=2)(function)

@sagemaker_task(requirements=["x"], name="fit-{a}")
def fit(a: int = 1) -> str:
    BODY

@task
def plain(project: Optional[SageMakerProject] = None, more: SageMakerProject | None = None): ...

@retried
def other():
    return "other"

@flow(name="main")
def main():
    fit.submit(1)

@main.on_failure
def gone(*_): ...

big = fit.on("prod").with_options(retries=3)
"""


def run_body(container, body, **files):
    return fit(container, FLOW.replace("BODY", body), **files)


def test_a_module_with_a_flow_is_imported(processing):
    """A module's use of Prefect and of this package at import has no effect in the job, and does not fail."""
    ended = run_body(processing, "return ' '.join([other(), big.__name__, str(issubclass(Block, object))])")

    assert ended.returncode == 0, ended.stdout
    assert value_of(processing) == "other fit True"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("return get_run_logger()", "prefect.get_run_logger"),
        ("return sm.train('a')", "tasks_lib.sagemaker_tasks"),
        ("return other.submit()", "prefect.task"),
        ("return prefect.runtime.flow_run.id", "prefect.runtime.flow_run"),
    ],
)
def test_a_function_that_uses_them_fails(processing, body, named):
    """Using a stand-in inside the function is an error that names the missing object and says that a job lacks it."""
    ended = run_body(processing, body)

    assert ended.returncode == 1
    assert named in processing.reason.read_text()
    assert "is not there in a job" in processing.reason.read_text()


def test_a_helper_that_is_imported_late(processing):
    """A module that the function imports in its body may also use decorators."""
    helper = "from prefect import task\n@task(name='x')\ndef help():\n    return 'helped'\n"
    ended = run_body(processing, "import helper\n    return helper.help()", **{"helper.py": helper})

    assert ended.returncode == 0, ended.stdout
    assert value_of(processing) == "helped"


@pytest.mark.parametrize("line", ["Prefect-AWS>=0.7 ; python_version > '3'", "prefect_aws"])
def test_a_package_that_is_required_is_real(tmp_path, line):
    """A package that the requirements name, in any spelling, is not replaced by a stand-in."""
    (tmp_path / "requirements.txt").write_text(f"# for the flow\n{line}\n-e .\n")
    (tmp_path / "prefect_aws.py").write_text("real = 'yes'\n")
    script = (
        "from pathlib import Path\nfrom worker_toolkit.stand_ins import install_stand_ins\n"
        f"install_stand_ins(Path({str(tmp_path)!r}))\n"
        "import prefect, prefect_aws\nprint(prefect_aws.real, prefect.anything)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ended.stdout == "yes <stand-in for prefect.anything>\n"
