"""`@sagemaker_task` before a job: what it refuses, the code it sends, names of calls, and how arguments are sent."""

import asyncio
import dataclasses
import datetime as dt
import enum
import json
import re
import subprocess
import sys
import threading
import zoneinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import Task
from pydantic import BaseModel

from tasks_lib import Channel, JobResult, output_of
from tasks_lib.errors import InvalidTask, MissingPath
from tasks_lib.functions.code import FunctionCode
from tasks_lib.functions.file_output import FileOutput
from tasks_lib.functions.grid import function_points
from tasks_lib.functions.names import call_name
from tasks_lib.functions.task import FunctionTask, sagemaker_task
from tasks_lib.functions.values import Arguments, Signature
from tasks_lib.jobs.kinds import KINDS
from tasks_lib.prefect_runtime.prefect_task import JobTask

if TYPE_CHECKING:
    from tasks_lib import Table

PREPARED = JobResult(
    project="p", task="prepare", job="prepare-1", arn="arn", kind="processing", cached=False, reason="", seconds=0,
    fingerprint="f", outputs={"output": "s3://b/p/prepare/prepare-1/output/"},
)  # fmt: skip


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Odd(enum.Enum):
    PAIR = (1, 2)


@dataclasses.dataclass
class Config:
    depth: int
    data: Path | None = None


class Model(BaseModel):
    name: str


class ModelWithPath(BaseModel):
    path: Path


class Thing:
    pass


def fit(
    data: Path,
    C: float = 1.0,  # noqa: N803 - users write names of mathematics
    colour: Colour = Colour.RED,
    columns: list[str] | None = None,
) -> float:
    return C


def take_anything(thing): ...


async def twice(x: int) -> int:
    return 2 * x


def at(moment: dt.datetime) -> str:
    return moment.isoformat()


# -- the decorator ----------------------------------------------------------------------------------------------------


def test_an_async_function_is_awaited_in_an_event_loop(monkeypatch):
    """In an event loop an async function returns an awaitable; without a loop, also in another thread, it is called."""
    monkeypatch.setattr(JobTask, "__call__", lambda self, x: 2 * x)  # what Prefect does with a call
    task = sagemaker_task(twice)

    async def main():
        return await task(1), await asyncio.to_thread(task, 2)

    assert asyncio.run(main()) == (2, 4)
    assert task(3) == 6


def test_bare_and_with_options():
    """Both forms make a Prefect task with the function's name and parameters, and the function can still be called."""
    bare, configured = sagemaker_task(fit), sagemaker_task(kind="training", image="image:1")(fit)

    for task in (bare, configured):
        assert isinstance(task, Task)
        assert (task.name, task.sagemaker_function) == ("fit", fit)
        assert task.sagemaker_function(Path("x"), 2.0) == 2.0
    assert (configured.work.kind, configured.work.options) == (KINDS["training"], {"image": "image:1"})


def test_what_copies_keep():
    """`with_options` and `on` return function tasks with all options of Prefect and of this package."""
    task = sagemaker_task(requirements=["scikit-learn"])(fit)
    there = task.with_options(retries=2, name="other").on("prod")

    assert isinstance(there, FunctionTask)
    assert (there.retries, there.name, there.work.project) == (2, "other", "prod")
    assert there.work.requirements == ("scikit-learn",)
    assert task.work.project == "local"


def test_a_custom_task_run_name():
    """Prefect's `task_run_name` is kept, also after `on`."""
    assert sagemaker_task(fit).with_options(task_run_name="mine").on("prod").task_run_name == "mine"


def nested():
    def inner(): ...

    return inner


def generates():
    yield 1


class Holder:
    def method(self): ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda: 1, "is a lambda"),
        (nested(), "is defined inside another function"),
        (Holder.method, "is a method"),
        (generates, "is a generator"),
        (print, "is not a Python function"),
        (Thing, "is not a Python function"),
    ],
)
def test_functions_that_no_job_would_find(function, said):
    """A function that a job could not import is refused at the decorator, with a fix."""
    with pytest.raises(InvalidTask) as refused:
        sagemaker_task(function)

    assert said in str(refused.value)
    assert "To resolve this" in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"instance_typ": "x"}, "did you mean 'instance_type'?"),
        ({"requirement": ["x"]}, "did you mean 'requirements'?"),
        ({"hyperparameters": {}}, "the function's own arguments"),
        ({"arguments": []}, "the function's own arguments"),
        ({"spot": True}, "say kind='training'"),
        ({"zzz": 1}, "use any of "),
        ({"kind": "tuning"}, "use one of training, processing"),
        ({"serializer": "yaml"}, "use one of json, pickle"),
        ({"requirements": "numpy"}, "['numpy']"),
        ({"name": "fit-{c}"}, "did you mean {C}?"),
        ({"name": "fit-{zzz}"}, "use any of data, C, colour, columns"),
        ({"name": "fit-{"}, "is not a valid template"),
    ],
)
def test_options_that_there_are_not(options, said):
    """An unknown or invalid option is refused at the decorator, with the valid or the probable one."""
    with pytest.raises(InvalidTask) as refused:
        sagemaker_task(**options)(fit)

    assert said in str(refused.value)


# -- names ----------------------------------------------------------------------------------------------------------


def name(*, template=None, mapped=(), **values):
    return call_name(Signature(fit), values, template=template, mapped=mapped)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"data": "x"}, "fit"),
        ({"data": "x", "C": 1.0}, "fit"),
        ({"data": "x", "C": 0.1}, "fit-C0.1"),
        ({"data": "x", "C": 1e20}, "fit-C1e20"),
        ({"data": "x", "C": -1.0, "colour": Colour.BLUE}, "fit-C-1.0-colourblue"),
        ({"data": "x", "C": 2.0, "columns": ["a", "b"]}, "fit-C2.0"),
    ],
)
def test_names(values, expected):
    """Numbers, short strings and enums that are not the default are in a call's name; inputs and lists are not."""
    assert name(**values) == expected


def test_names_of_a_map():
    """A mapped argument is in a call's name. An input is there by its task and path, so another job keeps the name."""
    again = PREPARED.model_copy(update={"job": "prepare-2"})
    part = name(data=FileOutput(PREPARED, "paths/1", "part.csv"), mapped={"data"})

    assert part == "fit-dataprepare.1"
    assert part == name(data=FileOutput(again, "paths/1", "part.csv"), mapped={"data"})
    assert name(data="a/x.csv", mapped={"data"}) != name(data="b/x.csv", mapped={"data"})
    assert name(data="x", columns=["a"], mapped={"columns"}) != name(data="x", columns=["b"], mapped={"columns"})


def test_templates():
    """A template is filled with the values that a name has, including defaults."""
    assert name(data="x", template="fit-{C}-{colour}") == "fit-1.0-red"


@given(st.lists(st.floats() | st.integers() | st.booleans() | st.text() | st.none() | st.dates(), unique_by=repr))
def test_distinct_values_have_distinct_names(values):
    """Different values have different names, and each name is valid for any length of the value."""

    def work(value: Any): ...

    names = [call_name(Signature(work), {"value": value}, template=None) for value in values]
    kinds = {}
    for value, each in zip(values, names, strict=True):
        kinds.setdefault(each, set()).add(str(value))

    assert all(len(texts) == 1 for texts in kinds.values())
    assert all(len(each) <= 128 for each in names)


# -- grids ---------------------------------------------------------------------------------------------------------


def grid_of(over, template=None, **given):
    def fit(data: Path, C: float = 1.0, kind: str = "a", columns: list[str] = (), *, depth: int = 1): ...  # noqa: N803

    return function_points(Signature(fit), over, given=given, template=template)


def test_points_of_a_grid():
    """A list is an axis, the last axis varies fastest, and any other value is the same at each point."""
    assert grid_of({"C": [0.1, 1], "kind": "b", "depth": [1, 2]}, data="x") == [
        {"C": 0.1, "depth": 1, "kind": "b"},
        {"C": 0.1, "depth": 2, "kind": "b"},
        {"C": 1, "depth": 1, "kind": "b"},
        {"C": 1, "depth": 2, "kind": "b"},
    ]
    assert len(grid_of({"C": [0.1, 1], "kind": "b"}, template="fit-{C}")) == 2


@pytest.mark.parametrize(
    ("over", "more", "said"),
    [
        ({"c": [1]}, {}, "did you mean 'C'"),
        ({"rate": [1]}, {}, "use any of data, C, kind, columns, depth"),
        ({"C": [1]}, {"C": 2.0}, "both in over= and beside it"),
        ({"C": []}, {}, "no values"),
        ({"columns": [["a"], ["a"]]}, {}, "there twice"),
        ({"C": [1], "depth": [1, 2]}, {"template": "fit-{C}"}, "put it in: 'fit-{C}-{depth}'"),
        ({"kind": [threading.Lock()]}, {"data": "x"}, "argument 'kind' of fit"),
        ([1, 2], {}, "give a dict of values by parameter"),
    ],
)
def test_an_invalid_sweep(over, more, said):
    """An invalid grid is refused before any of its points is submitted."""
    with pytest.raises(InvalidTask, match=re.escape(said)):
        grid_of(over, **more)


# -- arguments ------------------------------------------------------------------------------------------------------


def arguments(function, serializer="json", **values):
    return Arguments(Signature(function), values, serializer)


def sent(found):
    return {name: json.loads(content) for name, content in found.files.items()}


def test_arguments_as_files():
    """Each argument is a file, also a default, so that a default given explicitly is the same work."""

    def work(*, when: dt.date, tags: set[str], more: dict[int, Colour], model: Model, n: int = 3, log: Any = print): ...

    given = arguments(
        work, when=dt.date(2024, 1, 2), tags={"b", "a", "c"}, more={1: Colour.RED}, model=Model(name="m"), log=print
    )

    assert sent(given) == {
        "when.json": "2024-01-02",
        "tags.json": ["a", "b", "c"],
        "more.json": {"1": "red"},
        "model.json": {"name": "m"},
        "n.json": 3,
    }


def test_what_is_meant_is_what_is_sent():
    """A value is sent as its annotation says: `1` as a float, a NumPy number as an int, a string as a date."""
    numpy = pytest.importorskip("numpy")

    def work(a: float, b: int, c: dt.date, d: list[float], e: tuple[int, ...]): ...

    given = arguments(work, a=1, b=numpy.int64(2), c="2024-01-02", d=[numpy.float64(0.5)], e=[1])

    assert {name: content.decode() for name, content in given.files.items()} == {
        "a.json": "1.0",
        "b.json": "2",
        "c.json": '"2024-01-02"',
        "d.json": "[0.5]",
        "e.json": "[1]",
    }


def test_inputs(tmp_path):
    """A path of any kind becomes a channel, and the argument's file says which file of it is meant."""
    (tmp_path / "raw.csv").touch()
    future = output_of(PREPARED, subdir="x")

    def work(
        *,
        local: Path,
        folder: Path,
        s3: Path,
        result: Path,
        output: Path,
        many: list[Path],
        config: Config,
        no: Path | None,
    ): ...

    given = arguments(
        work,
        local=str(tmp_path / "raw.csv"),
        folder=tmp_path,
        s3="s3://bucket/some/data.csv",
        result=PREPARED,
        output=future,
        many=[FileOutput(PREPARED, "paths/0", "a.csv"), Channel(tmp_path, distribution="ShardedByS3Key")],
        config=Config(1, FileOutput(PREPARED, "paths/1", "plots", True)),
        no=None,
    )

    assert sent(given) == {
        "local.json": "local/raw.csv",
        "folder.json": "folder",
        "s3.json": "s3/data.csv",
        "result.json": "result",
        "output.json": "output",
        "many.json": ["many/*", "many_1"],
        "config.json": {"depth": 1, "data": "config/*"},
        "no.json": None,
    }
    assert given.inputs == {
        "local": Channel(tmp_path / "raw.csv"),
        "folder": Channel(tmp_path),
        "s3": Channel("s3://bucket/some/data.csv"),
        "result": output_of(PREPARED),
        "output": future,
        "many": output_of(PREPARED, "output", subdir="paths/0"),
        "many_1": Channel(tmp_path, distribution="ShardedByS3Key"),
        "config": output_of(PREPARED, "output", subdir="paths/1"),
    }


ENDLESS: list[object] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (int, "a", "valid integer"),
        (int, 1.5, "valid integer"),
        (Thing, Thing(), "JSON has nothing for"),
        (list[Thing], [], "JSON has nothing for"),
        (bytes, b"x", "JSON has nothing for bytes"),
        (Any, Thing(), "JSON cannot carry a Thing"),
        (Any, dt.date(2024, 1, 1), "it would arrive as a str; annotate it"),
        (Any, (1, 2), "it would arrive as a list; annotate it"),
        (Any, Path("x"), "it would arrive as a str; annotate it"),
        (str | dt.date, dt.date(2024, 1, 1), "it would arrive as a str; annotate it"),
        (str | Path, "x", "either a text or an input"),
        (set[Path], set(), "has paths where only values can be"),
        (ModelWithPath, ModelWithPath(path="x"), "has a path in it"),
        (Odd, Odd.PAIR, "neither texts nor numbers"),
        (Config, Config(1, "x"), "it would arrive as a Config; annotate it"),
        (Any, ENDLESS, "maximum recursion depth exceeded"),
    ],
)
def test_arguments_that_cannot_travel(annotation, value, said):
    """An argument that cannot be sent is refused by name and type before there is a job, with a fix."""

    def work(thing): ...

    work.__annotations__["thing"] = annotation
    with pytest.raises(InvalidTask) as refused:
        arguments(work, thing=value)

    assert "The argument 'thing' of work() is of type" in str(refused.value)
    assert said in str(refused.value)
    advice = "correct the annotation" if said == "valid integer" else "serializer='pickle'"
    assert advice in str(refused.value)


def hidden():
    """Yield a value; no serializer can carry a generator."""
    yield 1


@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.parametrize("template", [None, "mine-{thing}", "mine"])
@pytest.mark.parametrize(
    "value", [lambda: 1, {"deep": threading.Lock()}, hidden()], ids=["lambda", "lock", "generator"]
)
def test_an_argument_that_nothing_can_carry_is_named(value, template, serializer):
    """An argument that no serializer can carry is refused by its name, whatever the name of the call."""
    task = sagemaker_task(name=template, serializer=serializer)(take_anything)

    def prepared():
        task.work.run_name({"thing": value})
        arguments(take_anything, serializer, thing=value)

    with pytest.raises(InvalidTask, match="'thing'"):
        prepared()


ZONE = zoneinfo.ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "moment",
    [
        dt.datetime(2024, 10, 26, 2, 30, tzinfo=ZONE),
        dt.datetime(2024, 10, 27, 2, 30, tzinfo=ZONE),
        dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZONE),
        dt.datetime(2024, 3, 31, 2, 30, tzinfo=ZONE),
    ],
    ids=["ordinary", "repeated, first", "repeated, second", "skipped"],
)
def test_a_time_is_sent_correctly_around_clock_changes(moment):
    """A time is sent correctly also in the hour that a time zone repeats or skips."""
    assert json.loads(arguments(at, "json", moment=moment).files["moment.json"]) == moment.isoformat()


def test_pickle_only_on_request():
    """With the pickle serializer values are pickled, and paths are still inputs."""

    def work(thing, data: Path): ...

    given = arguments(work, "pickle", thing=Thing(), data="s3://b/x")

    assert set(given.files) == {"thing.pkl", "data.json"}
    with pytest.raises(InvalidTask, match="'thing' of work\\(\\) cannot be pickled"):
        arguments(work, "pickle", thing=lambda: 1, data="s3://b/x")


def test_annotations_that_cannot_be_resolved():
    """An annotation that only a type checker can resolve is refused with an explanation."""

    def work(table: "Table"): ...

    with pytest.raises(InvalidTask, match="cannot be resolved: name 'Table' is not defined"):
        Signature(work)


@pytest.mark.parametrize(
    ("annotation", "said"), [(Thing, "JSON has nothing"), (list[bytes] | None, "nothing for bytes")]
)
def test_results_that_cannot_come_back(annotation, said):
    """A result type that cannot be returned is refused before the job, not after hours of it."""

    def work(): ...

    work.__annotations__["return"] = annotation
    with pytest.raises(InvalidTask, match=said):
        Signature(work).check_result()


# -- the code that is sent ------------------------------------------------------------------------------------------


def imported(folder, monkeypatch, name, text):
    """Return a module of a folder, imported by Python."""
    path = folder.joinpath(*name.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    monkeypatch.syspath_prepend(folder)
    module = __import__(name, fromlist=["fit"])
    del sys.modules[name]
    return module


def laid(function, folder, **how):
    """Return the files that are sent with a function, by name."""
    options = {"requirements": (), "source_dir": None, "dependencies": (), "serializer": "json"}
    folder.mkdir()
    entry_point = FunctionCode.of(function).lay_out(folder, **(options | how))
    assert (folder / entry_point).is_file()
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_module_alone(tmp_path, monkeypatch):
    """Only the function's own file is sent, whatever else is in its folder."""
    (tmp_path / "data.csv").write_text("secret")
    module = imported(tmp_path, monkeypatch, "alone_module", "def fit(): ...\n")
    files = laid(module.fit, tmp_path / "out", requirements=["scikit-learn>=1.5", "./x.whl"])

    assert files == {
        "alone_module.py": "def fit(): ...\n",
        "run_fit.py": 'from worker_toolkit.function import run\n\nrun("alone_module", "fit")\n',
        "requirements.txt": "scikit-learn>=1.5\n./x.whl\n",
    }


@pytest.mark.parametrize("init", [True, False])
def test_a_package(tmp_path, monkeypatch, init):
    """A module of a package is sent with the whole package, and imported by its dotted name."""
    package = tmp_path / ("named_pkg" if init else "bare_pkg")
    (package / "below").mkdir(parents=True)
    (package / "helper.py").write_text("")
    for folder in (package, package / "below") if init else ():
        (folder / "__init__.py").write_text("")
    module = imported(tmp_path, monkeypatch, f"{package.name}.below.steps", "def fit(): ...\n")
    files = laid(module.fit, tmp_path / "out")

    assert {f"{package.name}/below/steps.py", f"{package.name}/helper.py", "run_fit.py"} <= files.keys()
    assert f'run("{package.name}.below.steps", "fit")' in files["run_fit.py"]


def test_more_files(tmp_path, monkeypatch):
    """Declared files are relative to the function's own file, wherever the flow is started."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "a.txt").write_text("a")
    (tmp_path / "helpers_of_it.py").write_text("help")
    module = imported(tmp_path, monkeypatch, "with_helpers", "import helpers_of_it\ndef fit(): ...\n")
    files = laid(module.fit, tmp_path / "out", dependencies=["helpers_of_it.py"], source_dir="shared")

    assert {"a.txt", "helpers_of_it.py", "with_helpers.py"} <= files.keys()
    with pytest.raises(MissingPath):
        laid(module.fit, tmp_path / "other", dependencies=["no.py"])


def test_a_helper_that_was_not_declared(tmp_path, monkeypatch):
    """A neighbouring module that is imported but not declared is refused, with the missing argument."""
    (tmp_path / "forgotten.py").write_text("")
    module = imported(tmp_path, monkeypatch, "forgetful", "import json, forgotten\ndef fit(): ...\n")

    with pytest.raises(InvalidTask, match=r"forgetful.py imports forgotten.*") as refused:
        laid(module.fit, tmp_path / "out")
    assert "dependencies=['forgotten.py']" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "said"), [("requirements.txt", "requirements=[…] or that file"), ("run_fit.py", "rename yours")]
)
def test_names_that_are_taken(tmp_path, monkeypatch, name, said):
    """A file of the user that has the name of a generated file is refused, so that neither replaces the other."""
    (tmp_path / name).write_text("")
    module = imported(tmp_path, monkeypatch, "taken", "def fit(): ...\n")

    with pytest.raises(InvalidTask) as refused:
        laid(module.fit, tmp_path / "out", requirements=["x"], dependencies=[name])
    assert said in str(refused.value)


NOTEBOOK = """
import math, sys, linecache
from pathlib import Path
from typing import Optional, Any
from tasks_lib.functions.code import notebook_source
LIMIT = 3
def cell(text):
    name = f"<cell {len(linecache.cache)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    exec(compile(text, name, "exec"), globals())
def sagemaker_task(function):
    return function
cell('''
@sagemaker_task
def good(data: "Path", n: Optional[int] = None) -> Any:
    def inner():
        return math.sqrt(4)
    return inner()
''')
cell('''
def bad():
    return LIMIT
''')
cell('''
@sagemaker_task
@sagemaker_task
def twice(): ...
''')
print(notebook_source(good))
for function in (bad, twice):
    try:
        notebook_source(function)
    except Exception as error:
        print(error.message)
"""


@pytest.mark.processes
def test_a_function_of_a_notebook():
    """A notebook's function is sent alone, with the imports that it uses.

    Other names that it uses from the notebook are refused.
    """
    ended = subprocess.run([sys.executable, "-c", NOTEBOOK], capture_output=True, text=True, check=True)
    module, _, refused = ended.stdout.partition("return inner()\n")

    assert module.splitlines()[2:5] == [
        "from typing import Any as Any",
        "from typing import Optional as Optional",
        "from pathlib import Path as Path",
    ]
    assert module.splitlines()[5:8] == [
        "import math as math",
        "",
        'def good(data: "Path", n: Optional[int] = None) -> Any:',
    ]
    assert "it uses 'LIMIT' of the notebook, a int" in refused
    assert "it has other decorators" in refused


def test_a_function_of_a_prompt(tmp_path):
    """A function without source text is refused with a fix."""
    names = {}
    exec("def fit(): ...", names)

    with pytest.raises(InvalidTask, match="typed in at a prompt"):
        laid(names["fit"], tmp_path / "out")
