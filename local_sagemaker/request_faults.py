"""The fault rules for requests, without loading the package `faults` while there are no rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_sagemaker.job_faults import has_rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Scope

    from local_sagemaker.asgi_request import Request
    from local_sagemaker.database import Database
    from local_sagemaker.faults.middleware import FaultMiddleware

FAULTS_PATH = "/_local/faults"
"""Path of the control endpoint (`faults.control`)."""


class RequestFaults:
    """The fault rules for the requests of one server, and the endpoint that turns rules on and off.

    Args:
        database: the home's database.
        close_connection: closes the connection of a request without a response, for the faults `lose` and `drop`.
    """

    def __init__(self, database: Database, close_connection: Callable[[Scope], None]) -> None:
        self._database, self._close_connection = database, close_connection
        self._loaded: FaultMiddleware | None = None
        if has_rules(database):
            self._middleware()

    @property
    def active(self) -> bool:
        """Whether there are rules for requests."""
        return self._loaded is not None and bool(self._loaded.rules)

    async def serve(self, request: Request) -> None:
        """Serve one request, or apply the first rule that fires for it."""
        await self._middleware().serve(request)

    def control(self) -> ASGIApp:
        """Return the control endpoint."""
        from local_sagemaker.faults.control import FaultControl  # noqa: PLC0415 - see above

        return FaultControl(self._middleware())

    def _middleware(self) -> FaultMiddleware:
        if self._loaded is None:
            from local_sagemaker.faults.middleware import FaultMiddleware  # noqa: PLC0415 - see above
            from local_sagemaker.faults.table import FaultTable  # noqa: PLC0415 - see above

            self._loaded = FaultMiddleware(FaultTable(self._database), self._close_connection)
        return self._loaded
