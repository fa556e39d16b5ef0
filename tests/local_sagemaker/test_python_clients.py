"""What `env` does for Python clients that name AWS's addresses, and for jobs in AWS's script mode."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from api_requests import finished, new_name, training_request
from evaluated_shell import WATCHING, Shell

CLIENTS = Path(__file__).parents[1] / "clients"
NAME_AN_ADDRESS = """
import sys, boto3
client = boto3.client("sts", region_name="eu-west-1", endpoint_url=sys.argv[1])
print(client.meta.endpoint_url, sys.modules["sitecustomize"].__file__)
"""
TELL_AMAZON = """
import requests
try:
    requests.get("https://sm-pysdk-t-us-east-1.s3.us-east-1.amazonaws.com/telemetry?x=1", timeout=3)
except requests.exceptions.ConnectionError as error:
    print(error)
"""


@pytest.fixture
def shell(backend, tmp_path) -> Shell:
    """Return a shell that has evaluated `env`."""
    return Shell(backend, tmp_path)


@pytest.mark.always
def test_the_sdk_trains_without_a_role(backend, shell):
    """The SDK v3 with a default session takes the caller's role from the local STS, and its training script runs."""
    output = shell.run(sys.executable, CLIENTS / "train_with_sdk_v3.py", CLIENTS / "code")
    name = output.rpartition("job: ")[2].split()[0]
    job = finished(backend.client("sagemaker"), name)

    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert job["RoleArn"] == "arn:aws:iam::123456789012:role/local-sagemaker"
    assert f"role: {job['RoleArn']}" in output.splitlines()


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("named", "variables", "expected"),
    [
        ("https://sts.eu-west-1.amazonaws.com", {}, None),
        ("https://sts.cn-north-1.amazonaws.com.cn", {}, None),
        ("https://objects.example.com", {}, "https://objects.example.com"),
        ("https://amazonaws.com.example.com", {}, "https://amazonaws.com.example.com"),
        # `AWS_ENDPOINT_URL` was unset again.
        ("https://sts.eu-west-1.amazonaws.com", {"back": "unset"}, "https://sts.eu-west-1.amazonaws.com"),
    ],
)
def test_an_address_of_aws_becomes_the_endpoint(backend, shell, named, variables, expected):
    """An address of AWS becomes the local endpoint; other addresses stay, and all do if `AWS_ENDPOINT_URL` is unset.

    The user's own `sitecustomize` has run, and is the module of that name.
    """
    command = ["env", *(("-u", "AWS_ENDPOINT_URL") if variables else ()), sys.executable, "-c", NAME_AN_ADDRESS, named]

    assert shell.run(*command).split() == [expected or backend.endpoint, str(WATCHING / "sitecustomize.py")]


def test_the_sdks_do_not_report_to_amazon(shell):
    """A telemetry request of the SDKs fails at once, without a DNS lookup."""
    assert "telemetry stays on this machine" in shell.run(sys.executable, "-c", TELL_AMAZON)


def test_env_keeps_what_the_shell_had(shell, tmp_path):
    """`env` puts its path first in PYTHONPATH, once however often it is evaluated, and loopback bypasses a proxy."""
    ask = 'import os; print(os.environ["PYTHONPATH"]); print(os.environ.get("no_proxy"), os.environ.get("NO_PROXY"))'
    twice = f'eval "$({sys.executable} -m local_sagemaker env --home {shell.backend.home})"; exec "$0" -c "$1"'
    plain = shell.run("/bin/sh", "-c", twice, sys.executable, ask).splitlines()
    proxied = shell.run(sys.executable, "-c", ask, HTTPS_PROXY="http://proxy.invalid:1", NO_PROXY="a.example,localhost")
    path = plain[0].split(":")

    assert [Path(path[0]).name, path[1:]] == ["for_clients", [str(WATCHING)]]
    assert plain[1] == "None None"
    assert proxied.splitlines()[1] == " ".join(["127.0.0.1,localhost,a.example"] * 2)


def test_script_mode_needs_the_training_toolkit(backend):
    """A job in script mode fails with the command that installs AWS's toolkit; `make clients` runs that command."""
    backend.client("s3").create_bucket(Bucket="api-tests")
    request = training_request(new_name(), HyperParameters={"sagemaker_program": '"train.py"'})
    del request["AlgorithmSpecification"]["ContainerEntrypoint"]
    plain = training_request(new_name())
    del plain["AlgorithmSpecification"]["ContainerEntrypoint"]
    client = backend.client("sagemaker")
    reasons = []
    for one in (request, plain):
        client.create_training_job(**one)
        reasons.append(finished(client, one["TrainingJobName"])["FailureReason"])

    assert reasons[0].endswith(f"{sys.executable} -m pip install 'prefect-sagemaker[training-toolkit]'")
    assert "Give AlgorithmSpecification.ContainerEntrypoint" in reasons[1]
