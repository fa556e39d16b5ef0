"""The local SageMaker as a block uses it: started as a subprocess, reached over loopback, isolated from AWS.

The module does not import `local_sagemaker`, which is a server that outlives this process. A test with that server so
compares two independent implementations of AWS's documents.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config

from blocks.errors import BackendNotRunning, LoopbackOnly

ACCOUNT = "123456789012"
REGION = "us-east-1"
BUCKET = "local-sagemaker"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/local-sagemaker"
IMAGE = "local/python"

_logger = logging.getLogger("prefect.sagemaker")

_UP_SECONDS = 600
"""Timeout of `up`: longer than `up` itself waits, so that its error message is seen."""
_EXIT_NO_ANSWER = 4
"""Exit code of `up` for a server that is running but does not answer."""

RunCommand = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class LocalServer:
    """A running local SageMaker.

    Args:
        endpoint: The URL of the server.
        home: Its data directory.
        access_key: The id of the access key for requests to it.
        secret_key: The secret of that key, which only users who can read the home have.
    """

    endpoint: str
    home: Path
    access_key: str
    secret_key: str = field(repr=False)

    def answers(self) -> bool:
        """Return whether a server accepts connections at the endpoint."""
        url = urlsplit(self.endpoint)
        try:
            with socket.create_connection((url.hostname or "", url.port or 0), timeout=1):
                return True
        except OSError:
            return False


def default_home() -> Path:
    """Return the data directory of the local SageMaker: `LOCAL_SAGEMAKER_HOME`, else one per user."""
    named = os.environ.get("LOCAL_SAGEMAKER_HOME")
    return Path(named) if named else Path.home() / ".local" / "share" / "local-sagemaker"


def run_command(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command with its output captured and no standard input."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=sys.prefix,  # `-m` puts the working directory first on sys.path, where a user may have a `queue.py`
        timeout=_UP_SECONDS,
        check=False,
    )


def ensure_server(home: Path, region: str = REGION, run: RunCommand = run_command) -> LocalServer:
    """Return the local SageMaker whose data directory is `home`; start it if it is not running.

    Args:
        home: The data directory; created if it does not exist.
        region: The region of everything in it.
        run: Runs a command; by default in a subprocess.

    Raises:
        BackendNotRunning: It does not answer. Or it did not start or has another region, and the message has the last
            lines of its log.
    """
    command = [sys.executable, "-m", "local_sagemaker", "up", "--json", "--home", str(home.absolute())]
    command += ["--region", region]
    try:
        done = run(command)
    except subprocess.TimeoutExpired as error:
        raise _no_answer(home, f"it was asked for {error.timeout:.0f} s") from error
    if done.returncode == _EXIT_NO_ANSWER:
        raise _no_answer(home, done.stderr.strip())
    if done.returncode != 0:
        raise _not_running(home, (done.stderr or done.stdout).strip())
    try:
        told = json.loads(done.stdout.strip().splitlines()[-1])
        found = LocalServer(told["endpoint"], home, told["access_key"], told["secret_key"])
    except (ValueError, LookupError, TypeError) as error:
        shown = "its answer cannot be read" if "secret_key" in done.stdout else f"it answered {done.stdout!r}"
        raise _not_running(home, shown) from error
    if told.get("started"):
        end = "python -m local_sagemaker down" + ("" if home == default_home() else f" --home {shlex.quote(str(home))}")
        _logger.info("Started the local SageMaker. It runs on when this program is over; `%s` ends it.", end)
    return found


def _not_running(home: Path, why: str) -> BackendNotRunning:
    return BackendNotRunning(
        f"The local SageMaker with its data in {home.absolute()} does not run: {why}",
        fix=f"`python -m local_sagemaker up --home {home}` starts it, or says why not; its log is {home}/server.log.",
    )


def _no_answer(home: Path, why: str) -> BackendNotRunning:
    return BackendNotRunning(
        f"The local SageMaker with its data in {home.absolute()} does not answer: {why}",
        fix="run again when this machine is less busy: jobs that run go on, and finished steps are skipped. "
        f"`python -m local_sagemaker status --home {home}` says whether it answers.",
    )


_WITHOUT_CONFIGURATION = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}
"""botocore's session variables without the user's profile and files."""


def isolated_session(region: str, access_key: str = "none", secret_key: str = "none") -> boto3.Session:  # noqa: S107
    """Return a boto3 session that ignores the user's AWS configuration.

    botocore reads the profile even if keys are given. An `AWS_PROFILE` that names an SSO profile or does not exist must
    neither break a local run nor provide its credentials. The session also ignores proxies (`HTTP_PROXY`), which would
    send requests for loopback to another machine.

    Args:
        region: The region of its clients.
        access_key: The access key id of its clients; the local SageMaker accepts only the keys of its home.
        secret_key: The secret of that key.
    """
    core = botocore.session.Session(session_vars=_WITHOUT_CONFIGURATION)
    core.set_default_client_config(Config(proxies={}))
    return boto3.Session(
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=region,
        botocore_session=core,
    )


def storage_options(found: LocalServer, region: str) -> dict[str, Any]:
    """Return the options with which s3fs, fsspec and pandas reach a local SageMaker, whatever the user's configuration.

    Args:
        found: The local SageMaker.
        region: The region of the project.
    """
    from aiobotocore.session import AioSession  # noqa: PLC0415 - s3fs brings it, and it takes long to import

    return {
        "endpoint_url": found.endpoint,
        "key": found.access_key,
        "secret": found.secret_key,
        "client_kwargs": {"region_name": region},
        "config_kwargs": {"proxies": {}},
        "session": AioSession(session_vars=_WITHOUT_CONFIGURATION),
    }


def refuse_foreign_hosts(client: Any) -> None:
    """Make a client refuse every request to a host other than this machine."""
    client.meta.events.register_first("before-send", _refuse_foreign_host)


def _refuse_foreign_host(request: Any, **_: Any) -> None:
    host = urlsplit(request.url).hostname or ""
    if not is_loopback(host):
        raise LoopbackOnly(
            f"A local project was about to send a request to {host!r}; local projects never leave this machine.",
            fix="name a project block for AWS if you meant AWS; else unset variables such as AWS_ENDPOINT_URL.",
        )


def is_loopback(host: str) -> bool:
    """Return whether a host name or an address is this machine's loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
