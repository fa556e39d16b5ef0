"""Prefect for the journeys: a home and a server of their own; the user's profile and Prefect Cloud stay untouched.

One server runs for all tests of this process. Its address is set only while a module of this folder runs, so that tests
of other folders find Prefect unchanged.
"""

from __future__ import annotations

import os
import uuid

from own_prefect import ISOLATED  # before any import of Prefect

# ruff: isort: split
import prefect.settings as prefect_settings
import pytest
from callers import Caller
from journey_tools import Bucket, RunLog
from prefect.settings import temporary_settings
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters

from blocks import SageMakerProject
from tasks_lib import sagemaker_tasks


@pytest.fixture(scope="module", autouse=True)
def isolated_prefect(prefect_api):
    """Run every flow of a module of this folder against that server."""
    with temporary_settings({**ISOLATED, prefect_settings.PREFECT_API_URL: prefect_api}):
        yield


@pytest.fixture(scope="session")
def caller(backend):
    """The caller in all tests of this process."""
    return Caller(backend)


@pytest.fixture(scope="session")
def make_project(backend, caller):
    """Return a function that makes a new project on this machine; all share their clients, which are slow to make.

    The caller has exactly the permissions that `ssm policy … caller` prints for the project. The jobs have those of the
    role that is made for them, unless the test names one.
    """
    first = SageMakerProject.local("journeys", home=backend.home, role=None)
    clients = caller.clients_like(first)
    for prefix in ("", "any-prefix"):
        caller.gets_policy_of_each(first, prefix)
    first._clients.made.update(clients)

    def make(**fields):
        project = first.model_copy(update={"project": f"p-{uuid.uuid4().hex[:12]}", **fields})
        if fields:
            caller.gets_policy_of(project)
        return project

    return make


@pytest.fixture
def project(make_project):
    """A project on this machine for this test alone."""
    return make_project()


@pytest.fixture
def sm(project):
    """The tasks of that project."""
    return sagemaker_tasks(project)


@pytest.fixture
def bucket(backend, project):
    """Access to that project's folder in S3."""
    return Bucket(backend, project)


@pytest.fixture
def run_log():
    """All records that task runs log during a test."""
    with RunLog() as log:
        yield log


@pytest.fixture
def no_aws_configuration(monkeypatch, tmp_path):
    """Hide the user's AWS configuration, and disable the metadata service."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def make_aws_project(no_aws_configuration, make_project, backend):
    """Return a function that makes a project as on AWS, whose credentials' endpoint is that of the local SageMaker."""

    def make(endpoint, keys=True, parameters=None, **fields):
        ours = {"aws_access_key_id": backend.keys.access_key, "aws_secret_access_key": backend.keys.secret_key}
        given = ours if keys else {}
        credentials = AwsCredentials(
            **given, **(parameters or {}), aws_client_parameters=AwsClientParameters(endpoint_url=endpoint)
        )
        local = make_project()
        common = {name: getattr(local, name) for name in ("project", "bucket", "region", "role", "image")}
        return SageMakerProject(**(common | {"credentials": credentials} | fields))

    return make
