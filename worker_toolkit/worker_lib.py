"""The job's environment as Python values for the user's code: `WorkerConfig`, as in simple-sagemaker.

The values come from environment variables, so that it works in any process of the job. The command line belongs to the
user's script and is never parsed here. If the bootstrap has not set the variables, as in an image that runs as it is,
they are read from SageMaker's files.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Mapping

from . import environment
from .hardware import count_cpus, count_gpus
from .job import LOG_LEVEL, read_job
from .paths import TRAINING, find_layout

logger = logging.getLogger(__name__)

_TEXTS = {
    "job_name": "SAGEMAKER_JOB_NAME",
    "channel_data": "SM_CHANNEL_DATA",
    "channel_model": "SM_CHANNEL_MODEL",
    "input_dir": "SM_INPUT_DIR",
    "input_config_dir": "SM_INPUT_CONFIG_DIR",
    "input_data_config": "SM_INPUT_DATA_CONFIG",
    "model_dir": "SM_MODEL_DIR",
    "output_dir": "SM_OUTPUT_DIR",
    "output_data_dir": "SM_OUTPUT_DATA_DIR",
    "current_host": "SM_CURRENT_HOST",
    "network_interface_name": "SM_NETWORK_INTERFACE_NAME",
    "resource_config": "SM_RESOURCE_CONFIG",
}
_NUMBERS = {
    "num_gpus": "SM_NUM_GPUS",
    "num_nodes": "SSM_NUM_NODES",
    "host_rank": "SSM_HOST_RANK",
}
_UNKNOWN = -1


class WorkerConfig:
    """The job of this process, as Python values.

    Each input channel `<name>` has its directory in `channel_<name>`, in the channel's spelling. Outside a job, texts
    and lists are empty and counts are -1; only `state`, `instance_state`, `tensorboard_dir` and `num_cpus` have values.

    Args:
        per_instance_state: Whether to call `initMultiWorkersState`; default True.
        set_debug_level: Whether to set the root logger to `SM_LOG_LEVEL`; default True.
        update_argv: Whether to restore the job's arguments in `sys.argv`, the hyperparameters and then the user's own,
            if a launcher of the job's entry point has lost them; default True.

    Attributes:
        job_name: Name of the job.
        channels: Names of the input channels.
        channel_data: Directory of channel `data`, or empty.
        channel_model: Directory of channel `model`, or empty.
        hps: Hyperparameters by name, typed.
        input_dir: Parent directory of all inputs.
        input_config_dir: Directory of SageMaker's description of the job.
        input_data_config: SageMaker's description of each channel, as JSON text.
        model_dir: Directory that becomes `model.tar.gz`, or a part of a processing job's output.
        output_dir: Parent directory of a training job's outputs.
        output_data_dir: Directory that becomes the output.
        tensorboard_dir: Directory of TensorBoard's logs, which is uploaded while a training job runs.
        state: The task's state directory, kept between its jobs.
        instance_state: This host's own part of it, once `initMultiWorkersState` has created it.
        current_host: This host's name.
        hosts: All hosts' names.
        host_rank: This host's index among them, from 0.
        num_nodes: Number of hosts.
        num_cpus: Number of processors that this process may use.
        num_gpus: Number of GPUs of this host.
        network_interface_name: Network interface between the hosts.
        resource_config: SageMaker's description of the hosts, as JSON text.
    """

    job_name: str
    channels: list[str]
    channel_data: str
    channel_model: str
    hps: dict[str, Any]
    input_dir: str
    input_config_dir: str
    input_data_config: str
    model_dir: str
    output_dir: str
    output_data_dir: str
    tensorboard_dir: str
    state: str
    instance_state: str
    current_host: str
    hosts: list[str]
    host_rank: int
    num_nodes: int
    num_cpus: int
    num_gpus: int
    network_interface_name: str
    resource_config: str

    def __init__(self, per_instance_state: bool = True, set_debug_level: bool = True, update_argv: bool = True) -> None:
        self.__dict__.update(_fields(_known()))
        if set_debug_level:
            logging.getLogger().setLevel(int(os.environ.get("SM_LOG_LEVEL") or LOG_LEVEL))
        if per_instance_state:
            self.initMultiWorkersState()
        if update_argv:
            _restore_argv()

    def __getattr__(self, name: str) -> Any:
        """Raise an error that explains what is missing, such as a channel that the job does not have."""
        if name == "instance_state":
            raise AttributeError("There is no instance_state before initMultiWorkersState().")
        if name.startswith("channel_"):
            raise AttributeError(f"The job has no channel {name[len('channel_') :]!r}; it has: {self.channels}")
        raise AttributeError(f"WorkerConfig has no field {name!r}; it has: {', '.join(sorted(self.__dict__))}")

    def __repr__(self) -> str:
        # Hyperparameters may be secret, and a log may show this text.
        return f"WorkerConfig(job_name={self.job_name!r}, host={self.current_host!r}, channels={self.channels})"

    def initMultiWorkersState(self) -> None:  # noqa: N802  simple-sagemaker's name
        """Create this host's own directory in the state, and delete the local copies of the other hosts' directories.

        SageMaker restores the state of all hosts to each host, and uploads what it finds on each. So an old copy of
        another host's part could overwrite the new one. It never deletes in S3, so nothing is lost there.
        """
        self.instance_state = str(Path(self.state, self.current_host))
        os.environ["SSM_INSTANCE_STATE"] = self.instance_state
        if not self.current_host:
            return  # outside a job there are no hosts, and `/state` must not be created
        for other in Path(self.state).glob("algo-*"):
            is_host = other.name[len("algo-") :].isdigit() and other.is_dir()
            if is_host and other.name != self.current_host:
                shutil.rmtree(other)
        Path(self.instance_state).mkdir(parents=True, exist_ok=True)
        logger.info("Instance specific state dir: %s", self.instance_state)

    def updateNamespace(self, namespace: Any, fields_mapping: Mapping[str, str]) -> None:  # noqa: N802  the same
        """Copy fields into another object, such as the result of `argparse`.

        Args:
            namespace: The object that receives the values.
            fields_mapping: Name of the object's attribute by field of this class, such as `{"num_cpus": "workers"}`.
        """
        for field, name in fields_mapping.items():
            setattr(namespace, name, getattr(self, field))


def _known() -> dict[str, str]:
    """Return the job's variables, even if the bootstrap set none or one was too large for this process to receive.

    In that case the task's variables are also set for the processes that this one starts.
    """
    if {"SSM_HOST_RANK", "SM_HPS"} <= os.environ.keys() or find_layout(os.environ) is None:
        return dict(os.environ)
    job = read_job(os.environ)
    for name, value in environment.task_variables(job).items():
        os.environ.setdefault(name, value)
    machine = environment.Machine(count_cpus(), count_gpus())
    return {**environment.described(job, environment.Program("", ()), machine), **os.environ}


def _fields(variables: Mapping[str, str]) -> dict[str, Any]:
    channels = json.loads(variables.get("SM_CHANNELS", "[]"))
    paths = {f"channel_{name}": variables.get(f"SM_CHANNEL_{name.upper()}", "") for name in channels}
    return {
        **{field: variables.get(name, "") for field, name in _TEXTS.items()},
        **{field: int(variables.get(name, _UNKNOWN)) for field, name in _NUMBERS.items()},
        "num_cpus": int(variables.get("SM_NUM_CPUS") or count_cpus()),
        "hps": json.loads(variables.get("SM_HPS", "{}")),
        "hosts": json.loads(variables.get("SM_HOSTS", "[]")),
        "channels": channels,
        **paths,
        "state": variables.get("SSM_STATE", TRAINING.state),
        "tensorboard_dir": variables.get("SSM_TENSORBOARD_DIR", TRAINING.tensorboard),
    }


def _restore_argv() -> None:
    entry_point = Path(os.environ.get("SM_MODULE_DIR", ""), os.environ.get("SM_USER_ENTRY_POINT", ""))
    if (
        "SM_USER_ARGS" in os.environ
        and len(sys.argv) == 1
        and entry_point.is_file()
        and Path(sys.argv[0]).resolve() == entry_point.resolve()
    ):
        sys.argv[1:] = json.loads(os.environ["SM_USER_ARGS"])
