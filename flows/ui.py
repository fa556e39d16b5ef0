"""`make ui`: serves the Prefect UI on the runs of this checkout, on loopback, and prints where to look.

The same database as `flows.quickstart` writes; a quickstart that is started meanwhile uses this server.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from flows.own_home import served_api, served_file, use_own_home

_START_SECONDS = 60


def main() -> int:
    """Serve until interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else `kill` would leave the server running
    home = use_own_home()
    running = served_api(home)
    if running:
        print(f"The UI is already served.\n{_pages(running)}")
        return 0
    port = _port()
    server = _start(port)
    api = f"http://127.0.0.1:{port}/api"
    try:
        _wait(server, api)
        served_file(home).write_text(json.dumps({"api": api, "pid": server.pid}))
        print(_pages(api), flush=True)
        print("Stop it with Ctrl-C.", flush=True)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        served_file(home).unlink(missing_ok=True)
        _stop(server)


def _port() -> int:
    """Return Prefect's usual port if it is free, else any."""
    for wanted in (4200, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


def _start(port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    log = Path(os.environ["PREFECT_HOME"]) / "server.log"
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def _wait(server: subprocess.Popen[bytes], api: str) -> None:
    """Wait until the server answers."""
    until = time.monotonic() + _START_SECONDS
    while not _answers(api):
        if server.poll() is not None or time.monotonic() > until:
            log = Path(os.environ["PREFECT_HOME"]) / "server.log"
            raise SystemExit(f"The Prefect server did not start; its log is {log}:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


def _answers(api: str) -> bool:
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=1):  # noqa: S310 - loopback
            return True
    except OSError:
        return False


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


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(timeout=20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    raise SystemExit(main())
