"""A Prefect home and a local SageMaker home for this checkout, in its git-ignored `.local/`.

A trial run must never end up in the user's Prefect Cloud. So the user's Prefect profile and variables are removed
before Prefect is imported.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from flows.prefect_server import PrefectServer, answers
from tasks_lib.prefect_runtime.sqlalchemy_bound import sqlalchemy_warning

CHECKOUT = Path(__file__).resolve().parent.parent


def own_directory() -> Path:
    """Return the directory for all files of these commands: `QUICKSTART_HOME`, else the checkout's `.local/`."""
    return Path(os.environ.get("QUICKSTART_HOME") or CHECKOUT / ".local").absolute()


def use_own_home() -> Path:
    """Point Prefect and the local SageMaker of this process to the own directory; return the directory.

    Call it before Prefect is imported, because Prefect reads its settings once. A `LOCAL_SAGEMAKER_HOME` that the user
    has set is kept.
    """
    directory = own_directory()
    prefect_home = directory / "prefect"
    # Keep other users out: Prefect's database holds encrypted blocks, and their key is beside it.
    os.umask(0o077)
    prefect_home.mkdir(parents=True, exist_ok=True)
    if directory.stat().st_uid == os.getuid():
        directory.chmod(0o700)
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ |= {
        "PREFECT_HOME": str(prefect_home),
        "PREFECT_PROFILES_PATH": str(prefect_home / "profiles.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
        "DO_NOT_TRACK": "1",
    }
    os.environ.setdefault("LOCAL_SAGEMAKER_HOME", str(directory / "sagemaker"))
    _reach_loopback_directly()
    return directory


def use_own_server(directory: Path) -> PrefectServer | None:
    """Point Prefect to the server of a running `flows.ui`, or to a new server; return the new one, else None.

    Because the address is in the environment, Prefect does not look for one in a `.env` or `prefect.toml` of the
    working directory.
    """
    served = served_api(directory)
    server = None if served else start_server(directory)
    os.environ["PREFECT_API_URL"] = server.api if server else str(served)
    return server


def start_server(directory: Path, *, port: int | None = None, ui: bool = False) -> PrefectServer:
    """Start a Prefect server in the own directory; warn on standard error if it cannot run schedules.

    Args:
        directory: The own directory.
        port: The port of the server; by default any free one.
        ui: Whether the server serves Prefect's UI; by default it does not.
    """
    if warning := sqlalchemy_warning():
        print(warning, file=sys.stderr)
    return PrefectServer(directory / "prefect", port=port, ui=ui)


def _reach_loopback_directly() -> None:
    """Exclude loopback from the user's proxy."""
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, (direct, "127.0.0.1,localhost")))


def served_file(directory: Path) -> Path:
    """Return the file in which `flows.ui` publishes the address of its server."""
    return directory / "prefect" / "served.json"


def served_api(directory: Path) -> str | None:
    """Return the API address of a running `flows.ui`; None if it does not run.

    It is used so that two servers never share one database.
    """
    try:
        api = str(json.loads(served_file(directory).read_text())["api"])
    except (OSError, ValueError, KeyError):
        return None
    return api if answers(api) else None
