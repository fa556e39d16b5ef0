"""Fixtures for the local SageMaker's tests: its S3 in a separate process, and clients for it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SERVE = """
import socket, sys
from pathlib import Path
import uvicorn
from local_sagemaker.s3.application import S3Application
from local_sagemaker.s3.store import ObjectStore

class Counting:
    def __init__(self, application):
        self.application = application
    async def __call__(self, scope, receive, send):
        async def named(message):
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-test-operation", scope["aws.operation"].encode()))
            await send(message)
        await self.application(scope, receive, named)

descriptor, directory, *tls = sys.argv[1:]
application = Counting(S3Application(ObjectStore(Path(directory))))
config = uvicorn.Config(
    application, lifespan="off", access_log=False, log_level="warning", timeout_graceful_shutdown=1,
    timeout_keep_alive=3600,  # no client retries: an idle connection must not be closed just as it is used again
    **(dict(ssl_certfile=tls[0], ssl_keyfile=tls[0]) if tls else {}))
uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(descriptor))])
"""


@dataclass
class S3Server:
    """The local SageMaker's S3 in a separate process.

    The test process owns the socket, so the port stays the same over restarts. Nothing has to wait for the server to
    start: connections queue until it accepts them.
    """

    directory: Path
    certificate: Path | None = None
    socket: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        port: int = self.socket.getsockname()[1]
        return port

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        descriptor = self.socket.fileno()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _SERVE,
                str(descriptor),
                str(self.directory),
                *([str(self.certificate)] if self.certificate else []),
            ],
            pass_fds=[descriptor],
        )

    def kill(self) -> None:
        """Kill the server with SIGKILL, as a power cut would end it."""
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=30)
        self.socket.close()

    def client(self, **options: Any) -> Any:
        """Return a boto3 client without retries, so that no retry hides an error."""
        config = Config(
            retries={"max_attempts": 0}, max_pool_connections=32, connect_timeout=30, read_timeout=60, **options
        )
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            verify=str(self.certificate) if self.certificate else None,
            config=config,
        )

    def environment(self) -> dict[str, str]:
        """Return the environment for a command that uses this server."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return inherited | {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
        }


@pytest.fixture(scope="session")
def make_s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., S3Server]]:
    """Start servers, each on its own directory; all are stopped at the end."""
    servers: list[S3Server] = []

    def make(**options: Any) -> S3Server:
        server = S3Server(**{"directory": tmp_path_factory.mktemp("s3"), **options})
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def s3_server(make_s3_server: Callable[..., S3Server]) -> S3Server:
    """Return the server for all tests that neither kill it nor look at all of it."""
    return make_s3_server()


@pytest.fixture(scope="session")
def s3(s3_server: S3Server) -> Any:
    """Return a boto3 client for `s3_server`."""
    return s3_server.client()


@pytest.fixture
def bucket(s3: Any) -> str:
    """Create a bucket for one test; return its name."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name
