"""One change at a time: which steps of a flow run again, and the reason of each.

Each test changes one thing of a world that all tests of this process share, and no change is undone. So the tests may
run in any order, and the baseline runs only once.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from journey_tools import counting
from prefect import flow

from tasks_lib import Channel, output_of, sagemaker_tasks

PREPARE = """
import os, pathlib
out = pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"])
for path in pathlib.Path(os.environ["SM_CHANNEL_RAW"]).iterdir():
    for split, text in (("train", path.read_text().upper()), ("test", path.read_text())):
        (out / split).mkdir(exist_ok=True)
        (out / split / path.name).write_text(text)
    print(os.environ["SM_CURRENT_HOST"], path.name)
"""
FIT = """
import argparse, json, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--C", type=float)
C = parser.parse_known_args()[0].C
files = sorted(pathlib.Path(os.environ["SM_CHANNEL_TRAIN"]).iterdir())
for epoch in range(3):
    print(f"epoch={epoch} auc={C + epoch} loss={C / (1 + epoch)}")
model = {"C": C, "rows": [path.read_text() for path in files]}
pathlib.Path(os.environ["SM_MODEL_DIR"], "model.json").write_text(json.dumps(model))
pathlib.Path(os.environ["SSM_STATE"], "checkpoint").write_text(os.environ["TRAINING_JOB_NAME"])
"""
EVALUATE = """
import json, os, pathlib, sys
channel = lambda name: pathlib.Path(os.environ["SM_CHANNEL_" + name])
models = [json.loads((channel(name) / "model.json").read_text()) for name in ("MODEL_A", "MODEL_B")]
report = {"models": models, "test": sorted(path.name for path in channel("TEST").iterdir()), "arguments": sys.argv[1:]}
pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "report.json").write_text(json.dumps(report))
"""
STEPS = ("prepare", "fit-a", "fit-b", "evaluate")
TRAINED = frozenset({"fit-a", "fit-b"})


class World:
    """Everything on which the flow depends: files on disk and the arguments of each step."""

    def __init__(self, folder: Path, project) -> None:
        self.folder, self.project, self.cwd = folder, project, folder
        self.steps = {step: {"environment": {"DEPTH": "1"}} for step in STEPS}
        self.steps["prepare"] |= {"instance_count": 2, "state": "none"}
        for step, c in (("fit-a", 0.25), ("fit-b", 1.0)):
            self.steps[step] |= {"hyperparameters": {"C": c, "seed": 7}, "metrics": {"auc": "auc=([0-9.]+)"}}
        self.steps["evaluate"] |= {"arguments": ["--top", "1"]}
        for number in range(4):
            self.write(f"raw/part-{number}.csv", f"row {number}\n")
        for name, code in (("prepare", PREPARE), ("fit", FIT), ("evaluate", EVALUATE)):
            self.write(f"code-{name}/{name}.py", code)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def append(self, name: str, text: str) -> None:
        self.write(name, (self.folder / name).read_text() + text)

    def path(self, name: str) -> str:
        """Return a path as its author writes it: relative to the working directory."""
        return os.path.relpath(self.folder / name, self.cwd)

    def run(self):
        """Run the flow in this world; return the result of each step by name."""
        before = Path.cwd()
        os.chdir(self.cwd)
        try:
            return self._flow()
        finally:
            os.chdir(before)

    def _flow(self):
        sm = sagemaker_tasks(self.project)

        @flow(name="pipeline")
        def pipeline():
            futures = {
                "prepare": sm.process.submit(
                    "prepare",
                    code="prepare.py",
                    source_dir=self.path("code-prepare"),
                    inputs={"raw": Channel(self.path("raw"), distribution="ShardedByS3Key")},
                    **self.steps["prepare"],
                )
            }
            for name in ("fit-a", "fit-b"):
                futures[name] = sm.train.submit(
                    name,
                    source_dir=self.path("code-fit"),
                    entry_point="fit.py",
                    inputs={"train": output_of(futures["prepare"], subdir="train")},
                    **self.steps[name],
                )
            futures["evaluate"] = sm.process.submit(
                "evaluate",
                code=self.path("code-evaluate/evaluate.py"),
                inputs={
                    "model_a": output_of(futures["fit-a"], extract=True),
                    "model_b": output_of(futures["fit-b"], extract=True),
                    "test": output_of(futures["prepare"], subdir="test"),
                },
                **self.steps["evaluate"],
            )
            return {name: future.result() for name, future in futures.items()}

        return pipeline()


@pytest.fixture(scope="module")
def world(tmp_path_factory, make_project):
    """The world in its current state."""
    return World(tmp_path_factory.mktemp("world"), make_project())


def from_new_job(channel, step):
    return f'input "{channel}" comes from another job ({{{step}}})'


AFTER_A, AFTER_B, TESTED = (
    from_new_job("model_a", "fit-a"),
    from_new_job("model_b", "fit-b"),
    from_new_job("test", "prepare"),
)
AFTER_FITS = {"evaluate": f"{AFTER_A}; {AFTER_B}"}
AFTER_PREPARE = {
    "fit-a": from_new_job("train", "prepare"),
    "fit-b": from_new_job("train", "prepare"),
    "evaluate": f"{AFTER_A}; {AFTER_B}; {TESTED}",
}


def a_byte_of_data(world):
    world.append("raw/part-2.csv", "!")
    return {"prepare": 'input "raw" changed (1 of 4 objects)', **AFTER_PREPARE}


def a_byte_of_the_fit_code(world):
    world.append("code-fit/fit.py", "#")
    return {"fit-a": "code changed (fit.py)", "fit-b": "code changed (fit.py)", **AFTER_FITS}


def a_byte_of_the_prepare_code(world):
    world.append("code-prepare/prepare.py", "#")
    return {"prepare": "code changed (prepare.py)", **AFTER_PREPARE}


def a_file_beside_the_fit_code(world):
    world.write("code-fit/tables/extra.txt", "extra")
    return {"fit-a": "code changed (tables/extra.txt)", "fit-b": "code changed (tables/extra.txt)", **AFTER_FITS}


def a_hyperparameter_of_one_fit(world):
    world.steps["fit-a"]["hyperparameters"]["C"] = 0.5
    return {"fit-a": 'hyperparameter "C" changed (0.25 -> 0.5)', "evaluate": AFTER_A}


def a_new_hyperparameter_of_the_other_fit(world):
    world.steps["fit-b"]["hyperparameters"]["C"] = 2.0
    world.steps["fit-b"]["hyperparameters"].pop("seed")
    reason = 'hyperparameter "C" changed (1.0 -> 2.0); hyperparameter "seed" removed'
    return {"fit-b": reason, "evaluate": AFTER_B}


def the_environment_of_one_step(world):
    world.steps["fit-b"]["environment"] = {"DEPTH": "2"}
    return {"fit-b": 'environment variable "DEPTH" changed', "evaluate": AFTER_B}


def a_new_variable_of_the_last_step(world):
    world.steps["evaluate"]["environment"] = {"DEPTH": "1", "COLOUR": "red"}
    return {"evaluate": 'environment variable "COLOUR" added'}


def the_host_count_of_prepare(world):
    world.steps["prepare"]["instance_count"] = 3
    return {"prepare": "instance count changed (2 -> 3)", **AFTER_PREPARE}


def an_argument(world):
    world.steps["evaluate"]["arguments"] = ["--top", "2"]
    return {"evaluate": "arguments changed"}


def nothing_at_all(world):
    return {}


def instance_type_and_volume(world):
    for step in STEPS:
        world.steps[step] |= {"instance_type": "ml.c5.xlarge", "volume_size_gb": 50}
    return {}


def tags(world):
    for step in STEPS:
        world.steps[step]["tags"] = {"cost-center": "42"}
    return {}


def spot_and_time_limits(world):
    for step in STEPS:
        world.steps[step]["max_runtime_minutes"] = 17
    for step in TRAINED:
        world.steps[step] |= {"spot": False, "max_wait_minutes": 60}
    return {}


def what_tools_leave_beside_the_code(world):
    for code in ("code-prepare", "code-fit", "code-evaluate"):
        world.write(f"{code}/__pycache__/fit.cpython-311.pyc", "bytes")
        world.write(f"{code}/.DS_Store", "finder")
        world.write(f"{code}/.ipynb_checkpoints/x.ipynb", "{}")
        world.write(f"{code}/.git/HEAD", "ref")
    return {}


def the_times_of_all_files(world):
    for path in world.folder.rglob("*"):
        os.utime(path, (1, 1))
    return {}


def the_working_directory(world):
    world.cwd = world.folder / "raw"
    return {}


def the_order_of_arguments(world):
    for step in TRAINED:
        values = world.steps[step]["hyperparameters"]
        world.steps[step]["hyperparameters"] = dict(reversed(values.items()))
    return {}


def a_default_said_aloud(world):
    world.steps["evaluate"] |= {"instance_count": 1, "state": "task"}
    return {}


CHANGES = [
    a_byte_of_data,
    a_byte_of_the_fit_code,
    a_byte_of_the_prepare_code,
    a_file_beside_the_fit_code,
    a_hyperparameter_of_one_fit,
    a_new_hyperparameter_of_the_other_fit,
    the_environment_of_one_step,
    a_new_variable_of_the_last_step,
    the_host_count_of_prepare,
    an_argument,
    nothing_at_all,
    instance_type_and_volume,
    tags,
    spot_and_time_limits,
    what_tools_leave_beside_the_code,
    the_times_of_all_files,
    the_working_directory,
    the_order_of_arguments,
    a_default_said_aloud,
]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_runs_again_exactly_what_depends_on_it(change, world, backend):
    """After one change, exactly the steps that depend on it run, each with its reason; the others keep their jobs."""
    before = world.run()
    expected = change(world)
    with counting(backend) as made:
        after = world.run()

    jobs = {step: result.job for step, result in after.items()}
    reasons = {step: result.reason for step, result in after.items() if not result.cached}
    assert {step: f"ran: {reason.format(**jobs)}" for step, reason in expected.items()} == reasons
    assert expected.keys() == {step for step in STEPS if jobs[step] != before[step].job}
    assert len(TRAINED & expected.keys()) == made.get("sagemaker:CreateTrainingJob", 0)
    assert len(expected.keys() - TRAINED) == made.get("sagemaker:CreateProcessingJob", 0)
    assert {"skipped: nothing changed"} >= {result.reason for result in after.values() if result.cached}


def test_another_metric_is_read_from_the_old_log(world, backend):
    """A new metric expression runs no job: its values are read from the log of the finished job."""
    world.run()
    world.steps["fit-a"]["metrics"] = {"auc": "auc=([0-9.]+)", "loss": "loss=([0-9.]+)", "absent": "f1=([0-9.]+)"}
    with counting(backend) as made:
        after = world.run()

    c = world.steps["fit-a"]["hyperparameters"]["C"]
    assert after["fit-a"].metrics == {"auc": c + 2, "loss": pytest.approx(c / 3)}
    assert [value for _, value in after["fit-a"].metric_history["loss"]] == pytest.approx([c, c / 2, c / 3])
    assert all(result.cached for result in after.values())
    assert not [name for name in made if "Create" in name]


def test_the_steps_compute_on_each_others_outputs(world):
    """The report of the last step contains both models, each trained on all rows of the first step."""
    report = world.run()["evaluate"].output.read_json("report.json")
    raw = [path.read_text() for path in sorted((world.folder / "raw").iterdir())]

    assert report["test"] == [f"part-{number}.csv" for number in range(4)]
    assert report["arguments"] == world.steps["evaluate"]["arguments"]
    assert [model["rows"] for model in report["models"]] == [[text.upper() for text in raw]] * 2
    assert [model["C"] for model in report["models"]] == [
        world.steps[fit]["hyperparameters"]["C"] for fit in ("fit-a", "fit-b")
    ]
