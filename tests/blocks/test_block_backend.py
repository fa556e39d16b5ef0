"""How a block starts the local SageMaker, reaches it over loopback, and isolates its clients from AWS."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks import BackendNotRunning, LoopbackOnly, SageMakerProject
from blocks.backend import (
    LocalServer,
    default_home,
    ensure_server,
    is_loopback,
    isolated_session,
    refuse_foreign_hosts,
    run_command,
)

ROOT = Path(__file__).parents[2]


class Command:
    """A stand-in for `run_command` that returns the given output or raises the given error."""

    def __init__(self, stdout="", stderr="", code=0, error=None):
        self.answer = subprocess.CompletedProcess([], code, stdout, stderr)
        self.error, self.calls = error, []

    def __call__(self, command):
        self.calls.append(list(command))
        if self.error:
            raise self.error
        return self.answer


# -- starting ------------------------------------------------------------------------------------------------------


def test_the_backend_is_brought_up_by_its_own_command(tmp_path):
    """The endpoint comes from the last line of `up --json`; earlier output is ignored."""
    told = '{"endpoint": "http://127.0.0.1:4321", "pid": 7, "access_key": "key", "secret_key": "s3cret"}'
    run = Command(stdout=f"starting\n{told}\n")
    found = ensure_server(tmp_path, "eu-west-1", run)

    assert found == LocalServer("http://127.0.0.1:4321", tmp_path, "key", "s3cret")
    assert "s3cret" not in repr(found)
    command = [
        sys.executable,
        "-m",
        "local_sagemaker",
        "up",
        "--json",
        "--home",
        str(tmp_path),
        "--region",
        "eu-west-1",
    ]
    assert run.calls == [command]


@pytest.mark.parametrize("started", [True, False])
def test_a_server_that_keeps_running_is_reported(tmp_path, started, caplog):
    """A call that starts the server logs that it keeps running and how to stop it; any other call logs nothing."""
    told = {"endpoint": "http://127.0.0.1:4321", "started": started, "access_key": "key", "secret_key": "s3cret"}
    with caplog.at_level("INFO", logger="prefect.sagemaker"):
        ensure_server(tmp_path, run=Command(stdout=json.dumps(told)))

    ending = f"`python -m local_sagemaker down --home {tmp_path}` ends it"
    assert [ending in line for line in caplog.messages] == [True] * started


@pytest.mark.parametrize(
    "run",
    [
        Command(code=1, stderr="the last lines of its log"),
        Command(code=3, stdout="the last lines of its log"),
        Command(stdout="the last lines of its log"),
        Command(stdout='{"error": "the last lines of its log"}'),
        Command(stdout='["the last lines of its log"]'),
    ],
    ids=["stderr", "stdout", "no JSON", "no endpoint", "no object"],
)
def test_a_backend_that_does_not_start_is_an_error(tmp_path, run):
    """The error has the end of the log and the data directory; the fix names the command to run."""
    with pytest.raises(BackendNotRunning, match="the last lines of its log") as caught:
        ensure_server(tmp_path, run=run)

    assert str(tmp_path) in caught.value.message
    assert f"local_sagemaker up --home {tmp_path}" in caught.value.fix


def test_a_backend_without_output_is_an_error(tmp_path):
    """A command without output raises `BackendNotRunning`, not a bare `IndexError`."""
    with pytest.raises(BackendNotRunning, match="does not run"):
        ensure_server(tmp_path, run=Command())


@pytest.mark.parametrize(
    "run",
    [Command(code=4, stderr="The server has not answered"), Command(error=subprocess.TimeoutExpired("up", 600))],
    ids=["up gives up", "up does not end"],
)
def test_a_slow_backend_is_not_reported_as_down(tmp_path, run):
    """The error says that the server does not answer; the fix is to wait, not to run a command that stops its jobs."""
    with pytest.raises(BackendNotRunning, match="does not answer") as caught:
        ensure_server(tmp_path, run=run)

    assert "does not run" not in str(caught.value)
    assert "less busy" in caught.value.fix
    assert not any(command in caught.value.fix for command in ("down", "reset"))


@pytest.mark.processes
def test_commands_are_run_without_a_shell_and_without_input():
    """Output is captured, stdin is empty, and arguments are passed without shell expansion."""
    done = run_command([sys.executable, "-c", "import sys; print(sys.stdin.read() + sys.argv[1])", "$HOME; echo"])

    assert (done.returncode, done.stdout) == (0, "$HOME; echo\n")


def test_where_the_data_is(tmp_path, monkeypatch):
    """`LOCAL_SAGEMAKER_HOME` sets the data directory; the default is under the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LOCAL_SAGEMAKER_HOME", raising=False)
    assert default_home() == tmp_path / ".local" / "share" / "local-sagemaker"
    monkeypatch.setenv("LOCAL_SAGEMAKER_HOME", "/somewhere")
    assert default_home() == Path("/somewhere")


# -- loopback ------------------------------------------------------------------------------------------------------


@given(st.ip_addresses())
def test_loopback_addresses(address):
    """Exactly 127.0.0.0/8 and ::1 are loopback addresses."""
    assert is_loopback(str(address)) is address.is_loopback


@given(st.integers(0, 2**24 - 1))
def test_all_of_127_is_this_machine(number):
    """Every address in 127.0.0.0/8 is loopback (RFC 1122, 3.2.1.3 (g))."""
    assert is_loopback(f"127.{number >> 16}.{number >> 8 & 255}.{number & 255}")


@pytest.mark.parametrize(
    "host",
    [
        *("", "example.com", "127.0.0.1.example.com", "localhost.example.com", "notlocalhost", "s3.amazonaws.com"),
        *("0.0.0.0", "::", "169.254.169.254", "10.0.0.1", "127.1", "0x7f.1", "2130706433"),
    ],
)
def test_other_hosts_are_not_this_machine(host):
    """Prefect's own check of the form refuses them too: the patterns suit every regular expression dialect."""
    assert not is_loopback(host)


def test_localhost_is_this_machine():
    """`localhost` and `::1` are loopback."""
    assert is_loopback("localhost")
    assert is_loopback("::1")


def client(endpoint, service="s3"):
    made = isolated_session("us-east-1").client(service, endpoint_url=endpoint)
    refuse_foreign_hosts(made)
    return made


@pytest.mark.parametrize(
    "endpoint", ["https://s3.amazonaws.com", "http://10.1.2.3:9000", "http://127.0.0.1.example.com"]
)
def test_a_walled_off_client_stays_on_this_machine(endpoint):
    """The error names the refused host and has a fix."""
    with pytest.raises(LoopbackOnly, match="never leave this machine") as caught:
        client(endpoint).list_buckets()

    assert endpoint.split("/")[2].split(":")[0] in caught.value.message
    assert caught.value.fix


def in_a_hostile_world(code, tmp_path, **variables):
    """Run code in a process whose AWS configuration is all wrong; return the last line it prints, parsed as JSON."""
    (tmp_path / "config").write_text(
        "[profile work]\nsso_start_url = https://evil.example\nregion = eu-west-1\nendpoint_url = https://evil.example\n"
        "[default]\nendpoint_url = https://evil.example\ncredential_process = /bin/false\n"
    )
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = real\naws_secret_access_key = real\n")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")},
        "AWS_PROFILE": "work",
        "AWS_DEFAULT_PROFILE": "gone",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_ACCESS_KEY_ID": "real",
        "AWS_SECRET_ACCESS_KEY": "real",
        "AWS_SESSION_TOKEN": "real",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "https://evil.example",
        "AWS_ENDPOINT_URL_S3": "https://evil.example",
        "AWS_CA_BUNDLE": "/nowhere",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


HANGS_UP = """
    import json, socket, sys, threading
    connected = []
    def hook(event, arguments):
        if event in ("socket.connect", "socket.getaddrinfo"):
            connected.append([str(part) for part in (arguments[1] if event == "socket.connect" else arguments[:2])])
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    received = []
    def serve():
        while True:
            connection, _ = server.accept()
            received.append(connection.recv(65536).decode("latin-1"))
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
            connection.close()
    threading.Thread(target=serve, daemon=True).start()
    from blocks.backend import isolated_session, refuse_foreign_hosts
    sys.addaudithook(hook)
"""


@pytest.mark.processes
def test_nothing_of_the_users_configuration_is_read(tmp_path):
    """An isolated client ignores the profiles, SSO, endpoints, keys, region and FIPS setting of the user.

    It connects only to the endpoint that it was given.
    """
    found = in_a_hostile_world(
        HANGS_UP
        + """
    session = isolated_session("us-east-1")
    s3 = session.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
    refuse_foreign_hosts(s3)
    s3.head_bucket(Bucket="demo")
    keys = session.get_credentials()
    print(json.dumps({
        "keys": [keys.access_key, keys.secret_key, keys.token], "region": s3.meta.region_name, "request": received[0],
        "to": sorted({row[0] for row in connected}),
    }))
    """,
        tmp_path,
    )

    assert found["keys"] == ["none", "none", None]
    assert found["region"] == "us-east-1"
    assert found["request"].startswith("HEAD /demo HTTP/1.1")
    assert "Credential=none/" in found["request"]
    assert "real" not in found["request"]
    assert found["to"] == ["127.0.0.1"]


@pytest.mark.processes
def test_no_proxy_carries_local_requests_away(tmp_path):
    """An isolated client ignores `HTTP_PROXY`; by default botocore would send loopback requests to the proxy."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        variables = dict.fromkeys(["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"], address)
        found = in_a_hostile_world(
            HANGS_UP
            + """
    s3 = isolated_session("us-east-1").client("s3", endpoint_url=f"http://127.0.0.1:{port}")
    refuse_foreign_hosts(s3)
    s3.head_bucket(Bucket="demo")
    print(json.dumps({"requests": len(received), "ports": [row[1] for row in connected], "port": str(port)}))
    """,
            tmp_path,
            **variables,
        )
    assert found["requests"] == 1
    assert set(found["ports"]) == {found["port"]}


@pytest.mark.processes
def test_not_a_packet_leaves_this_machine(tmp_path):
    """The request is refused before any host name is resolved or any socket connects."""
    found = in_a_hostile_world(
        HANGS_UP
        + """
    from blocks import LoopbackOnly
    refused = 0
    for service, call in {"s3": "list_buckets", "sagemaker": "list_training_jobs", "iam": "list_roles",
                          "sts": "get_caller_identity", "logs": "describe_log_groups"}.items():
        client = isolated_session("us-east-1").client(service)
        refuse_foreign_hosts(client)
        try:
            getattr(client, call)()
        except LoopbackOnly:
            refused += 1
    print(json.dumps({"refused": refused, "connected": connected}))
    """,
        tmp_path,
    )

    assert found == {"refused": 5, "connected": []}


def test_the_wall_is_of_one_client_alone():
    """Isolating one client leaves the process's other clients free to reach AWS, so a flow may use both."""
    client("http://127.0.0.1:1")
    other = boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    seen = []
    other.meta.events.register("before-send", lambda request, **_: seen.append(request.url) or _answer())
    other.list_buckets()

    assert seen == ["https://s3.amazonaws.com/"]


def _answer():
    """Return an empty bucket list without a network request."""
    from botocore.awsrequest import AWSResponse

    class Raw:
        def stream(self, **_):
            yield b'<ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>'

    return AWSResponse("https://s3.amazonaws.com/", 200, {}, Raw())


def test_a_project_of_another_region_is_an_error(backend):
    """The error names the region of the running backend; a project without a region takes that region."""
    with pytest.raises(BackendNotRunning, match="runs in us-east-1, and eu-west-1 was asked for"):
        SageMakerProject.local(home=backend.home, region="eu-west-1").client("sagemaker")

    assert SageMakerProject.local(home=backend.home).region_name == "us-east-1"
