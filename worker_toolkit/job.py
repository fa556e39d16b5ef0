"""The job of this container, read from SageMaker's files.

SageMaker describes training and processing jobs in different ways, and `Job` has the same form for both. `environment`
turns it into variables; `bootstrap` and `worker_lib` start from it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple

from .contract import SOURCE_CHANNEL
from .errors import BootstrapError
from .paths import PROCESSING, TRAINING, Layout, find_layout

LOG_LEVEL = 20
"""`logging.INFO`, the default of SageMaker's toolkits."""

_FRAMEWORK_PREFIX = "sagemaker_"
_TUNING_METRIC = "_tuning_objective_metric"


class Job(NamedTuple):
    """One host's view of a job.

    Args:
        layout: The paths of the job.
        name: The job's name.
        arn: The job's ARN; empty if the container does not have it.
        current_host: This host's name, such as `algo-1`.
        hosts: All hosts' names, in SageMaker's order.
        hyperparameters: The user's hyperparameters, typed.
        framework_parameters: Hyperparameters that start with `sagemaker_`: they are meant for SageMaker's toolkits.
        channels: Directory of each of the user's channels.
        input_data_config: SageMaker's description of each of the user's channels.
        resource_config: SageMaker's description of the hosts.
        state: The task's state directory.
        log_level: Level of the root logger, as a number of `logging`.
    """

    layout: Layout
    name: str
    arn: str
    current_host: str
    hosts: list[str]
    hyperparameters: dict[str, Any]
    framework_parameters: dict[str, Any]
    channels: dict[str, str]
    input_data_config: dict[str, Any]
    resource_config: dict[str, Any]
    state: str
    log_level: int

    @property
    def rank(self) -> int:
        """This host's index among the hosts, from 0."""
        return self.hosts.index(self.current_host)

    @property
    def instance_state(self) -> str:
        """This host's own part of the state directory."""
        return f"{self.state}/{self.current_host}"


def read_job(environ: Mapping[str, str]) -> Job:
    """Return the job that this container runs.

    Args:
        environ: The container's environment variables. A training job's name is only there.

    Raises:
        BootstrapError: SageMaker's files are missing or invalid.
    """
    layout = find_layout(environ)
    if layout is None:
        raise BootstrapError(
            "This is not a SageMaker job: neither /opt/ml/input/config/resourceconfig.json nor "
            "/opt/ml/config/processingjobconfig.json exists. Start it through SageMaker, or set LOCAL_SAGEMAKER_ROOT."
        )
    resources = _read(layout, "resourceconfig.json")
    if resources.get("current_host") not in resources.get("hosts", ()):
        raise BootstrapError(
            f"{layout.config}/resourceconfig.json does not name this host among the hosts: {resources}"
        )
    return _READERS[layout.kind](layout, resources, environ)


def decode_hyperparameters(values: Mapping[str, str]) -> dict[str, Any]:
    """Return typed hyperparameters: valid JSON is decoded, everything else is text."""
    return {name: _decode(text) for name, text in values.items()}


def training_channels(layout: Layout, config: Mapping[str, Any]) -> dict[str, str]:
    """Return the directory of each of the user's channels of a training job."""
    return {name: f"{layout.channels}/{name}" for name in config if name != SOURCE_CHANNEL}


def processing_channels(layout: Layout, config: Mapping[str, Any]) -> dict[str, str]:
    """Return the directory of each input of a processing job that is in the directory of channels."""
    places = {each["InputName"]: layout.at(_s3_input(each).get("LocalPath") or "") for each in _inputs(config)}
    return {name: path for name, path in places.items() if path.startswith(f"{layout.channels}/")}


def _training(layout: Layout, resources: dict[str, Any], environ: Mapping[str, str]) -> Job:
    values = decode_hyperparameters(_read(layout, "hyperparameters.json"))
    values.pop(_TUNING_METRIC, None)
    inputs = _read(layout, "inputdataconfig.json")
    return Job(
        layout=layout,
        name=environ.get("TRAINING_JOB_NAME", ""),
        arn=environ.get("TRAINING_JOB_ARN", ""),
        current_host=resources["current_host"],
        hosts=resources["hosts"],
        hyperparameters={name: value for name, value in values.items() if not name.startswith(_FRAMEWORK_PREFIX)},
        framework_parameters={name: value for name, value in values.items() if name.startswith(_FRAMEWORK_PREFIX)},
        channels=training_channels(layout, inputs),
        input_data_config={name: how for name, how in inputs.items() if name != SOURCE_CHANNEL},
        resource_config=resources,
        state=_state(layout, environ),
        log_level=_log_level(environ),
    )


def _processing(layout: Layout, resources: dict[str, Any], environ: Mapping[str, str]) -> Job:
    config = _read(layout, "processingjobconfig.json")
    channels = processing_channels(layout, config)
    return Job(
        layout=layout,
        name=config.get("ProcessingJobName", ""),
        arn=config.get("ProcessingJobArn", ""),
        current_host=resources["current_host"],
        hosts=resources["hosts"],
        hyperparameters={},
        framework_parameters={},
        channels=channels,
        input_data_config={
            each["InputName"]: _like_training(each) for each in _inputs(config) if each["InputName"] in channels
        },
        resource_config=resources,
        state=_state(layout, environ),
        log_level=_log_level(environ),
    )


def _read(layout: Layout, name: str) -> dict[str, Any]:
    """Return the content of one of SageMaker's files; empty if it is missing, as for a job without channels."""
    path = Path(layout.config, name)
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BootstrapError(
            f"{path} is not valid JSON ({error}); SageMaker writes this file, so start the job again."
        ) from error
    return content or {}


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _inputs(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    return config.get("ProcessingInputs") or []


def _s3_input(each: Mapping[str, Any]) -> dict[str, Any]:
    return each.get("S3Input") or {}


def _like_training(each: Mapping[str, Any]) -> dict[str, Any]:
    """Return SageMaker's description of such an input of a training job."""
    source = _s3_input(each)
    return {
        "TrainingInputMode": source.get("S3InputMode") or "File",
        "S3DistributionType": source.get("S3DataDistributionType") or "FullyReplicated",
        "RecordWrapperType": "None",
    }


def _state(layout: Layout, environ: Mapping[str, str]) -> str:
    """Return the state directory; if the job's checkpoints have another `LocalPath`, its `SSM_STATE` names it."""
    return layout.at(environ.get("SSM_STATE") or layout.state)


def _log_level(environ: Mapping[str, str]) -> int:
    text = environ.get("SM_LOG_LEVEL") or str(LOG_LEVEL)
    if not text.isdigit():
        raise BootstrapError(f"SM_LOG_LEVEL is {text!r}; give a number as `logging` counts, such as 10 for debug.")
    return int(text)


_READERS: dict[str, Callable[[Layout, dict[str, Any], Mapping[str, str]], Job]] = {
    TRAINING.kind: _training,
    PROCESSING.kind: _processing,
}
