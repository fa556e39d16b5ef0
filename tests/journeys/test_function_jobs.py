"""Functions as jobs on a real backend: values, skips, changes, maps, files, failures, and a user's single file."""

from __future__ import annotations

import datetime as dt
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import textwrap
import uuid

import pytest
from journey_tools import counting, jobs_of
from prefect import flow, unmapped
from prefect.client.schemas.objects import State

from tasks_lib import JobResult, output_of, sagemaker_task, sagemaker_tasks
from tasks_lib.dry_run.plan import plan
from tasks_lib.errors import DuplicateTask, InvalidTask, JobFailed
from tasks_lib.functions.file_output import FileOutput

pytestmark = pytest.mark.sampled(3, group="all")

STEPS = """
from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import logging
import os
from pathlib import Path

from prefect import flow, get_run_logger, task
from tasks_lib.functions.task import sagemaker_task


class Kind(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@dataclasses.dataclass(frozen=True)
class Report:
    rows: int
    when: dt.date
    kinds: tuple[Kind, ...]
    table: Path


class Model:
    def __init__(self, weight):
        self.weight = weight


@sagemaker_task
def add(a: int, b: int = 1) -> int:
    print("adding", a, b)
    return a + b


@sagemaker_task(name="prepared")
def prepare(raw: Path, upper: bool = True) -> Path:
    target = Path("clean")
    target.mkdir()
    for path in [raw] if raw.is_file() else sorted(raw.iterdir()):
        (target / path.name).write_text(path.read_text().upper() if upper else path.read_text())
    return target


@sagemaker_task(kind="training", metrics={"rows": "rows=([0-9]+)"})
def describe(data: Path, when: dt.date, kinds: list[Kind]) -> Report:
    text = "".join(path.read_text() for path in sorted(data.iterdir()))
    print(f"rows={len(text.splitlines())}")
    table = Path(os.environ["SM_OUTPUT_DATA_DIR"], "table.txt")
    table.write_text(text)
    return Report(len(text.splitlines()), when, tuple(kinds), table)


@sagemaker_task
def read(reports: list[Path], config: dict[str, float]) -> str:
    return "|".join(f"{path.name}:{path.read_text()}" for path in reports) + str(config)


@sagemaker_task
def broken(number: int):
    raise ValueError(f"cannot do {number}")


@sagemaker_task
def logs():
    get_run_logger()


@sagemaker_task(serializer="pickle")
def grow(model: Model, by: float) -> Model:
    return Model(model.weight + by)


@sagemaker_task
def nothing() -> None:
    logging.warning("nothing to do")
"""


@pytest.fixture
def steps(tmp_path):
    """The module of the function tasks, imported from this test's folder."""
    return load(tmp_path, STEPS)


def load(folder, text):
    path = folder / "steps.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("steps", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["steps"] = module
    spec.loader.exec_module(module)
    return module


def created(requests):
    return sum(count for name, count in requests.items() if name.endswith("CreateProcessingJob"))


@pytest.mark.always
def test_a_value_and_what_makes_it_run_again(backend, project, tmp_path):
    """A call returns the value, and the same call is skipped; another argument or other code makes another job."""
    steps = load(tmp_path, STEPS)
    add = steps.add.on(project)
    states = []

    for arguments in ((2, 3), (2, 3), (2,), (2, 1)):
        with counting(backend) as made:
            state = add(*arguments, return_state=True)
        states.append((state.name, state.result(_sync=True), created(made)))

    assert states == [("Completed", 5, 1), ("Cached", 5, 0), ("Completed", 3, 1), ("Cached", 3, 0)]
    assert add(2, 3) == 5

    changed = load(tmp_path, STEPS.replace("return a + b", "return a - b")).add.on(project)
    state = changed(2, 3, return_state=True)

    assert (state.name, state.result(_sync=True)) == ("Completed", -1)
    assert len(jobs_of(backend, project, "add-a2-b3")) == 2


@pytest.mark.sampled(4, group="function jobs")
def test_a_chain_and_a_map(project, bucket, steps):
    """Values of submitted tasks are arguments of others; a map gives each call its own name."""
    add = steps.add.on(project)

    @flow
    def chain():
        first = add.submit(1)
        second = add.submit(first, b=first)
        many = add.map([10, 20], b=unmapped(second))
        return second.result(), many.result()

    assert chain() == (4, [14, 24])
    folders = {name.partition("/")[0] for name in bucket.names("add-")}
    assert folders == {"add-a1", "add-a2-b2", "add-a10-b4", "add-a20-b4"}


@pytest.mark.sampled(4, group="function jobs")
def test_files_dataclasses_and_other_tasks(project, steps, tmp_path):
    """Paths come from anywhere and return as outputs; a dataclass returns as that dataclass, also on a skip."""
    (tmp_path / "raw.txt").write_text("one\ntwo\n")
    sm = sagemaker_tasks(project)
    kinds = [steps.Kind.SMALL, steps.Kind.LARGE]

    @flow
    def pipeline():
        clean = steps.prepare.on(sm).submit(str(tmp_path / "raw.txt"))
        report = steps.describe.on(sm).submit(clean, dt.date(2024, 1, 2), kinds)
        text = steps.read.on(sm).submit([report.result().table, tmp_path / "raw.txt"], {"weight": 1})
        return clean.result(), report.result(), text.result()

    clean, report, text = pipeline()

    assert isinstance(clean, FileOutput)
    assert (clean.name, clean.is_directory, clean.read_text("raw.txt")) == ("clean", True, "ONE\nTWO\n")
    assert (clean.download(tmp_path / "got") / "raw.txt").read_text() == "ONE\nTWO\n"
    assert (report.rows, report.when, report.kinds) == (2, dt.date(2024, 1, 2), tuple(kinds))
    assert type(report) is steps.Report
    assert report.table.read_text() == "ONE\nTWO\n"
    assert report.table.download(tmp_path / "table").read_text() == "ONE\nTWO\n"
    assert report.table.result.metrics == {"rows": 2.0}
    assert text == "table.txt:ONE\nTWO\n|raw.txt:one\ntwo\n{'weight': 1.0}"
    again = pipeline()[1]
    assert (again.rows, again.table.result.cached, again.table.read_text()) == (2, True, "ONE\nTWO\n")


@pytest.mark.sampled(4, group="function jobs")
def test_inputs_of_other_kinds(project, bucket, steps):
    """S3 URIs of an object and of a prefix, a job's result and `output_of` are all paths in the function."""
    bucket.write("raw/a.txt", b"a")
    written = sagemaker_tasks(project).process("by-hand", command="echo hand > $SM_OUTPUT_DATA_DIR/hand.txt")
    prepare = steps.prepare.on(project)

    assert prepare(bucket.uri("raw/a.txt")).read_text("a.txt") == "A"
    assert prepare(bucket.uri("raw/")).read_text("a.txt") == "A"
    assert prepare(written).read_text("hand.txt") == "HAND\n"
    assert prepare(output_of("by-hand"), upper=False).read_text("hand.txt") == "hand\n"


@pytest.mark.sampled(4, group="function jobs")
def test_a_failure(project, steps):
    """An exception of the function fails the task, with its message and its traceback."""
    with pytest.raises(JobFailed) as failed:
        steps.broken.on(project)(7)

    assert "ValueError: cannot do 7" in failed.value.reason
    assert any('steps.py", line' in line for line in failed.value.last_lines)
    assert isinstance(failed.value.result, JobResult)


@pytest.mark.sampled(4, group="function jobs")
def test_prefect_is_not_in_the_job(project, steps):
    """A function that calls Prefect fails with that reason, here as on AWS, although this machine has Prefect."""
    with pytest.raises(JobFailed) as failed:
        steps.logs.on(project)()

    assert "prefect.get_run_logger is not there in a job" in failed.value.reason


@pytest.mark.sampled(4, group="function jobs")
def test_nothing_is_a_result(project, steps):
    """A function without a result returns `None`, and is skipped like any other."""
    assert steps.nothing.on(project)() is None
    state = steps.nothing.on(project)(return_state=True)

    assert (state.name, state.result(_sync=True)) == ("Cached", None)


@pytest.mark.sampled(4, group="function jobs")
def test_pickle_serializer(project, bucket, steps):
    """With `serializer='pickle'` any object travels; without it there is no pickle in the bucket."""
    grown = steps.grow.on(project)(steps.Model(1.0), 0.5)

    assert (type(grown), grown.weight) == (steps.Model, 1.5)
    assert any(name.endswith("value.pkl") for name in bucket.names())

    steps.add.on(project)(1)
    assert not any(name.endswith(".pkl") for name in bucket.names("add-a1/"))


@pytest.mark.sampled(4, group="function jobs")
def test_a_plan(backend, project, steps, tmp_path):
    """A plan passes through files that do not exist yet, and ends where it needs a value that only a job knows."""
    (tmp_path / "raw.txt").write_text("one\n")
    prepare, describe, nothing = (task.on(project) for task in (steps.prepare, steps.describe, steps.nothing))

    @flow
    def pipeline():
        nothing()
        report = describe(prepare(tmp_path / "raw.txt"), dt.date(2024, 1, 2), [])
        return steps.add.on(project)(report.rows)

    with counting(backend) as made:
        planned = plan(pipeline)
    first = [(step.task, step.action) for step in planned.steps]
    value = pipeline()
    jobs = [step.job for step in planned.steps]

    assert first == [("nothing", "run"), ("prepared", "run"), ("describe-when2024-01-02", "run")]
    assert "reads the result of describe-when2024-01-02, which has not run" in planned.ends[0]
    assert created(made) == 0
    assert value == 2
    assert [step.job for step in plan(pipeline).steps][:3] == jobs
    assert [step.action for step in plan(pipeline).steps] == ["skip"] * 4


@pytest.mark.sampled(4, group="function jobs")
def test_one_name_for_two_pieces_of_work(project, steps, tmp_path):
    """Calls with the same name and different work in one flow run are refused, with the way to name them."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    prepare = steps.prepare.on(project)

    @flow
    def twice():
        for name in ("a.txt", "b.txt"):
            prepare(tmp_path / name)

    with pytest.raises(DuplicateTask) as refused:
        twice()
    assert "use .map, or name the calls apart: @sagemaker_task(name='prepare-{raw}')" in str(refused.value)


@pytest.mark.sampled(4, group="function jobs")
def test_two_tasks_of_one_function(project, steps):
    """If two tasks of one function differ in an option, the error names the option, and suggests another name."""
    add = steps.add.on(project)
    other = sagemaker_task(project=project, environment={"MODE": "b"})(add.sagemaker_function)

    @flow
    def twice():
        add(2)
        other(2)

    with pytest.raises(DuplicateTask, match=r'differ in: environment variable "MODE" added\.') as refused:
        twice()
    assert "give one of the two tasks a name of its own: @sagemaker_task(name='add-2')" in str(refused.value)


@pytest.mark.sampled(4, group="function jobs")
def test_a_sweep(backend, project, steps):
    """A sweep calls the function for each point, in order, with futures resolved; a new point runs alone."""
    add = steps.add.on(project)

    @flow
    def sweeping():
        return add.sweep(over={"a": [2, 3], "b": [1]}).result()

    @flow
    def chained():
        return add.sweep(add.submit(2), over={"b": [0, 1]}).result()

    with counting(backend) as made:
        values = sweeping()
    with counting(backend) as made_more:
        more = add.with_options(tags=["grid"]).sweep(over={"a": [3, 2, 4], "b": [1]})

    assert (values, created(made)) == ([3, 4], 2)
    assert ([each.result() for each in more], created(made_more)) == ([4, 3, 5], 1)
    stems = ("add-a2-b1", "add-a3-b1", "add-a4-b1")
    assert [len(jobs_of(backend, project, stem)) for stem in stems] == [1, 1, 1]
    assert chained() == [3, 4]


@pytest.mark.sampled(4, group="function jobs")
def test_a_map_over_files(project, tmp_path):
    """A map over inputs needs no template: each call is named by its input."""
    text = STEPS.replace('@sagemaker_task(name="prepared")', "@sagemaker_task")
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    prepare = load(tmp_path, text).prepare.on(project)

    @flow
    def each():
        return prepare.map([tmp_path / "a.txt", tmp_path / "b.txt"]).result()

    first, second = each()

    assert (first.read_text("a.txt"), second.read_text("b.txt")) == ("A.TXT", "B.TXT")
    assert first.result.task.startswith("prepare-rawa.txt-")


def test_a_wrong_argument_is_free(backend, project, steps):
    """An argument that cannot travel fails the task before any job."""
    with counting(backend) as made, pytest.raises(InvalidTask, match="argument 'a' of add"):
        steps.add.on(project)("many")

    assert created(made) == 0


@pytest.mark.sampled(4, group="function jobs")
def test_what_the_job_is_made_of(backend, project, tmp_path):
    """The bundle contains declared requirements and helpers, and no other file of the folder."""
    (tmp_path / "helper_of_steps.py").write_text("VALUE = 42\n")
    (tmp_path / "data.csv").write_text("private")
    module = load(
        tmp_path,
        "import sys\nsys.path.append(__file__.rpartition('/')[0])\nimport helper_of_steps\n"
        "from tasks_lib.functions.task import sagemaker_task\n"
        "@sagemaker_task(requirements=['./no-such-package'], dependencies=['helper_of_steps.py'])\n"
        "def installs(): ...\n"
        "@sagemaker_task(dependencies=['helper_of_steps.py'])\n"
        "def helped() -> int:\n    return helper_of_steps.VALUE\n",
    )
    with pytest.raises(JobFailed, match=r"requirements\.txt could not be installed"):
        module.installs.on(project)()

    assert module.helped.on(project)() == 42

    done = jobs_of(backend, project, "installs")
    described = backend.client("sagemaker").describe_processing_job(ProcessingJobName=done[0])
    uri = next(each["S3Input"]["S3Uri"] for each in described["ProcessingInputs"] if each["InputName"] == "ssm_source")
    bucket, _, key = f"{uri}source.tar.gz".removeprefix("s3://").partition("/")
    body = backend.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        files = {each.name: tar.extractfile(each).read().decode() for each in tar if each.isfile()}

    assert set(files) == {"steps.py", "helper_of_steps.py", "run_installs.py", "requirements.txt"}
    assert files["requirements.txt"] == "./no-such-package\n"


@pytest.mark.sampled(4, group="function jobs")
def test_retries_are_prefects_own(backend, project, steps):
    """A retry by Prefect after a failure runs the function in another job."""
    state: State = steps.broken.on(project).with_options(retries=1)(3, return_state=True)

    assert state.is_failed()
    assert len(jobs_of(backend, project, "broken-number3")) == 2


SINGLE_FILE = """
from pathlib import Path

from prefect import flow
from tasks_lib.functions.task import sagemaker_task


class Row:
    def __init__(self, text):
        self.text = text


@sagemaker_task
def write(text: str) -> Path:
    Path("out.txt").write_text(text)
    return Path("out.txt")


@sagemaker_task(serializer="pickle")
def parse(data: Path) -> Row:
    return Row(data.read_text())


@flow
def main():
    parsed = parse.submit(write.submit("hello from a job"))
    return parsed.result()


if __name__ == "__main__":
    row = main()
    print("RESULT", type(row) is Row, row.text)
"""


@pytest.mark.sampled(4, group="function jobs")
def test_a_single_file(backend, prefect_api, tmp_path):
    """A single file with flow and functions, run as a script from another folder, runs its jobs and then skips them."""
    (tmp_path / "project").mkdir()
    script = tmp_path / "project" / "my-flow.py"
    script.write_text(
        textwrap.dedent(SINGLE_FILE).replace("@sagemaker_task\n", f"@sagemaker_task(name='w-{uuid.uuid4().hex[:8]}')\n")
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PREFECT_"))},
        "LOCAL_SAGEMAKER_HOME": str(backend.home),
        "PREFECT_API_URL": prefect_api,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }

    def run():
        with counting(backend) as made:
            ended = subprocess.run(
                [sys.executable, "project/my-flow.py"],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
        assert ended.returncode == 0, ended.stderr
        assert "RESULT True hello from a job" in ended.stdout
        return created(made)

    assert [run(), run()] == [2, 0]
