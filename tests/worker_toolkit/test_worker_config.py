"""`WorkerConfig`: its options, the state of the instance, and processes that the bootstrap did not start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import worker_toolkit


def run_python(script, environment, *arguments):
    """Run Python code as a custom image would, and return its output parsed as JSON."""
    environment = {"PYTHONPATH": str(Path(worker_toolkit.__file__).parents[1]), **environment}
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stdout

    return json.loads(ended.stdout)


@pytest.mark.parametrize("option", [True, False])
def test_per_instance_state(training, option):
    """With the option, the host has its own state directory and the directories of other hosts are removed.

    Without it, the state stays as restored.
    """
    state = training.fill("/state", {"algo-1/mine": b"1", "algo-2/theirs": b"2", "shared": b"3", "algo-notes/x": b"4"})
    ended = training.run_script(
        "import os\nfrom worker_toolkit import worker_lib\n"
        f"config = worker_lib.WorkerConfig(per_instance_state={option})\n"
        "print(hasattr(config, 'instance_state') and config.instance_state)\n"
    )
    left = {"algo-1/mine", "shared", "algo-notes/x"} | (set() if option else {"algo-2/theirs"})

    assert ended.stdout.splitlines()[-1] == (str(state / "algo-1") if option else "False")
    assert {str(path.relative_to(state)) for path in state.rglob("*") if path.is_file()} == left


def test_the_state_can_be_made_later(training):
    """`initMultiWorkersState` does the same as the option, and can be called again."""
    ended = training.run_script(
        "from worker_toolkit import worker_lib\nconfig = worker_lib.WorkerConfig(False)\n"
        "config.initMultiWorkersState()\nopen(config.instance_state + '/kept', 'w').close()\n"
        "config.initMultiWorkersState()\nprint(config.instance_state)\n"
    )

    assert ended.stdout.splitlines()[-1] == str(training.at("/state/algo-1"))
    assert training.at("/state/algo-1/kept").is_file()


@pytest.mark.parametrize(("option", "level"), [(True, 10), (False, 30)])
def test_set_debug_level(training, option, level):
    """With the option, the root logger gets `SM_LOG_LEVEL`; without it, Python's default level stays."""
    ended = training.run_script(
        "import logging\nfrom worker_toolkit import worker_lib\n"
        f"worker_lib.WorkerConfig(set_debug_level={option})\nprint(logging.getLogger().level)\n",
        SM_LOG_LEVEL="10",
    )

    assert ended.stdout.splitlines()[-1] == str(level)


@pytest.mark.parametrize("option", [True, False])
def test_update_argv(training, option):
    """With the option, an entry point that a launcher started without the job's arguments gets them back."""
    training.hyperparameters({"lr": "0.1"})
    training.source(
        {
            "fit.py": "import sys\nfrom worker_toolkit import worker_lib\nsys.argv = sys.argv[:1]\n"
            f"worker_lib.WorkerConfig(update_argv={option})\nprint(sys.argv[1:])\n"
        }
    )
    ended = training.run("--entry-point", "fit.py", "--", "--user")

    assert ended.stdout.splitlines()[-1] == str(["--lr", "0.1", "--user"] if option else [])


def test_update_argv_leaves_helpers_alone(training):
    """A helper script that the entry point starts without arguments gets none: its parser would not know them."""
    training.hyperparameters({"lr": "0.1"})
    training.source(
        {
            "fit.sh": "python3 helper.py\n",
            "helper.py": "import sys\nfrom worker_toolkit import worker_lib\n"
            "worker_lib.WorkerConfig()\nprint(sys.argv[1:])\n",
        }
    )

    assert training.run("--entry-point", "fit.sh").stdout.splitlines()[-1] == "[]"


def test_the_scripts_own_parser_is_left_alone(training):
    """`WorkerConfig` does not parse the command line, so options with the names of its fields have no effect on it."""
    training.hyperparameters({"input": "x", "num": "5", "model": "m", "model_dir": "s3://elsewhere"})
    ended = training.run_script(
        "from worker_toolkit import worker_lib\nprint(worker_lib.WorkerConfig().model_dir)\n", "--", "--hps", "{broken"
    )

    assert ended.stdout.splitlines()[-1] == str(training.at("/opt/ml/model"))


def test_update_namespace(training):
    """Fields are copied into an `argparse` namespace, under the names that the mapping gives."""
    ended = training.run_script(
        "from argparse import Namespace\nfrom worker_toolkit import worker_lib\n"
        "args = Namespace(workers=0, seed=1)\n"
        "worker_lib.WorkerConfig().updateNamespace(args, {'num_nodes': 'workers', 'state': 'path'})\n"
        "print(vars(args))\n"
    )

    assert ended.stdout.splitlines()[-1] == str({"workers": 2, "seed": 1, "path": str(training.at("/state"))})


def test_what_is_missing_is_explained(training):
    """The errors for a missing channel and an unknown field list the existing ones."""
    training.channel("data")
    ended = training.run_script(
        "from worker_toolkit import worker_lib\nconfig = worker_lib.WorkerConfig(False)\n"
        "for name in ('channel_dta', 'instance_state', 'nonsense'):\n"
        "    try:\n        getattr(config, name)\n    except AttributeError as error:\n        print(error)\n"
    )
    lines = ended.stdout.splitlines()[-3:]

    assert lines[0] == "The job has no channel 'dta'; it has: ['data']"
    assert lines[1] == "There is no instance_state before initMultiWorkersState()."
    assert lines[2].startswith("WorkerConfig has no field 'nonsense'; it has: channel_data, ")


def test_it_shows_no_hyperparameter(training):
    """Printing or logging the configuration does not show hyperparameters, which may be secret."""
    training.hyperparameters({"password": "s3cret"})
    ended = training.run_script(
        "import logging\nlogging.basicConfig(level=10)\nfrom worker_toolkit import worker_lib\n"
        "print(worker_lib.WorkerConfig())\n"
    )

    assert ended.stdout.splitlines()[-1] == "WorkerConfig(job_name='fit-1234-a1', host='algo-1', channels=[])"
    assert "s3cret" not in ended.stdout


FIELDS = """
import json, os
from worker_toolkit import worker_lib
config = worker_lib.WorkerConfig()
print(json.dumps({"fields": vars(config), "ssm": {k: v for k, v in os.environ.items() if k.startswith("SSM_")}}))
"""


def test_an_image_without_our_bootstrap(container):
    """If the image has its own entry point, the fields come from SageMaker's files.

    Child processes get the `SSM_` variables.
    """
    data = container.channel("data")
    found = run_python(FIELDS, container.environment)
    state = container.at("/state" if container.kind == "training" else "/opt/ml/processing/state")

    assert found["fields"]["job_name"] == "fit-1234-a1"
    assert found["fields"]["channel_data"] == str(data)
    assert found["fields"]["hosts"] == ["algo-1", "algo-2"]
    assert found["fields"]["output_data_dir"] == str(container.output)
    assert found["ssm"]["SSM_INSTANCE_STATE"] == str(state / "algo-1")
    assert (found["ssm"]["SSM_HOST_RANK"], found["ssm"]["SSM_NUM_NODES"]) == ("0", "2")


def test_outside_of_a_job(tmp_path):
    """On a laptop the fields are empty, and no file is created or deleted."""
    found = run_python(FIELDS, {"LOCAL_SAGEMAKER_ROOT": str(tmp_path)})["fields"]

    assert found["job_name"] == found["current_host"] == found["channel_data"] == ""
    assert found["hps"] == {}
    assert found["channels"] == found["hosts"] == []
    assert found["num_nodes"] == found["host_rank"] == found["num_gpus"] == -1
    assert found["num_cpus"] == len(os.sched_getaffinity(0))
    assert found["instance_state"] == found["state"] == "/state"
    assert list(tmp_path.iterdir()) == []


def test_importing_it_changes_nothing(tmp_path):
    """Importing the package changes no environment, path, working directory, logging or signal handler."""
    script = """
import json, logging, os, signal, sys
def world():
    root = logging.getLogger()
    handlers = [len(root.handlers), str(signal.getsignal(15))]
    return [dict(os.environ), sys.path, sys.argv, os.getcwd(), root.level, handlers]
before = json.dumps(world())
import worker_toolkit, worker_toolkit.bootstrap, worker_toolkit.worker_lib
print(json.dumps(json.dumps(world()) == before))
"""

    assert run_python(script, {"LOCAL_SAGEMAKER_ROOT": str(tmp_path)}) is True
