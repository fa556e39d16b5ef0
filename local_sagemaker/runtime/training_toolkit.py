"""A check for AWS's training toolkit: the command `train` of the package `sagemaker-training`.

AWS's framework images run scripts with it. The request then has no entry point, and the hyperparameters name the script
(`sagemaker_program`) and its archive (`sagemaker_submit_directory`).
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from local_sagemaker.kinds.training import TRAIN
from local_sagemaker.runtime.runtime_spec import JobFailure

if TYPE_CHECKING:
    from collections.abc import Sequence


def check(command: Sequence[str]) -> None:
    """Check that the toolkit is installed if the job's command needs it.

    Raises:
        JobFailure: the Python that stands in for the image lacks the toolkit; the message says how to install it.
    """
    program = Path(sys.executable).with_name(TRAIN)
    if command[0] == TRAIN and not (program.exists() and b"sagemaker_training" in program.read_bytes()):
        raise JobFailure(
            "ClientError: a job without ContainerEntrypoint whose hyperparameters name a sagemaker_program is run by"
            f" AWS's training toolkit, which {sys.executable} does not have. Install it:"
            f" {shlex.quote(sys.executable)} -m pip install 'prefect-sagemaker[training-toolkit]'"
        )
