"""The command `make ui`: serves the Prefect UI for the runs of this checkout on loopback, and prints its addresses.

It uses the same database as `flows.quickstart`. A quickstart that starts meanwhile uses this server.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import urllib.request
from pathlib import Path
from typing import Any

from flows.own_home import served_api, served_file, start_server, use_own_home
from flows.prefect_server import PrefectServer, free_port

_USUAL_PORT = 4200


def main() -> int:
    """Serve until interrupted; return the exit code."""
    argparse.ArgumentParser(
        prog="python -m flows.ui", description="Serves Prefect's UI on the runs of this checkout, until Ctrl-C."
    ).parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` has the same effect as Ctrl-C
    home = use_own_home()
    running = served_api(home)
    if running:
        print(f"The UI is already served.\n{_pages(running)}")
        return 0
    port = free_port(_USUAL_PORT)
    os.environ |= _ui_settings(port)
    server = start_server(home, port=port, ui=True)
    try:
        server.wait_until_up()
        _announce(server, served_file(home))
        print(_pages(server.api), flush=True)
        print("Stop it with Ctrl-C.", flush=True)
        server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        served_file(home).unlink(missing_ok=True)
        server.stop()
    return 1


def _announce(server: PrefectServer, place: Path) -> None:
    """Publish the address by rename, so that no reader sees a partial file and starts a second server."""
    part = place.with_suffix(".part")
    part.write_text(json.dumps({"api": server.api, "pid": server.pid}))
    part.replace(place)


def _ui_settings(port: int) -> dict[str, str]:
    """Return the settings of Prefect's UI.

    By default the UI does not call the server of its pages, but the usual port. If another server has that port, the UI
    would show the runs of that server (seen with 3.8.8 and 3.9.1).
    """
    return {
        "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }


def _pages(api: str) -> str:
    """Return the addresses of the dashboard and of the pages of the newest three runs."""
    ui = _ui(api)
    newest = _newest_runs(api)
    runs = [f"  {run['name']:<24} {ui}/runs/flow-run/{run['id']}   {run['state_name']}" for run in newest]
    none = ["  no run yet: `make quickstart` makes one"]
    return "\n".join(["Prefect UI:", f"  {'dashboard':<24} {ui}/dashboard", *(runs or none)])


def _ui(api: str) -> str:
    """Return the address of the UI that the server prefers.

    Prefect serves an old and a new UI. Without its prefix, the address of a run opens the old UI, but the dashboard
    opens the preferred one.
    """
    root = api.removesuffix("/api")
    settings = _ask(f"{root}/ui-settings")
    return root + str(settings[f"{settings['default_ui']}_base_url"]).rstrip("/")


def _newest_runs(api: str) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = _ask(f"{api}/flow_runs/filter", limit=3, sort="START_TIME_DESC")
    return runs


def _ask(url: str, **body: Any) -> Any:
    """Send a GET, or a POST if there is a body; return the JSON response."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback
        return json.load(answer)


if __name__ == "__main__":
    raise SystemExit(main())
