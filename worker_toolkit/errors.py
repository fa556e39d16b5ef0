"""The one error of the bootstrap: something is wrong with the job, and the person who sent it can mend it.

Anything else that is raised is a defect of ours, and is shown with its traceback.
"""

from __future__ import annotations


class BootstrapError(Exception):
    """The job cannot start; the message says why and what to do.

    Args:
        message: What happened, and the remedy.
        exit_code: Exit code of the container; 2 for wrong arguments, else 1.
        details: More lines for SageMaker, which the log has already.
    """

    def __init__(self, message: str, exit_code: int = 1, details: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.details = details
