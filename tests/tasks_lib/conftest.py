"""Fixtures of tests without a backend: botocore's service model, moto's S3 and IAM in this process, doubles."""

from __future__ import annotations

import os
import threading
from contextlib import nullcontext

import pytest
from aws_doubles import BUCKET, LogsDouble, ProjectDouble, SageMakerDouble, make_block
from moto import mock_aws
from moto.core.botocore_stubber import BotocoreStubber

from tasks_lib.aws.objects import Objects
from tasks_lib.jobs.s3_layout import TaskFolder
from tasks_lib.ledger.records import Ledger


@pytest.fixture(scope="session")
def sagemaker_model():
    """SageMaker's service model from botocore."""
    return SageMakerDouble().meta.service_model


@pytest.fixture(scope="session")
def _one_block():
    """One project for all modules, because its clients are slow to make; moto answers them while a module runs."""
    return make_block()


@pytest.fixture(scope="module")
def _aws_of_module(_one_block):
    """Start moto once for the tests of a module, because it is slow to start.

    The scope is not the package: without an `__init__.py` pytest takes that for the session, and the tests of other
    folders
    would run inside moto.
    """
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)
        # moto's S3 is not thread-safe: a listing during a delete raises KeyError.
        lock, answer = threading.Lock(), BotocoreStubber.__call__

        def one_at_a_time(self, event_name, request, **more):
            with lock if ".s3." in event_name else nullcontext():
                return answer(self, event_name, request, **more)

        environment.setattr(BotocoreStubber, "__call__", one_at_a_time)
        with mock_aws():
            _one_block.client("s3").create_bucket(Bucket=BUCKET)
            yield _one_block


@pytest.fixture
def aws(_aws_of_module):
    """AWS in this process: moto with an empty bucket, isolated from the user's configuration."""
    s3 = _aws_of_module.client("s3")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for row in page.get("Contents", ()):
            s3.delete_object(Bucket=BUCKET, Key=row["Key"])


@pytest.fixture
def block(aws, _aws_of_module):
    """A project on moto's AWS."""
    return _aws_of_module


@pytest.fixture
def sagemaker():
    """A SageMaker double whose jobs a test ends."""
    return SageMakerDouble()


@pytest.fixture
def logs():
    """A CloudWatch Logs double that a test fills."""
    return LogsDouble()


@pytest.fixture
def project(block, sagemaker, logs):
    """A project on moto's S3, with doubles for SageMaker and the logs."""
    return ProjectDouble(block, sagemaker=sagemaker, logs=logs)


@pytest.fixture
def objects(block):
    """Access to moto's S3."""
    return Objects(block)


@pytest.fixture
def task_folder():
    """The folder of one task."""
    return TaskFolder(BUCKET, "demo/fit/")


@pytest.fixture
def ledger(objects, task_folder):
    """The ledger of one task."""
    return Ledger(objects, task_folder)
