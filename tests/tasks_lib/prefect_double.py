"""A double of Prefect's API for one flow run, in this process: the engine is real, but no server is started.

It replaces HTTP: an `httpx.MockTransport` under Prefect's own client. A real server takes some ten seconds to start.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import prefect.settings as prefect_settings
import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import SyncClientContext
from prefect.settings import temporary_settings

_SETTINGS = {
    prefect_settings.PREFECT_API_URL: "http://127.0.0.1:9/api",  # no server listens there
    prefect_settings.PREFECT_API_KEY: None,
    prefect_settings.PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False,
    prefect_settings.PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
    prefect_settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,  # Prefect joins its thread at the end of a flow run
    prefect_settings.PREFECT_LOGGING_TO_API_ENABLED: False,
}


class PrefectDouble:
    """Answers the requests of one flow run.

    Attributes:
        written: Name of each state that was written, and whether it was forced.
    """

    def __init__(self) -> None:
        self.written: list[tuple[str, bool]] = []
        self._run = FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="played")
        self._blocks: dict[str, dict[str, Any]] = {}

    def save_block(self, name: str, data: dict[str, Any]) -> None:
        """Add a block document of this name, of an arbitrary type."""
        block_type = {"id": str(uuid.uuid4()), "name": "Played", "slug": "played"}
        schema = {"id": str(uuid.uuid4()), "checksum": "sha256:0", "block_type_id": block_type["id"], "fields": {}}
        of_type = {"block_type_id": block_type["id"], "block_type": block_type}
        of_schema = {"block_schema_id": schema["id"], "block_schema": schema}
        self._blocks[name] = {"id": str(uuid.uuid4()), "name": name, "data": data, **of_type, **of_schema}

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Return the response that Prefect's server would give."""
        body: dict[str, Any] = json.loads(request.content) if request.content else {}
        path = request.url.path.removeprefix("/api")
        if path == "/flows/":
            return httpx.Response(201, json={"id": str(self._run.flow_id), "name": body["name"]})
        if path.endswith("/set_state"):
            return self._set_state(body)
        if re.fullmatch(r"/flow_runs/[0-9a-f-]*", path):
            return httpx.Response(200, json=self._run.model_dump(mode="json"))
        if (block := path.rpartition("/block_documents/name/")[2]) in self._blocks:
            return httpx.Response(200, json=self._blocks[block])
        return httpx.Response(404, json={"detail": f"{request.method} {path} is not played"})

    def _set_state(self, body: dict[str, Any]) -> httpx.Response:
        state: State[Any] = State.model_validate({**body["state"], "id": str(uuid.uuid4())})
        self._run.state = state
        self.written.append((str(state.name), body["force"]))
        accepted = {"status": "ACCEPT", "details": {"type": "accept_details"}}
        return httpx.Response(201, json={**accepted, "state": state.model_dump(mode="json")})


@contextmanager
def played_prefect() -> Iterator[PrefectDouble]:
    """Answer the API calls of the flows that run inside; events, which use their own connection, are disabled."""
    played = PrefectDouble()
    with pytest.MonkeyPatch.context() as patch, temporary_settings(_SETTINGS):
        patch.setattr("prefect.events.utilities.should_emit_events", lambda: False)
        clients = SyncClientContext(httpx_settings={"transport": httpx.MockTransport(played.answer)})
        clients._httpx_settings = None  # makes `get_client` return this client to callers without settings
        with clients:
            yield played
