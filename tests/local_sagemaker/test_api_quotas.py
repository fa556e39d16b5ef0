"""Quotas of the local account: reported by Service Quotas, and enforced when a job is created."""

from __future__ import annotations

import json

import pytest
from api_requests import error_of, finished, new_name, processing_request, training_request
from faulty_server import FaultyServer

TRAINING, SPOT, PROCESSING = (f"ml.m5.large for {use} job usage" for use in ("training", "spot training", "processing"))
_SPOT_TIMES = {"MaxRuntimeInSeconds": 300, "MaxWaitTimeInSeconds": 600}


@pytest.fixture(scope="module")
def quota_backend(tmp_path_factory, make_backend):
    """Return the server for the quota tests of this process; its quotas must not affect other tests."""
    backend = make_backend(tmp_path_factory.mktemp("quotas") / "home")
    backend.up()
    backend.client("s3").create_bucket(Bucket="api-tests")
    return backend


@pytest.fixture
def set_quotas(quota_backend):
    """Return a function that writes the account's quotas into `settings.json`; they are removed afterwards."""
    path = quota_backend.home / "settings.json"
    before = path.read_text()

    def write(quotas):
        path.write_text(json.dumps({**json.loads(before), "quotas": quotas}))

    yield write
    path.write_text(before)


@pytest.fixture
def sagemaker(quota_backend):
    """Return a boto3 client for SageMaker."""
    return quota_backend.client("sagemaker")


@pytest.fixture
def service_quotas(quota_backend):
    """Return a boto3 client for Service Quotas."""
    return quota_backend.client("service-quotas")


def simulated(name, seconds=600, count=1, instance_type="ml.m5.large", **more):
    """Return a request for a simulated training job that takes `seconds`."""
    return training_request(
        name,
        AlgorithmSpecification={"TrainingImage": "local/simulated", "TrainingInputMode": "File"},
        Environment={"SIMULATED_SECONDS": str(seconds)},
        ResourceConfig={"InstanceType": instance_type, "InstanceCount": count, "VolumeSizeInGB": 1},
        **more,
    )


def names_of(page):
    """Return the names of the quotas on a page."""
    return [quota["QuotaName"] for quota in page["Quotas"]]


def test_without_settings_there_are_no_quotas(service_quotas, sagemaker):
    """By default no quota is listed, and none is enforced."""
    assert service_quotas.list_service_quotas(ServiceCode="sagemaker")["Quotas"] == []

    name = new_name()
    sagemaker.create_training_job(**simulated(name, 0, count=50))

    assert finished(sagemaker, name)["TrainingJobStatus"] == "Completed"


def test_a_quota_is_told_as_aws_tells_it(service_quotas, set_quotas):
    """A quota has a name, value, code and ARN as on AWS; its code finds the same quota, an unknown code none."""
    set_quotas({TRAINING: 2})
    (listed,) = service_quotas.list_service_quotas(ServiceCode="sagemaker")["Quotas"]
    got = service_quotas.get_service_quota(ServiceCode="sagemaker", QuotaCode=listed["QuotaCode"])["Quota"]
    unknown, _ = error_of(service_quotas.get_service_quota, ServiceCode="sagemaker", QuotaCode="L-00000000")
    other_service, _ = error_of(service_quotas.list_service_quotas, ServiceCode="ec2")

    assert (listed["QuotaName"], listed["Value"], listed["Adjustable"]) == (TRAINING, 2.0, True)
    assert listed["QuotaArn"] == f"arn:aws:servicequotas:us-east-1:123456789012:sagemaker/{listed['QuotaCode']}"
    assert got == listed
    assert (unknown, other_service) == ("NoSuchResourceException",) * 2


def test_a_listing_has_pages(service_quotas, set_quotas):
    """Pages have the requested size, at most 100, and together list every quota once."""
    wanted = {f"ml.test{number}.large for training job usage": number for number in range(250)}
    set_quotas(wanted)
    pages = list(service_quotas.get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker"))
    short = service_quotas.list_service_quotas(ServiceCode="sagemaker", MaxResults=3)
    following = service_quotas.list_service_quotas(ServiceCode="sagemaker", MaxResults=3, NextToken=short["NextToken"])

    assert [len(page["Quotas"]) for page in pages] == [100, 100, 50]
    assert sorted(name for page in pages for name in names_of(page)) == sorted(wanted)
    assert names_of(short) + names_of(following) == names_of(pages[0])[:6]


@pytest.mark.parametrize(
    ("more", "code"),
    [({"NextToken": "nonsense"}, "InvalidPaginationTokenException"), ({"MaxResults": 101}, "IllegalArgumentException")],
)
def test_a_listing_with_a_wrong_parameter_is_refused(service_quotas, set_quotas, more, code):
    """A wrong parameter is refused with the error code of the service's own model."""
    set_quotas({TRAINING: 2})

    assert error_of(service_quotas.list_service_quotas, **{"ServiceCode": "sagemaker", **more})[0] == code


def test_one_quota_can_be_listed_alone(service_quotas, set_quotas):
    """A quota can be listed by its code; the listing of quotas of single resources is empty."""
    set_quotas({TRAINING: 2, SPOT: 3})
    listed = service_quotas.list_service_quotas(ServiceCode="sagemaker")["Quotas"]
    code = next(quota["QuotaCode"] for quota in listed if quota["QuotaName"] == SPOT)
    alone = service_quotas.list_service_quotas(ServiceCode="sagemaker", QuotaCode=code)
    of_resources = service_quotas.list_service_quotas(ServiceCode="sagemaker", QuotaAppliedAtLevel="RESOURCE")

    assert (names_of(alone), of_resources["Quotas"]) == ([SPOT], [])


def test_a_quota_is_enforced_in_aws_words(sagemaker, set_quotas):
    """A quota counts hosts, not jobs, and is refused with AWS's message; when a job ends, its hosts are free again."""
    set_quotas({TRAINING: 2})
    running, next_one = new_name(), new_name()
    sagemaker.create_training_job(**simulated(running, count=2))
    code, message = error_of(sagemaker.create_training_job, **simulated(next_one, 0))
    sagemaker.stop_training_job(TrainingJobName=running)
    finished(sagemaker, running)
    sagemaker.create_training_job(**simulated(next_one, 0))

    assert code == "ResourceLimitExceeded"
    assert message == (
        f"The account-level service limit '{TRAINING}' is 2 Instances, with current utilization of 2 Instances and a"
        " request delta of 1 Instances. Please use AWS Service Quotas to request an increase for this quota. If AWS"
        " Service Quotas is not available, contact AWS support to request an increase for this quota."
    )
    assert finished(sagemaker, next_one)["TrainingJobStatus"] == "Completed"


def test_each_use_of_an_instance_type_has_a_quota_of_its_own(sagemaker, set_quotas):
    """Training, spot training and processing have separate quotas; an instance type without a quota is not limited."""
    set_quotas({TRAINING: 0, SPOT: 1, PROCESSING: 0})
    spot = {"EnableManagedSpotTraining": True, "StoppingCondition": _SPOT_TIMES}
    code, _ = error_of(sagemaker.create_training_job, **simulated(new_name()))
    of_processing, message = error_of(sagemaker.create_processing_job, **processing_request(new_name()))
    on_spot, on_another = new_name(), new_name()
    sagemaker.create_training_job(**simulated(on_spot, 0, **spot))
    sagemaker.create_training_job(**simulated(on_another, 0, instance_type="ml.c5.xlarge"))

    assert (code, of_processing) == ("ResourceLimitExceeded",) * 2
    assert f"'{PROCESSING}' is 0 Instances" in message
    assert [finished(sagemaker, name)["TrainingJobStatus"] for name in (on_spot, on_another)] == ["Completed"] * 2


def test_a_quota_holds_beside_a_fault_of_the_same_kind(quota_backend, sagemaker, set_quotas):
    """A quota rule of `faults` may lower the account's quota, but not raise it."""
    set_quotas({TRAINING: 1})
    server = FaultyServer(quota_backend)
    with server.jobs({"kind": "quota", "instance_type": "ml.m5.large", "limit": 5}):
        of_account, _ = error_of(sagemaker.create_training_job, **simulated(new_name(), count=2))
    with server.jobs({"kind": "quota", "instance_type": "ml.m5.large", "limit": 0}):
        of_rule, message = error_of(sagemaker.create_training_job, **simulated(new_name()))

    assert (of_account, of_rule) == ("ResourceLimitExceeded",) * 2
    assert "is 0 Instances" in message


@pytest.mark.parametrize("quotas", [{TRAINING: "2"}, {TRAINING: -1}, {TRAINING: True}, [TRAINING]])
def test_quotas_that_mean_nothing_are_refused(quota_backend, set_quotas, quotas):
    """Invalid quotas are an error that names the file and shows how a quota is written."""
    set_quotas(quotas)
    client = FaultyServer(quota_backend).client("service-quotas")
    code, message = error_of(client.list_service_quotas, ServiceCode="sagemaker")

    assert code == "InternalFailure"
    assert str(quota_backend.home / "settings.json") in message
    assert f'{{"{TRAINING}": 2}}' in message
