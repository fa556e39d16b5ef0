"""The error of the bootstrap: something is wrong with the job, and its author can fix it.

Any other exception is a defect of the toolkit, and is shown with its traceback.
"""

from __future__ import annotations


class BootstrapError(Exception):
    """The job cannot start; the message says why and what to do.

    Args:
        message: What happened, and how to fix it.
        exit_code: Exit code of the container; default 1. It is 2 for wrong arguments, and pip's if pip failed.
        details: Further lines for SageMaker, which the log already has; default none.
    """

    def __init__(self, message: str, exit_code: int = 1, details: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.details = details
