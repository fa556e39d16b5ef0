"""The error that handlers of JSON services raise on purpose; any other exception is a bug and becomes a 500.

There is one class for all error codes, because no code catches them by type. `JsonService` turns it into a response.
"""

from __future__ import annotations


class ApiError(Exception):
    """An error of the API.

    Args:
        code: the code as clients see it in `Error.Code`, such as `ValidationException`.
        message: AWS's message; for errors that AWS does not have, what happened and what to do.
        status: the HTTP status; default 400, as JSON 1.1 services return it for errors that the client can fix.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
