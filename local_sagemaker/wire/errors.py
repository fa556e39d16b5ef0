"""The errors that a service answers on purpose; everything else that is raised is a bug and becomes a 500.

One class and not one per error code: the codes are the service's words, and nobody catches them by type. Handlers in
`local_sagemaker` raise it, `JsonService` puts it on the wire.
"""

from __future__ import annotations


class ApiError(Exception):
    """An error of the API.

    Args:
        code: the code as clients see it in `Error.Code`, such as `ValidationException`.
        message: what AWS says, or where AWS has nothing to say, what happened and what to do.
        status: the HTTP status; JSON 1.1 services answer 400 for whatever the client can repair.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
