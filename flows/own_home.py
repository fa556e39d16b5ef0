"""A Prefect home and a local SageMaker home of the checkout's own, under its ignored `.local/`.

What is tried out here must never end up in somebody's Prefect Cloud, so the user's profile and variables are left
behind before Prefect is imported.
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
    """Return the directory for all that these commands make: `QUICKSTART_HOME`, else the checkout's `.local/`."""
    return Path(os.environ.get("QUICKSTART_HOME") or CHECKOUT / ".local").absolute()


def use_own_home() -> Path:
    """Point Prefect and the local SageMaker of this process at the own directory; return it.

    Call it before Prefect is imported: Prefect reads its settings once. A local SageMaker that the caller chose by
    `LOCAL_SAGEMAKER_HOME` is kept.
    """
    directory = own_directory()
    prefect_home = directory / "prefect"
    # Prefect's database holds encrypted blocks, and the key beside them.
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
    """Point Prefect to the server of a running `flows.ui`, else start one; return that.

    An address in the environment also keeps Prefect from looking for one in a `.env` or `prefect.toml` of the working
    directory.
    """
    served = served_api(directory)
    server = None if served else start_server(directory)
    os.environ["PREFECT_API_URL"] = server.api if server else str(served)
    return server


def start_server(directory: Path, *, port: int | None = None, ui: bool = False) -> PrefectServer:
    """Start a Prefect server on the own directory; say on standard error if it will fire no schedule.

    Args:
        directory: The own directory.
        port: Where it listens; by default any free one.
        ui: Whether it serves Prefect's UI.
    """
    if warning := sqlalchemy_warning():
        print(warning, file=sys.stderr)
    return PrefectServer(directory / "prefect", port=port, ui=ui)


def _reach_loopback_directly() -> None:
    """Keep what is meant for this machine from a proxy of the user's."""
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, (direct, "127.0.0.1,localhost")))


def served_file(directory: Path) -> Path:
    """Return the file in which `flows.ui` says where it serves."""
    return directory / "prefect" / "served.json"


def served_api(directory: Path) -> str | None:
    """Return the API of a running `flows.ui`, so that two servers never share one database."""
    try:
        api = str(json.loads(served_file(directory).read_text())["api"])
    except (OSError, ValueError, KeyError):
        return None
    return api if answers(api) else None
