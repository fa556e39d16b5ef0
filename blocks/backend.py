"""The local SageMaker as seen from a block: started by subprocess, reached over loopback, walled off from AWS.

Not an import of `local_sagemaker`: it is a service with a life of its own, and a test that talks to it compares two
readings of AWS's documents instead of one with itself. May be imported by `blocks.project` only.
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
"""Longer than `up` itself waits: it then says why."""
_EXIT_NO_ANSWER = 4
"""Exit code of `up` for a server that lives but does not answer."""

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Backend:
    """A running local SageMaker.

    Args:
        endpoint: Where it answers.
        home: Where its data lies.
        access_key: Names the key with which its requests are signed.
        secret_key: Signs them; only who can read the home has it.
    """

    endpoint: str
    home: Path
    access_key: str
    secret_key: str = field(repr=False)

    def answers(self) -> bool:
        """Whether somebody takes connections there."""
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
        cwd=sys.prefix,  # `-m` looks in the working directory first, where a user's `queue.py` may lie
        timeout=_UP_SECONDS,
        check=False,
    )


def ensure_backend(home: Path, region: str = REGION, run: Run = run_command) -> Backend:
    """Start the local SageMaker whose data lies in `home`, or find it running.

    Args:
        home: The data directory; made where it is missing.
        region: Of all that is in it.
        run: How a command is run; a test gives its own.

    Raises:
        BackendNotRunning: It does not answer; or it did not come up, or is in another region, and the message has the
            last lines of its log.
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
        found = Backend(told["endpoint"], home, told["access_key"], told["secret_key"])
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


def isolated_session(region: str, access_key: str = "none", secret_key: str = "none") -> boto3.Session:  # noqa: S107
    """Return a session that reads nothing of the user's AWS configuration.

    Args:
        region: Of its clients.
        access_key: With which they sign; the local SageMaker answers only to that of its home.
        secret_key: The same.

    An `AWS_PROFILE` that names an SSO profile, or none that exists, must neither break a local run nor lend it
    credentials (botocore reads the profile even when keys are given). Nor is a proxy asked (`HTTP_PROXY`): it would
    carry what is meant for loopback off this machine.
    """
    nothing = os.devnull
    core = botocore.session.Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": (None, None, nothing, None),
            "credentials_file": (None, None, nothing, None),
        }
    )
    core.set_default_client_config(Config(proxies={}))
    return boto3.Session(
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=region,
        botocore_session=core,
    )


def wall_off(client: Any) -> None:
    """Make a client refuse every request that would leave this machine."""
    client.meta.events.register_first("before-send", _refuse_foreign_host)


def _refuse_foreign_host(request: Any, **_: Any) -> None:
    host = urlsplit(request.url).hostname or ""
    if not is_loopback(host):
        raise LoopbackOnly(
            f"A local project was about to send a request to {host!r}; local projects never leave this machine.",
            fix="name a project block for AWS if you meant AWS; else unset variables such as AWS_ENDPOINT_URL.",
        )


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's own loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
