"""A local SageMaker whose faults a test sets, and boto3 clients for it that hide no fault."""

from __future__ import annotations

import os
from contextlib import contextmanager

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError


class FaultyServer:
    """A backend of `tests/conftest.py` with the client of its control address.

    Args:
        backend: a running server.
    """

    def __init__(self, backend) -> None:
        self.backend = backend
        self.faults = backend.faults

    def client(self, service: str, attempts: int = 1, **config):
        """Return a boto3 client with standard retries and at most `attempts` attempts."""
        nothing = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
        core = botocore.session.Session(session_vars={**nothing, "profile": (None, None, None, None)})
        retries = {"total_max_attempts": attempts, "mode": "standard"}
        return boto3.Session(botocore_session=core).client(
            service,
            region_name="us-east-1",
            endpoint_url=self.backend.endpoint,
            aws_access_key_id=self.backend.keys.access_key,
            aws_secret_access_key=self.backend.keys.secret_key,
            config=Config(retries=retries, ignore_configured_endpoint_urls=True, **config),
        )

    @contextmanager
    def requests(self, *rules, **document):
        """Set these request rules inside the `with` block."""
        self.faults.set({"requests": list(rules), **document})
        try:
            yield self.faults
        finally:
            self.faults.clear()

    @contextmanager
    def jobs(self, *rules, **document):
        """Set these job rules inside the `with` block."""
        self.faults.set({"jobs": list(rules), **document})
        try:
            yield self.faults
        finally:
            self.faults.clear()


def outcome_of(call, **arguments) -> str:
    """Return `ok`, the error code with its status, or the class of a failed connection."""
    try:
        call(**arguments)
    except ClientError as error:
        return f"{error.response['Error']['Code']} {error.response['ResponseMetadata']['HTTPStatusCode']}"
    except HTTPClientError as error:
        return type(error).__name__
    return "ok"


@pytest.fixture(scope="session")
def faulty_backend(tmp_path_factory, make_backend):
    """Return the server for the fault tests of this process; its faults must not affect other tests."""
    backend = make_backend(tmp_path_factory.mktemp("faulty") / "home")
    backend.up()
    return backend


@pytest.fixture
def faulty(faulty_backend):
    """Return the server for fault tests; no fault is set before or after a test."""
    server = FaultyServer(faulty_backend)
    server.faults.clear()
    yield server
    server.faults.clear()
