"""What a job finds in its channels, from disk, from S3 and from other tasks; and what is uploaded for it."""

from __future__ import annotations

import json

import pytest
from journey_tools import Gate, counting, in_background, jobs_of
from prefect import flow, unmapped
from waiting import wait_until

from tasks_lib import Channel, output_of, sagemaker_tasks
from tasks_lib.errors import InputNotReady, InputsChanged, InvalidInput, MissingPath

pytestmark = pytest.mark.sampled(5, group="all")

# The script writes `<host>.json` with what this host sees in each channel: content by relative name. It writes into the
# model of a training job: SageMaker merges the models of all hosts, but keeps only the first host's output.
LOOK = """
import json, os, pathlib
def content(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}
seen = {
    name: content(pathlib.Path(os.environ["SM_CHANNEL_" + name.upper()]))
    for name in json.loads(os.environ["SM_CHANNELS"])
}
place = "SM_MODEL_DIR" if "TRAINING_JOB_NAME" in os.environ else "SM_OUTPUT_DATA_DIR"
pathlib.Path(os.environ[place], os.environ["SM_CURRENT_HOST"] + ".json").write_text(json.dumps(seen))
"""


@pytest.fixture
def look(tmp_path, sm):
    """Return a function that runs a job that reads its channels, and returns what each host saw."""
    script = tmp_path / "look.py"
    script.write_text(LOOK)

    def look(inputs, *, kind="process", hosts=1, name="look", **arguments):
        run = {"code": str(script)} if kind == "process" else {"entry_point": str(script)}
        result = getattr(sm, kind)(name, inputs=inputs, instance_count=hosts, state="none", **run, **arguments)
        (result.model if kind == "train" else result.output).download(tmp_path / "seen" / result.job)
        return [json.loads((tmp_path / "seen" / result.job / f"algo-{n + 1}.json").read_text()) for n in range(hosts)]

    return look


def files(folder, content):
    """Write files; return the folder."""
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


# -- from disk and from S3 -----------------------------------------------------------------------------------------


@pytest.mark.sampled(1)
@pytest.mark.parametrize("kind", ["train", "process"])
def test_local_files_arrive_as_they_are(kind, look, tmp_path, bucket):
    """A file, a directory and a subdirectory of one arrive as channels of both kinds of jobs, with their names."""
    data = files(tmp_path / "data", {"a.csv": "1", "deep/er/b c.txt": "2", "ümläut": "3"})
    (seen,) = look({"one": data / "a.csv", "all": str(data), "part": Channel(data, subdir="deep")}, kind=kind)

    assert seen == {
        "one": {"a.csv": "1"},
        "all": {"a.csv": "1", "deep/er/b c.txt": "2", "ümläut": "3"},
        "part": {"er/b c.txt": "2"},
    }


@pytest.mark.sampled(1)
@pytest.mark.parametrize("kind", ["train", "process"])
def test_s3_prefixes_and_objects_arrive_alone(kind, look, bucket):
    """A prefix brings its folder's content, with or without a slash, and an object only itself, without siblings."""
    for key in ("raw/a", "raw/sub/b", "raw2/stranger", "rawness", "single/x.csv"):
        bucket.write(key, key)
    inputs = {
        "bare": bucket.uri("raw"),
        "slash": bucket.uri("raw/"),
        "sub": Channel(bucket.uri("raw"), subdir="sub"),
        "object": bucket.uri("single/x.csv"),
    }
    (seen,) = look(inputs, kind=kind)

    assert seen == {
        "bare": {"a": "raw/a", "sub/b": "raw/sub/b"},
        "slash": {"a": "raw/a", "sub/b": "raw/sub/b"},
        "sub": {"b": "raw/sub/b"},
        "object": {"x.csv": "single/x.csv"},
    }


def test_an_object_with_a_sibling_is_refused(look, bucket, backend):
    """An object whose key is the prefix of another object's key is refused, since SageMaker would read both."""
    bucket.write("data.csv", "1")
    bucket.write("data.csv.bak", "2")
    with counting(backend) as made, pytest.raises(InvalidInput, match=r"also the beginning of s3://.*/data\.csv\.bak"):
        look({"data": bucket.uri("data.csv")})

    assert {"s3:ListObjectsV2"} == made.keys()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("where", ["no such prefix", "empty folder", "marker of the console"])
def test_an_empty_input_is_refused(where, look, tmp_path, bucket):
    """An empty channel is refused before any job, as SageMaker would, with the location."""
    (tmp_path / "empty").mkdir()
    for name in ("only/", "only/below/"):
        bucket.write(name, "")
    source = {
        "no such prefix": bucket.uri("nowhere"),
        "empty folder": tmp_path / "empty",
        "marker of the console": bucket.uri("only/"),
    }[where]
    with pytest.raises(MissingPath, match=str(source)):
        look({"data": source})


@pytest.fixture(params=["disk", "s3"])
def five_objects(request, tmp_path, bucket):
    """A location with five objects, `part-0` to `part-4`."""
    content = {f"part-{number}": str(number) for number in range(5)}
    for name, text in content.items():
        bucket.write(f"data/{name}", text)
    return files(tmp_path / "data", content) if request.param == "disk" else bucket.uri("data")


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("kind", "hosts"), [("train", 2), ("process", 3)])
def test_each_host_sees_its_share_or_everything(kind, hosts, five_objects, look):
    """`ShardedByS3Key` gives host i of n the objects i, i + n, … by key; `FullyReplicated` gives each host all."""
    inputs = {"mine": Channel(five_objects, distribution="ShardedByS3Key"), "all": five_objects}
    hosts_saw = look(inputs, kind=kind, hosts=hosts)

    names = [f"part-{number}" for number in range(5)]
    assert [set(saw["mine"]) for saw in hosts_saw] == [set(names[host::hosts]) for host in range(hosts)]
    assert [set(saw["all"]) for saw in hosts_saw] == [set(names)] * hosts


# -- from other tasks ----------------------------------------------------------------------------------------------


@pytest.fixture
def produced(sm):
    """A completed training task and a completed processing task."""
    leave = 'mkdir "$SM_MODEL_DIR/sub"; echo w > "$SM_MODEL_DIR/sub/weights"; echo o > "$SM_OUTPUT_DATA_DIR/o"'
    return {
        "fit": sm.train("fit", command=f'{leave}; echo s > "$SSM_STATE/s"'),
        "clean": sm.process("clean", command='cd "$SM_OUTPUT_DATA_DIR"; mkdir test; echo 1 > train; echo 2 > test/x'),
    }


@pytest.mark.sampled(1)
@pytest.mark.parametrize("by", ["name", "result"])
def test_a_tasks_outputs_arrive(by, produced, look):
    """Each output of a completed task arrives, by name or by result: packed, unpacked, and parts of both."""
    fit, clean = (name if by == "name" else produced[name] for name in ("fit", "clean"))
    inputs = {
        "packed": output_of(fit),
        "model": output_of(fit, extract=True),
        "part": output_of(fit, "model", extract=True, subdir="sub"),
        "output": output_of(fit, "output", extract=True),
        "state": output_of(fit, "state"),
        "source": output_of(fit, "source"),
        "clean": output_of(clean),
        "test": output_of(clean, subdir="test"),
    }
    packed = {name: inputs.pop(name) for name in ("packed", "source")}
    (seen,) = look(inputs)

    assert seen == {
        "model": {"sub/weights": "w\n"},
        "part": {"weights": "w\n"},
        "output": {"o": "o\n"},
        "state": {"s": "s\n"},
        "clean": {"train": "1\n", "test/x": "2\n"},
        "test": {"x": "2\n"},
    }
    assert packed


def test_a_tarball_stays_packed_unless_asked(produced, sm):
    """Without `extract`, a model arrives as the very object that the job left."""
    command = 'ls "$SM_CHANNEL_MODEL" "$SM_CHANNEL_SOURCE" > "$SM_OUTPUT_DATA_DIR/listing"'
    inputs = {"model": output_of("fit"), "source": output_of("fit", "source")}
    listing = sm.process("look", command=command, inputs=inputs).output.read_text("listing")

    assert [line for line in listing.split() if line.endswith(".gz")] == ["model.tar.gz", "source.tar.gz"]


def test_a_future_is_waited_for_and_makes_an_edge(sm, look):
    """A future in `inputs` is resolved by Prefect: the task waits for it and reads its output."""

    @flow
    def chained():
        first = sm.process.submit("first", command='sleep 0.5; echo 1 > "$SM_OUTPUT_DATA_DIR/x"')
        copy = 'cp "$SM_CHANNEL_FIRST/x" "$SM_OUTPUT_DATA_DIR/y"'
        second = sm.process.submit("second", command=copy, inputs={"first": output_of(first)})
        return second.result().output.read_text("y")

    assert chained() == "1\n"


def test_mapped_tasks_share_an_input(sm):
    """`.map` over names takes one input for all, by `unmapped`; each task has its own job and its own value."""

    @flow
    def sweep():
        clean = sm.process.submit("clean", command='echo 2 > "$SM_OUTPUT_DATA_DIR/x"')
        fits = sm.train.map(
            ["fit-3", "fit-5"],
            command=unmapped('echo $(($(cat "$SM_CHANNEL_DATA/x") * SM_HP_FACTOR)) > "$SM_MODEL_DIR/y"'),
            inputs=unmapped({"data": output_of(clean)}),
            hyperparameters=[{"factor": 3}, {"factor": 5}],
        )
        return [fit.result() for fit in fits]

    results = sweep()

    assert [result.task for result in results] == ["fit-3", "fit-5"]
    assert [result.model.read_text("y") for result in results] == ["6\n", "10\n"]


def test_a_task_of_another_project_is_read_by_name(make_project, sm, look):
    """`output_of(name, project=…)` reads from another project in the same bucket and prefix."""
    other = make_project()
    sagemaker_tasks(other).process("embed", command='echo e > "$SM_OUTPUT_DATA_DIR/e"')
    (seen,) = look({"e": output_of("embed", project=other.project)})

    assert seen == {"e": {"e": "e\n"}}
    with pytest.raises(InputNotReady, match=r"'embed'.* it never ran"):
        look({"e": output_of("embed")})


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"output": "weights"}, "There is no output 'weights'"),
        ({"subdir": "../other"}, "leaves its output"),
        ({"project": "p", "source": 3}, "needs a task's name"),
    ],
    ids=["kind", "subdir", "project"],
)
def test_an_impossible_output_is_refused_where_it_is_written(wanted, words):
    """`output_of` itself refuses an invalid output, in the author's line."""
    with pytest.raises(InvalidInput, match=words):
        output_of(**({"source": "fit"} | wanted))


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (lambda: output_of("clean", "model"), "asks for the 'model' of a processing task"),
        (lambda: output_of("fit", subdir="sub"), "which is packed"),
        (lambda: output_of("clean", extract=True), "asks to unpack"),
        (lambda: output_of("clean", "state"), "'state'"),
        (lambda: Channel("x", distribution="Sharded"), "has the distribution 'Sharded'"),
        (lambda: 17, "is of type int, not something to read"),
    ],
    ids=["no model", "packed", "not packed", "no state", "distribution", "type"],
)
def test_an_impossible_channel_is_refused_before_any_job(wanted, words, produced, look, backend):
    """An output that the task does not have is refused before any job; so is an invalid channel."""
    with counting(backend) as made, pytest.raises((InvalidInput, InputNotReady), match=words):
        look({"data": wanted()})

    assert made.keys() <= {"s3:GetObject", "s3:ListObjectsV2"}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("end", ["Failed", "never ran", "InProgress"])
def test_an_input_that_is_not_completed_is_refused_with_its_state(end, sm, backend, project, tmp_path):
    """An input task without a completed job is an error with the status of its newest job."""
    gate = Gate(tmp_path / "open")
    command = {"Failed": "exit 1", "InProgress": gate.wait}

    def read():
        with pytest.raises(InputNotReady, match=f"'base' of project '{project.project}', which has no completed") as no:
            sm.process("reader", command="true", inputs={"data": output_of("base")})
        return str(no.value)

    with in_background(lambda: end in command and sm.process("base", command=command[end])) as base:
        wait_until(lambda: jobs_of(backend, project, "base") or base.done(), "the job")
        if end == "Failed":
            assert base.exception(), "it fails"
        message = read()
        gate.open()

    (job,) = jobs_of(backend, project, "base") or [None]
    assert (f"its newest job {job} is {end}" if job else "it never ran") in message
    assert jobs_of(backend, project, "reader") == []


def test_an_input_whose_files_are_gone_is_refused(sm, look, bucket, backend):
    """A completed job whose output was deleted is refused as an input before any job, as one that never ran."""
    clean = sm.process("clean", command='echo 1 > "$SM_OUTPUT_DATA_DIR/x"')
    bucket.delete(f"clean/{clean.job}/output/")
    with counting(backend) as made, pytest.raises((InputNotReady, MissingPath)):
        look({"data": output_of("clean")})

    assert "sagemaker:CreateProcessingJob" not in made


# -- inputs that change --------------------------------------------------------------------------------------------


def test_a_foreign_input_that_changes_leaves_no_record(sm, project, bucket, backend, tmp_path):
    """1. Objects change while the job reads. 2. The run fails without record. 3. The next run is done, then skipped."""
    gate = Gate(tmp_path / "open")
    for name in ("a", "b"):
        bucket.write(f"raw/{name}", "1")
    arguments = {"command": gate.wait, "inputs": {"raw": bucket.uri("raw")}, "state": "none"}
    with in_background(lambda: sm.train("fit", **arguments)) as running:
        (job,) = wait_until(lambda: jobs_of(backend, project, "fit"), "the job")
        bucket.write("raw/b", "2")
        gate.open()
        with pytest.raises(
            InputsChanged, match=rf"'raw' of task 'fit' changed while job {job} .* 1 object\(s\), such as s3.*/raw/b"
        ):
            running.result()

    assert "fit/_ledger/latest.json" not in bucket.names()
    assert not sm.train("fit", **arguments).cached
    assert sm.train("fit", **arguments).cached


@pytest.mark.always
def test_going_back_to_an_input_that_had_changed_runs_again(sm, project, bucket, backend, tmp_path):
    """The attempt whose input changed is closed: the same input later is the same work, with a new job."""
    gate = Gate(tmp_path / "open")
    bucket.write("raw/a", "1")
    arguments = {"command": gate.wait, "inputs": {"raw": bucket.uri("raw")}, "state": "none"}
    with in_background(lambda: sm.train("fit", **arguments)) as running:
        wait_until(lambda: jobs_of(backend, project, "fit"), "the job")
        bucket.write("raw/extra", "2")
        gate.open()
        with pytest.raises(InputsChanged):
            running.result()
    bucket.delete("raw/extra")
    again = sm.train("fit", **arguments)

    assert (again.job[-2:], again.reason) == ("-2", "ran: an input had changed while it ran")


def test_local_files_may_change_while_the_job_waits(sm, project, backend, tmp_path):
    """A job reads its local files as they were at the call: they are in S3 under the digest of their content."""
    gate = Gate(tmp_path / "open")
    data = files(tmp_path / "data", {"x": "before"})
    read = f'{gate.wait}; cat "$SM_CHANNEL_DATA/x" > "$SM_MODEL_DIR/x"'
    with in_background(lambda: sm.train("fit", command=read, inputs={"data": data})) as running:
        wait_until(lambda: jobs_of(backend, project, "fit"), "the job")
        (data / "x").write_text("after")
        gate.open()

    assert running.result().model.read_text("x") == "before"
    assert not sm.train("fit", command=read, inputs={"data": data}).cached


def test_only_what_is_new_is_sent(sm, project, backend, bucket, tmp_path):
    """1. All files are sent once. 2. Other work on the same files sends none. 3. Later only changed files are sent."""
    data = files(tmp_path / "data", {f"part-{number}": f"{number}\n" for number in range(5)})

    def run(command):
        with counting(backend) as made:
            sm.train("fit", command=command, inputs={"data": data}, state="none")
        return made.get("s3:PutObject", 0), made.get("s3:CopyObject", 0)

    first, _ = run("true")
    unchanged = run("true # other work")
    files(data, {"part-1": "new"})
    one_changed = run("true # other work")
    files(data, {"part-2": "new too", "part-3": "new as well", "part-9": "9\n"})
    (data / "part-4").unlink()
    three_changed = run("true # other work")

    # All requests except those for the inputs are the same each time. Only the first run also writes code and project.
    others = unchanged[0]
    assert first >= others + 5
    assert (others, 0) == unchanged
    assert (one_changed[0] - others, one_changed[1]) == (1, 4)
    assert (three_changed[0] - others, three_changed[1]) == (3, 2)
    assert len({key.split("/")[3] for key in bucket.names("fit/input/data/")}) == 3
