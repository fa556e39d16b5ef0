"""The environment variables of a job: `SM_*` of SageMaker's training toolkit, `SSM_*` of simple-sagemaker.

All functions are pure. Names and forms follow AWS's list (ENVIRONMENT_VARIABLES.md of its training toolkit). They are
the same in training and in processing, where AWS sets none, so that one script works in both.
"""

from __future__ import annotations

import json
import os
from typing import Any, Mapping, NamedTuple, Sequence

from .job import Job

LONGEST = 131072
"""Most bytes of `NAME=value` or an argument, with its final NUL; with more, Linux starts no process (`MAX_ARG_STRLEN`,
execve(2))."""

_WITHOUT_VARIABLE = ("channel_input_dirs", "is_master", "job_name", "master_hostname")
_OTHER_NAME = {"hyperparameters": "SM_HPS", "additional_framework_parameters": "SM_FRAMEWORK_PARAMS"}


class Program(NamedTuple):
    """The user's program, as far as the variables describe it.

    Args:
        entry_point: File relative to the code; empty for a shell command.
        arguments: Its command line arguments, hyperparameters included.
    """

    entry_point: str
    arguments: Sequence[str]


class Machine(NamedTuple):
    """The processors and GPUs of this host."""

    cpus: int
    gpus: int


def variables(job: Job, program: Program, machine: Machine) -> dict[str, str]:
    """Return the variables for the user's program.

    A variable that no process can receive, such as 200 kB of hyperparameters, is left out. `WorkerConfig` reads it from
    SageMaker's own files.
    """
    return {name: text for name, text in described(job, program, machine).items() if can_be_set(name, text)}


def described(job: Job, program: Program, machine: Machine) -> dict[str, str]:
    """Return all variables of a job, also those that no process can receive."""
    facts = _training_env(job, program, machine)
    values = {
        **{
            _OTHER_NAME.get(key, f"SM_{key.upper()}"): value
            for key, value in facts.items()
            if key not in _WITHOUT_VARIABLE
        },
        "SM_CHANNELS": sorted(job.channels),
        "SM_USER_ARGS": list(program.arguments),
        "SM_TRAINING_ENV": facts,
        **{f"SM_CHANNEL_{name.upper()}": path for name, path in job.channels.items()},
        **{f"SM_HP_{name.upper()}": value for name, value in job.hyperparameters.items()},
        **_instance_groups(job.resource_config),
        **task_variables(job),
    }
    return {name: _text(value) for name, value in values.items()}


def task_variables(job: Job) -> dict[str, str]:
    """Return the variables that SageMaker's toolkits do not set."""
    return {
        "SAGEMAKER_JOB_NAME": job.name,
        "SSM_STATE": job.state,
        "SSM_INSTANCE_STATE": job.instance_state,
        "SSM_OUTPUT": job.layout.output_data,
        "SSM_TENSORBOARD_DIR": job.layout.tensorboard,
        "SSM_NUM_NODES": str(len(job.hosts)),
        "SSM_HOST_RANK": str(job.rank),
    }


def can_be_set(name: str, text: str) -> bool:
    """Return whether a process can receive a variable: SageMaker allows names and values that execve(2) does not."""
    return "=" not in name and can_be_argument(f"{name}={text}")


def can_be_argument(text: str) -> bool:
    """Return whether a process can receive a text as an argument."""
    try:
        return "\0" not in text and len(os.fsencode(text)) < LONGEST
    except UnicodeEncodeError:
        return False


def _training_env(job: Job, program: Program, machine: Machine) -> dict[str, Any]:
    """Return the members of `SM_TRAINING_ENV`."""
    layout = job.layout
    return {
        "additional_framework_parameters": job.framework_parameters,
        "channel_input_dirs": job.channels,
        "current_host": job.current_host,
        "framework_module": None,
        "hosts": job.hosts,
        "hyperparameters": job.hyperparameters,
        "input_config_dir": layout.config,
        "input_data_config": job.input_data_config,
        "input_dir": layout.input,
        "is_master": job.rank == 0,
        "job_name": job.name,
        "log_level": job.log_level,
        "master_hostname": job.hosts[0],
        "model_dir": layout.model,
        "module_dir": layout.code,
        "module_name": os.path.splitext(program.entry_point)[0],  # noqa: PTH122  `Path("")` would become "."
        "network_interface_name": job.resource_config.get("network_interface_name") or "eth0",
        "num_cpus": machine.cpus,
        "num_gpus": machine.gpus,
        "output_data_dir": layout.output_data,
        "output_dir": layout.output,
        "output_intermediate_dir": layout.intermediate,
        "resource_config": job.resource_config,
        "user_entry_point": program.entry_point,
    }


def _instance_groups(resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of instance types and groups, which SageMaker describes only to training jobs since 2022."""
    groups = {group["instance_group_name"]: group for group in resources.get("instance_groups") or ()}
    current = resources.get("current_group_name")
    known = {
        "SM_CURRENT_INSTANCE_TYPE": resources.get("current_instance_type"),
        "SM_CURRENT_INSTANCE_GROUP": current,
        "SM_CURRENT_INSTANCE_GROUP_HOSTS": groups[current]["hosts"] if current in groups else None,
        "SM_INSTANCE_GROUPS": sorted(groups) or None,
        "SM_INSTANCE_GROUPS_DICT": groups or None,
    }
    return {name: value for name, value in known.items() if value is not None}


def _text(value: Any) -> str:
    """Return a value as SageMaker's toolkit writes it: text as it is, None as empty, the rest as compact JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
