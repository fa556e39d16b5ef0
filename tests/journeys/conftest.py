"""Prefect for the journeys: a home and a server of our own, so that neither the user's profile nor a cloud is touched.

The server is a process for all tests of this process; its address is a setting only while a module of this folder
runs, so that other folders' tests meet Prefect as they left it.
"""

from __future__ import annotations

import os
import uuid

from own_prefect import ISOLATED  # before anybody imports Prefect

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
    """Every flow of a module of this folder runs against that server."""
    with temporary_settings({**ISOLATED, prefect_settings.PREFECT_API_URL: prefect_api}):
        yield


@pytest.fixture(scope="session")
def caller(backend):
    """Who calls in all tests of this process."""
    return Caller(backend)


@pytest.fixture(scope="session")
def make_project(backend, caller):
    """A function that gives a fresh project on this machine; all share their clients, which are slow to make.

    Who calls has the rights that `ssm policy … caller` prints for the project, and no others. The jobs have those of
    the role that is made for them, unless the test names one.
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
    """A project on this machine that nobody else uses."""
    return make_project()


@pytest.fixture
def sm(project):
    """The tasks of that project."""
    return sagemaker_tasks(project)


@pytest.fixture
def bucket(backend, project):
    """A look into that project's folder in S3."""
    return Bucket(backend, project)


@pytest.fixture
def run_log():
    """All that task runs say to their loggers during a test."""
    with RunLog() as log:
        yield log


@pytest.fixture
def no_aws_configuration(monkeypatch, tmp_path):
    """Nothing of the user's AWS configuration is seen, and no metadata service is asked."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def make_aws_project(no_aws_configuration, make_project, backend):
    """A function that gives a project as on AWS, whose credentials' endpoint leads to the local SageMaker."""

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
