"""The environment of the user's code: the variables and fields of the seeds' tables, for every way to run code."""

import json
import os
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.sampled(12, group="all")

DUMP = """
import json, os, sys
from pathlib import Path
from worker_toolkit import worker_lib
found = {"environment": dict(os.environ), "argv": sys.argv[1:], "cwd": os.getcwd(), "toolkit": worker_lib.__file__}
config = worker_lib.WorkerConfig()
found["config"] = vars(config)
Path(config.output_data_dir, "found.json").write_text(json.dumps(found))
"""

WAYS = {
    "python": ("--entry-point", "dump.py"),
    "shell script": ("--entry-point", "dump.sh"),
    "shell command": ("--command", "python3 dump.py"),
}


@pytest.fixture(params=WAYS)
def arguments(request):
    """The bootstrap's arguments for each way to run code."""
    return WAYS[request.param]


def dump(container, *arguments, **environment):
    """Run a job that writes its environment to a file, and return the content."""
    container.source({"dump.py": DUMP, "dump.sh": 'python3 dump.py "$@"\n'})
    ended = container.run(*arguments, **environment)

    assert ended.returncode == 0, ended.stdout

    return json.loads((container.output / "found.json").read_text())


def test_every_row_of_simple_sagemakers_table(container, arguments):
    """Each row of the seed's table is a variable and a field, for both kinds of job, for scripts and shell commands."""
    container.config("resourceconfig.json", {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]})
    data, model, other = (container.channel(name) for name in ("data", "model", "Legal_Texts"))
    is_training = container.kind == "training"
    hps = {"arg": "hello world!", "task": 1, "flag": True} if is_training else {}
    if is_training:
        container.hyperparameters({"arg": "hello world!", "task": "1", "flag": "true"})
    state = container.at("/state" if is_training else "/opt/ml/processing/state")
    model_dir = container.at("/opt/ml/model") if is_training else container.output / "model"

    table = {
        ("SAGEMAKER_JOB_NAME", "job_name"): "fit-1234-a1",
        ("SM_CHANNELS", "channels"): ["Legal_Texts", "data", "model"],
        ("SM_CHANNEL_DATA", "channel_data"): str(data),
        ("SM_CHANNEL_MODEL", "channel_model"): str(model),
        ("SM_CHANNEL_LEGAL_TEXTS", "channel_Legal_Texts"): str(other),
        ("SM_HPS", "hps"): hps,
        ("SSM_STATE", "state"): str(state),
        ("SSM_INSTANCE_STATE", "instance_state"): str(state / "algo-2"),
        ("SM_OUTPUT_DATA_DIR", "output_data_dir"): str(container.output),
        ("SM_MODEL_DIR", "model_dir"): str(model_dir),
        ("SSM_TENSORBOARD_DIR", "tensorboard_dir"): str(container.at("/opt/ml/output/tensorboard")),
        ("SM_NUM_CPUS", "num_cpus"): len(os.sched_getaffinity(0)),
        ("SM_NUM_GPUS", "num_gpus"): 0,
        ("SM_CURRENT_HOST", "current_host"): "algo-2",
        ("SM_HOSTS", "hosts"): ["algo-1", "algo-2"],
        ("SM_NETWORK_INTERFACE_NAME", "network_interface_name"): "eth0",
        ("SSM_NUM_NODES", "num_nodes"): 2,
        ("SSM_HOST_RANK", "host_rank"): 1,
    }
    found = dump(container, *arguments)
    variables = {name: found["environment"][name] for name, _ in table}
    fields = {field: found["config"][field] for _, field in table}
    as_text = {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
        for (name, _), value in table.items()
    }

    assert as_text == variables
    assert {field: value for (_, field), value in table.items()} == fields
    assert all(Path(path).is_dir() for path in fields.values() if isinstance(path, str) and path.startswith("/"))


def test_the_code_is_where_it_runs(container, arguments):
    """The code runs in /opt/ml/code, which is first on PYTHONPATH and from which the toolkit is imported."""
    found = dump(container, *arguments, PYTHONPATH="/somewhere")

    assert str(container.code) == found["cwd"]
    assert f"{container.code}:/somewhere" == found["environment"]["PYTHONPATH"]
    assert str(container.code / "worker_toolkit" / "worker_lib.py") == found["toolkit"]


def test_the_job_keeps_its_own_variables(container, arguments):
    """Variables of the request reach the code unchanged."""
    found = dump(container, *arguments, MY_SETTING="x=1; y")

    assert found["environment"]["MY_SETTING"] == "x=1; y"
    assert found["environment"]["SSM_FINGERPRINT"] == "f1"


def test_every_variable_of_training_grounds_log(training):
    """All variables of seed 003's log are set, in the format of that log."""
    training.channel("training")
    training.config("resourceconfig.json", {"current_host": "algo-1", "hosts": ["algo-1"]})
    training.source({"train.py": DUMP})

    assert training.run("--entry-point", "train.py").returncode == 0

    environment = json.loads((training.output / "found.json").read_text())["environment"]
    cpus = len(os.sched_getaffinity(0))
    expected = {
        "SM_HOSTS": '["algo-1"]',
        "SM_NETWORK_INTERFACE_NAME": "eth0",
        "SM_HPS": "{}",
        "SM_USER_ENTRY_POINT": "train.py",
        "SM_FRAMEWORK_PARAMS": "{}",
        "SM_RESOURCE_CONFIG": '{"current_host":"algo-1","hosts":["algo-1"]}',
        "SM_INPUT_DATA_CONFIG": '{"training":{"RecordWrapperType":"None","S3DistributionType":"FullyReplicated",'
        '"TrainingInputMode":"File"}}',
        "SM_OUTPUT_DATA_DIR": str(training.at("/opt/ml/output/data")),
        "SM_CHANNELS": '["training"]',
        "SM_CURRENT_HOST": "algo-1",
        "SM_MODULE_NAME": "train",
        "SM_LOG_LEVEL": "20",
        "SM_FRAMEWORK_MODULE": "",
        "SM_INPUT_DIR": str(training.at("/opt/ml/input")),
        "SM_INPUT_CONFIG_DIR": str(training.at("/opt/ml/input/config")),
        "SM_OUTPUT_DIR": str(training.at("/opt/ml/output")),
        "SM_NUM_CPUS": str(cpus),
        "SM_NUM_GPUS": "0",
        "SM_MODEL_DIR": str(training.at("/opt/ml/model")),
        "SM_MODULE_DIR": str(training.code),
        "SM_USER_ARGS": "[]",
        "SM_OUTPUT_INTERMEDIATE_DIR": str(training.at("/opt/ml/output/intermediate")),
        "SM_CHANNEL_TRAINING": str(training.at("/opt/ml/input/data/training")),
    }

    assert expected == {name: environment[name] for name in expected}
    assert json.loads(environment["SM_TRAINING_ENV"]) == {
        "additional_framework_parameters": {},
        "channel_input_dirs": {"training": str(training.at("/opt/ml/input/data/training"))},
        "current_host": "algo-1",
        "framework_module": None,
        "hosts": ["algo-1"],
        "hyperparameters": {},
        "input_config_dir": str(training.at("/opt/ml/input/config")),
        "input_data_config": json.loads(expected["SM_INPUT_DATA_CONFIG"]),
        "input_dir": str(training.at("/opt/ml/input")),
        "is_master": True,
        "job_name": "fit-1234-a1",
        "log_level": 20,
        "master_hostname": "algo-1",
        "model_dir": str(training.at("/opt/ml/model")),
        "module_dir": str(training.code),
        "module_name": "train",
        "network_interface_name": "eth0",
        "num_cpus": cpus,
        "num_gpus": 0,
        "output_data_dir": str(training.at("/opt/ml/output/data")),
        "output_dir": str(training.at("/opt/ml/output")),
        "output_intermediate_dir": str(training.at("/opt/ml/output/intermediate")),
        "resource_config": {"current_host": "algo-1", "hosts": ["algo-1"]},
        "user_entry_point": "train.py",
    }


def test_the_code_channel_is_hidden(container):
    """No variable that names or describes channels contains `ssm_source`."""
    container.channel("data")
    environment = dump(container, *WAYS["python"])["environment"]

    assert [name for name, value in environment.items() if "ssm_source" in f"{name}{value}".lower()] == []


def test_instance_type_and_group_if_sagemaker_reports_them(training):
    """Instance type, instance groups and network interface have their `SM_` variables, if SageMaker reports them."""
    group = {"instance_group_name": "workers", "instance_type": "ml.m5.large", "hosts": ["algo-1", "algo-2"]}
    training.config(
        "resourceconfig.json",
        {
            "current_host": "algo-1",
            "hosts": ["algo-1", "algo-2"],
            "current_instance_type": "ml.m5.large",
            "current_group_name": "workers",
            "instance_groups": [group],
            "network_interface_name": "ens5",
        },
    )
    environment = dump(training, *WAYS["python"])["environment"]

    assert environment["SM_CURRENT_INSTANCE_TYPE"] == "ml.m5.large"
    assert environment["SM_CURRENT_INSTANCE_GROUP"] == "workers"
    assert environment["SM_CURRENT_INSTANCE_GROUP_HOSTS"] == '["algo-1","algo-2"]'
    assert environment["SM_INSTANCE_GROUPS"] == '["workers"]'
    assert json.loads(environment["SM_INSTANCE_GROUPS_DICT"]) == {"workers": group}
    assert environment["SM_NETWORK_INTERFACE_NAME"] == "ens5"


def test_parameters_of_sagemakers_own_toolkit_are_kept_apart(training):
    """`sagemaker_*` are framework parameters, and the tuner's marker is dropped. Neither is passed to the script."""
    training.hyperparameters(
        {"lr": "0.1", "sagemaker_region": '"eu-west-1"', "_tuning_objective_metric": "auc", "sagemaker_port": "7"}
    )
    found = dump(training, *WAYS["python"])

    assert found["environment"]["SM_HPS"] == '{"lr":0.1}'
    assert found["environment"]["SM_FRAMEWORK_PARAMS"] == '{"sagemaker_port":7,"sagemaker_region":"eu-west-1"}'
    assert found["argv"] == ["--lr", "0.1"]


def test_the_jobs_own_state_directory_and_log_level(training):
    """`SSM_STATE` and `SM_LOG_LEVEL` of the job override the default checkpoint directory and log level."""
    found = dump(training, *WAYS["python"], SSM_STATE="/opt/ml/checkpoints", SM_LOG_LEVEL="10")

    assert found["config"]["state"] == str(training.at("/opt/ml/checkpoints"))
    assert found["environment"]["SM_LOG_LEVEL"] == "10"


def test_gpus_are_those_of_nvidia_smi(training, tmp_path):
    """`SM_NUM_GPUS` is the number of GPUs that `nvidia-smi -L` lists, without their MIG slices."""
    tools = tmp_path / "tools"
    tools.mkdir()
    program = tools / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'GPU 0: A100 (UUID: a)'; echo '  MIG 1g.5gb: 0'; echo 'GPU 1: A100 (UUID: b)'\n"
    )
    program.chmod(0o755)
    found = dump(training, *WAYS["python"], PATH=f"{tools}:{training.environment['PATH']}")

    assert found["config"]["num_gpus"] == 2


def test_a_processing_job_finds_its_earlier_state(processing):
    """The restored state of a processing job is copied into its state directory, and is not a channel."""
    processing.processing_input("ssm_state", "/opt/ml/processing/state_prev")
    processing.fill("/opt/ml/processing/state_prev", {"epoch": b"7", "algo-1/weights": b"w"})
    found = dump(processing, *WAYS["python"])
    state = processing.at("/opt/ml/processing/state")

    assert (state / "epoch").read_bytes() == b"7"
    assert (state / "algo-1" / "weights").read_bytes() == b"w"
    assert found["config"]["channels"] == []


def test_inputs_of_a_processing_job_elsewhere_are_no_channels(processing):
    """Only inputs below /opt/ml/processing/input/data are channels."""
    processing.processing_input("raw", "/opt/ml/processing/elsewhere")
    processing.channel("data")

    assert dump(processing, *WAYS["python"])["config"]["channels"] == ["data"]


def test_an_image_with_a_file_where_the_state_belongs(training):
    """If the state directory cannot be made, the log says so, and the job runs: it may not need the state."""
    training.root.mkdir(exist_ok=True)
    training.at("/state").write_text("in the way")
    ended = training.run_script("print('trained')")

    assert ended.returncode == 0
    assert "there is no state directory" in ended.stdout


def test_the_users_own_toolkit_wins(training):
    """A `worker_toolkit` in the user's source is not overwritten."""
    training.source(
        {"fit.py": "import worker_toolkit; print(worker_toolkit.MINE)", "worker_toolkit/__init__.py": "MINE=42"}
    )

    assert training.run("--entry-point", "fit.py").stdout.endswith("42\n")
    assert sorted(path.name for path in (training.code / "worker_toolkit").glob("*.py")) == ["__init__.py"]


def test_only_the_host_is_logged(container):
    """The bootstrap logs one line, without values of variables, hyperparameters, arguments or commands."""
    if container.kind == "training":
        container.hyperparameters({"password": "s3cret-1"})
    ended = container.run("--command", ": s3cret-2", "--", "s3cret-3", TOKEN="s3cret-4")

    assert ended.stdout == "ssm: running the shell command on algo-1 of 2\n"


def test_without_sagemakers_files_it_is_no_job(training):
    """Without SageMaker's files the bootstrap fails and says that this is not a job."""
    shutil.rmtree(training.at("/opt/ml/input/config"))
    ended = training.run("--command", "true")

    assert ended.returncode == 1
    assert "This is not a SageMaker job" in ended.stdout


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("hyperparameters.json", "{broken", "is not valid JSON"),
        ("resourceconfig.json", '{"current_host": "algo-7", "hosts": ["algo-1"]}', "does not name this host"),
    ],
)
def test_unsound_files_of_sagemaker_are_named(training, name, content, said):
    """The error for an invalid file of SageMaker names the file and the problem."""
    path = training.at("/opt/ml/input/config") / name
    path.write_text(content)
    ended = training.run("--command", "true")

    assert ended.returncode == 1
    assert said in training.reason.read_text()
    assert str(path) in ended.stdout


def test_a_log_level_that_is_no_number_is_refused(training):
    """An invalid `SM_LOG_LEVEL` is an error of the job, so scripts need not check it."""
    assert "give a number" in training.run("--command", "true", SM_LOG_LEVEL="loud").stdout
