"""All paths of the contract between SageMaker and a container, for both kinds of job.

The paths are those of AWS ("How Amazon SageMaker AI provides training information", "Build your own processing
container") and of simple-sagemaker's worker environment. `tasks_lib` uses them in the request. `LOCAL_SAGEMAKER_ROOT`
moves all of them below one directory if a machine cannot give a job its own `/opt/ml`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, NamedTuple

from .contract import SOURCE_CHANNEL

ROOT_VARIABLE = "LOCAL_SAGEMAKER_ROOT"

CODE = "/opt/ml/code"


class Layout(NamedTuple):
    """The paths of one kind of job.

    Args:
        kind: `training` or `processing`.
        root: Directory above all other paths; empty in a real container.
        config: Directory of SageMaker's description of the job.
        description: File in it that only this kind of job has.
        input: Parent directory of all inputs.
        channels: Parent directory of the user's channels.
        source: Directory of the channel with the code.
        code: Directory into which the code is unpacked, and in which it runs.
        model: Directory that becomes `model.tar.gz`. A processing job has no such archive. There it is part of the
            output, so that nothing that a script saves is lost.
        output: Directory of `SM_OUTPUT_DIR`: the parent of a training job's outputs, and of scratch and the reason.
        output_data: Directory that becomes `output.tar.gz`, or the processing job's output.
        intermediate: Scratch directory, as in AWS's training toolkit.
        tensorboard: Directory of TensorBoard's logs, which is uploaded while a training job runs.
        state: The task's state directory.
        previous_state: Directory of a processing job's earlier state, which is copied into `state`. It is empty for a
            training job, which has the earlier state in `state` already.
        reason: File that SageMaker reads for `FailureReason`, or for a processing job's `ExitMessage`.
        reason_end: Text that ends each host's reason. `ExitMessage` has the reasons of all hosts, one after the other.
    """

    kind: str
    root: str
    config: str
    description: str
    input: str
    channels: str
    source: str
    code: str
    model: str
    output: str
    output_data: str
    intermediate: str
    tensorboard: str
    state: str
    previous_state: str
    reason: str
    reason_end: str

    def moved(self, root: str) -> Layout:
        """Return the layout with every path below a directory."""
        paths = {name: below(root, path) for name, path in self._asdict().items() if path.startswith("/")}
        return self._replace(**paths, root=root)

    def at(self, path: str) -> str:
        """Return the location of a path of the contract, such as an input's `LocalPath`, on this machine."""
        return below(self.root, path)


TRAINING = Layout(
    kind="training",
    root="",
    config="/opt/ml/input/config",
    description="resourceconfig.json",
    input="/opt/ml/input",
    channels="/opt/ml/input/data",
    source=f"/opt/ml/input/data/{SOURCE_CHANNEL}",
    code=CODE,
    model="/opt/ml/model",
    output="/opt/ml/output",
    output_data="/opt/ml/output/data",
    intermediate="/opt/ml/output/intermediate",
    tensorboard="/opt/ml/output/tensorboard",
    state="/state",
    previous_state="",
    reason="/opt/ml/output/failure",
    reason_end="",
)

PROCESSING = TRAINING._replace(
    kind="processing",
    config="/opt/ml/config",
    description="processingjobconfig.json",
    input="/opt/ml/processing/input",
    channels="/opt/ml/processing/input/data",
    source=f"/opt/ml/processing/input/{SOURCE_CHANNEL}",
    model="/opt/ml/processing/output/model",
    output_data="/opt/ml/processing/output",
    state="/opt/ml/processing/state",
    previous_state="/opt/ml/processing/state_prev",
    reason="/opt/ml/output/message",
    reason_end="\n",
)


def below(root: str, path: str) -> str:
    """Return an absolute path below a root; a path that is already below it is not changed."""
    if not root or path == root or path.startswith(root + "/"):
        return path
    return root + path


def find_layout(environ: Mapping[str, str]) -> Layout | None:
    """Return the layout of the job that this container runs. Return None outside of a job."""
    root = environ.get(ROOT_VARIABLE, "").rstrip("/")
    for layout in (PROCESSING, TRAINING):
        here = layout.moved(root)
        if Path(here.config, here.description).is_file():
            return here
    return None


def relative_name(text: str) -> str:
    """Return a relative path in its normal form.

    Args:
        text: A POSIX path, such as `sub/dir` or `./fit.py`.

    Raises:
        ValueError: It is absolute, empty, or contains `..`.
    """
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if text.startswith("/") or ".." in parts or not parts:
        raise ValueError(text)
    return "/".join(parts)
