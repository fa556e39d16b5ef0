"""The server's front: one endpoint for all services, request counts, and allowed hosts."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from api_requests import error_of, new_name, training_request

from local_sagemaker.keys import HomeKey


def _status(backend) -> dict:
    return json.loads(_get(backend, "/_local/status", {})[1])


def _get(backend, path: str, headers: dict) -> tuple[int, str]:
    """Send one GET with exactly these headers, and those that HTTP and the server's own paths need."""
    control = f"Bearer {HomeKey.of(backend.home).control}"
    headers = {**({"Authorization": control} if path.startswith("/_local/") else {}), **headers}
    connection = http.client.HTTPConnection(urlsplit(backend.endpoint).netloc, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_requests_are_counted_by_operation(own_backend):
    """Each request counts for its service and operation, even a refused one; the server's own paths do not count."""
    own_backend.up()
    s3, sagemaker = own_backend.client("s3"), own_backend.client("sagemaker")
    s3.create_bucket(Bucket="counted")
    for _ in range(2):
        s3.put_object(Bucket="counted", Key="k", Body=b"v")
    error_of(sagemaker.describe_training_job, TrainingJobName="none")
    error_of(sagemaker.list_models)
    own_backend.client("sts").get_caller_identity()
    error_of(own_backend.client("logs").describe_log_streams, logGroupName="/none")

    assert _status(own_backend)["requests"] == {
        "s3:CreateBucket": 1,
        "s3:PutObject": 2,
        "sagemaker:DescribeTrainingJob": 1,
        "sagemaker:ListModels": 1,
        "sts:GetCallerIdentity": 1,
        "logs:DescribeLogStreams": 1,
    }


def test_presigned_requests_are_s3s(backend):
    """A presigned URL works without any header."""
    s3 = backend.client("s3")
    s3.create_bucket(Bucket="presigned")
    s3.put_object(Bucket="presigned", Key="a b", Body=b"content")
    address = s3.generate_presigned_url("get_object", Params={"Bucket": "presigned", "Key": "a b"})
    with urllib.request.urlopen(address) as answer:
        body = answer.read()

    assert body == b"content"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "10.0.0.1", "localhost.evil.example", "[::2]", ""])
def test_foreign_host_headers_are_refused(backend, host):
    """A foreign Host header is refused: a web page that rebinds its name to 127.0.0.1 sends that name."""
    assert _get(backend, "/_local/status", {"Host": host})[0] == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9", "[::1]:9", "LOCALHOST:1"])
def test_loopback_host_headers_are_accepted(backend, host):
    """Every loopback name is accepted, with any port, because a tunnel may use another port."""
    assert _get(backend, "/_local/status", {"Host": host})[0] == 200


def test_own_paths(backend):
    """An unknown path below `/_local/` is a plain 404, not an S3 error: the server's own paths cannot be a bucket."""
    assert _get(backend, "/_local/other", {})[0] == 404
    assert "NoSuchBucket" not in _get(backend, "/_local/other", {})[1]


def test_listens_on_loopback_only(backend):
    """The server listens at 127.0.0.1 and at no other address of this machine."""
    port = urlsplit(backend.endpoint).port
    rows = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()]
    listening = "0A"
    addresses = {row[1] for row in rows if row[3] == listening and row[1].endswith(f":{port:04X}")}

    assert addresses == {f"0100007F:{port:04X}"}


def test_other_services_under_sagemakers_name(backend):
    """An unserved REST service that signs as `sagemaker` is refused with the request's method and path."""
    code, message = error_of(backend.client("sagemaker-runtime").invoke_endpoint, EndpointName="e", Body=b"")

    assert code == "UnknownOperationException"
    assert "POST /endpoints/e/invocations" in message


SDK = """
import sys, time
from sagemaker.core.resources import TrainingJob
name = sys.argv[1]
job = TrainingJob.get(name)
found = [one.training_job_name for one in TrainingJob.get_all(name_contains=name)]
job.wait(poll=1, logs=False)
print(job.training_job_status, job.algorithm_specification.training_image, found == [name])
"""


def test_sagemaker_sdk(backend, tmp_path):
    """The SageMaker SDK v3 reads, lists and waits for a job, configured only by the variables that `env` prints."""
    name = new_name("sdk")
    backend.client("s3").create_bucket(Bucket="api-tests")
    backend.client("sagemaker").create_training_job(**training_request(name))
    script = tmp_path / "read.py"
    script.write_text(SDK)
    shell = (
        f'eval "$({" ".join(backend.command("env"))})"; export HOME={tmp_path}; exec {sys.executable} {script} {name}'
    )
    done = subprocess.run(["/bin/bash", "-c", shell], capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-3:] == ["Completed", "python:3.12", "True"]
