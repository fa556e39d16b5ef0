"""`make ui`: serves the Prefect UI on the runs of this checkout, on loopback, and prints where to look.

The same database as `flows.quickstart` writes; a quickstart that is started meanwhile uses this server.
"""

from __future__ import annotations

import json
import signal
import urllib.request
from typing import Any

from flows.own_home import served_api, served_file, use_own_home
from flows.prefect_server import PrefectServer, free_port

_USUAL_PORT = 4200


def main() -> int:
    """Serve until interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` asks for the same as Ctrl-C
    home = use_own_home()
    running = served_api(home)
    if running:
        print(f"The UI is already served.\n{_pages(running)}")
        return 0
    server = PrefectServer(home / "prefect", port=free_port(_USUAL_PORT, 0), ui=True)
    try:
        server.wait_until_up()
        served_file(home).write_text(json.dumps({"api": server.api, "pid": server.pid}))
        print(_pages(server.api), flush=True)
        print("Stop it with Ctrl-C.", flush=True)
        server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        served_file(home).unlink(missing_ok=True)
        server.stop()
    return 1


def _pages(api: str) -> str:
    """Return where to look: the newest run's own page, and the dashboard."""
    ui = api.removesuffix("/api")
    newest = _newest_runs(api)
    runs = [f"  {run['name']:<24} {ui}/runs/flow-run/{run['id']}   {run['state_name']}" for run in newest]
    none = ["  no run yet: `make quickstart` makes one"]
    return "\n".join(["Prefect UI:", f"  {'dashboard':<24} {ui}/dashboard", *(runs or none)])


def _newest_runs(api: str) -> list[dict[str, Any]]:
    body = json.dumps({"limit": 3, "sort": "START_TIME_DESC"}).encode()
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{api}/flow_runs/filter", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback
        runs: list[dict[str, Any]] = json.load(answer)
    return runs


if __name__ == "__main__":
    raise SystemExit(main())
