"""Quotas: which ones a job needs, how AWS reports them, and how rarely they are read."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from aws_doubles import client_error, make_block
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.aws.console_links import quota_url
from tasks_lib.aws.service_quotas import AccountQuota, ServiceQuotas
from tasks_lib.errors import AccessDenied
from tasks_lib.jobs.kinds import KINDS
from tasks_lib.quotas.quota import Quota, hosts_by_quota, limit_name, quota_name, quota_of

SINCE_2023 = (
    "The account-level service limit '{name}' is {limit} Instances, with current utilization of {used} Instances and a "
    "request delta of {wanted} Instances. Please use AWS Service Quotas to request an increase for this quota. If AWS "
    "Service Quotas is not available, contact AWS support to request an increase for this quota."
)
BEFORE = (
    "An error occurred (ResourceLimitExceeded) when calling the CreateTrainingJob operation: The account-level service "
    "limit '{name}' is {limit} Instances, with current utilization of {used} Instances and a request delta of {wanted} "
    "Instances. Please contact AWS support to request an increase for this limit."
)
OTHER_UNIT = SINCE_2023.replace("Instances", "Trial Components")
HOSTS = st.integers(min_value=0, max_value=10**6)
TYPES = st.from_regex(r"ml\.[a-z][a-z0-9\-]{1,9}\.[0-9a-z]{1,10}", fullmatch=True)

ON_DEMAND = "ml.m5.large for training job usage"


# -- AWS's messages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [SINCE_2023, BEFORE, OTHER_UNIT])
@given(name=st.text(min_size=1).filter(lambda name: "'" not in name), limit=HOSTS, used=HOSTS, wanted=HOSTS)
def test_aws_messages_name_the_quota(words, name, limit, used, wanted):
    """Name and numbers are parsed from each known form of AWS's message, whatever the unit."""
    message = words.format(name=name, limit=limit, used=used, wanted=wanted)

    assert quota_of(message) == Quota(name, limit, used, wanted)


@pytest.mark.parametrize("message", ["", "Rate exceeded", "The account-level service limit 'x' is 2 Instances."])
def test_other_messages_name_no_quota(message):
    """Any other message gives None."""
    assert quota_of(message) is None


@pytest.mark.parametrize(("limit", "wanted", "can_suffice"), [(2, 1, True), (2, 2, True), (2, 3, False), (0, 1, False)])
def test_a_used_up_quota_differs_from_a_small_one(limit, wanted, can_suffice):
    """A quota suffices if the job fits its limit, whatever is in use now, because other jobs end."""
    assert Quota(ON_DEMAND, limit, limit, wanted).can_suffice is can_suffice


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "request_", "expected"),
    [
        ("training", {"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 3}}, {ON_DEMAND: 3}),
        (
            "training",
            {
                "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
                "EnableManagedSpotTraining": True,
            },
            {"ml.m5.large for spot training job usage": 1},
        ),
        (
            "processing",
            {"ProcessingResources": {"ClusterConfig": {"InstanceType": "ml.c5.xlarge"}}},
            {"ml.c5.xlarge for processing job usage": 1},
        ),
        (
            "training",
            {
                "ResourceConfig": {
                    "InstancePreferences": [
                        {"InstanceType": "ml.m5.large", "InstanceCount": 2},
                        {"InstanceType": "ml.c5.xlarge"},
                    ],
                    "InstanceCount": 4,
                }
            },
            {"ml.c5.xlarge for training job usage": 4, ON_DEMAND: 2},
        ),
        (
            "training",
            {
                "ResourceConfig": {
                    "InstanceGroups": [
                        {"InstanceType": "ml.m5.large", "InstanceCount": 1, "InstanceGroupName": "a"},
                        {"InstanceType": "ml.m5.large", "InstanceCount": 2, "InstanceGroupName": "b"},
                    ]
                }
            },
            {ON_DEMAND: 3},
        ),
    ],
    ids=["training", "spot", "processing, whose count has a default", "a list of types", "groups of one type"],
)
def test_a_request_gives_its_quotas(kind, request_, expected):
    """A request needs quotas by kind, instance type and spot, with the number of hosts for each."""
    assert hosts_by_quota(KINDS[kind], request_) == expected


@given(types=st.lists(TYPES, unique=True, max_size=4))
def test_each_quota_has_a_limit_of_its_own(types):
    """Each quota has a unique limit name with characters that Prefect allows, and none looks like the name of a tag."""
    names = [
        limit_name("123456789012", "us-east-1", quota_name(use, each))
        for each in types
        for kind in KINDS.values()
        for use in kind.quota_uses
    ]

    assert len(set(names)) == len(names)
    assert not [name for name in names if set(name) & set("/%&<>") or not name.startswith("sagemaker:123456789012:")]


def test_the_name_of_a_limit():
    """A limit's name has account, region, instance type and use."""
    name = limit_name("123456789012", "eu-west-1", quota_name("spot training", "ml.p3.2xlarge"))

    assert name == "sagemaker:123456789012:eu-west-1:ml.p3.2xlarge spot training"


@pytest.mark.parametrize(
    ("region", "start"),
    [
        ("eu-west-1", "https://eu-west-1.console.aws.amazon.com/"),
        ("cn-north-1", "https://cn-north-1.console.amazonaws.cn/"),
    ],
)
def test_a_quota_has_a_page_in_the_console(region, start):
    """The link of a quota has the project's region and partition."""
    url = quota_url(make_block(region=region), "L-D9090DE7")

    assert url == f"{start}servicequotas/home/services/sagemaker/quotas/L-D9090DE7?region={region}"


# -- reading the quotas --------------------------------------------------------------------------------------------


class Client:
    """A Service Quotas client with the pages that a test gives; an exception among them is raised."""

    def __init__(self, *listings):
        self.listings = list(listings)
        self.asked = 0

    def get_paginator(self, operation):
        assert operation == "list_service_quotas"
        return self

    def paginate(self, ServiceCode):  # noqa: N803 -- boto3's word
        assert ServiceCode == "sagemaker"
        self.asked += 1
        listing = self.listings.pop(0)
        if isinstance(listing, Exception):
            raise listing
        return listing


def page(**values):
    """Return a page of quotas by their codes."""
    return {"Quotas": [{"QuotaName": f"quota {code}", "QuotaCode": code, **row} for code, row in values.items()]}


def test_concurrent_calls_share_one_listing():
    """Eight concurrent calls share one listing of all pages; a quota that AWS could not read is left out."""
    client = Client([page(a={"Value": 2.0}), page(b={"Value": 0.0}, c={"ErrorReason": {}})])
    quotas, start = ServiceQuotas(client), Barrier(8)

    def ask(_):
        start.wait()
        return quotas.by_name()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))

    assert client.asked == 1
    assert answers == [{"quota a": AccountQuota("quota a", 2, "a"), "quota b": AccountQuota("quota b", 0, "b")}] * 8


def test_bad_news_is_read_again_when_it_is_old():
    """`fresh=True` gives a listing of the last minute; other calls use the cached one."""
    now = [100.0]
    client = Client([page(a={"Value": 0.0})], [page(a={"Value": 5.0})])
    quotas = ServiceQuotas(client, clock=lambda: now[0])

    def value(**how):
        return quotas.by_name(**how)["quota a"].value

    seen = [value(), value(fresh=True)]
    now[0] += 61
    seen += [value(), value(fresh=True), value()]

    assert seen == [0, 0, 0, 5, 5]
    assert client.asked == 2


def test_a_refusal_is_asked_for_once():
    """If the quotas may not be read, the error is cached, so that hundreds of jobs do not ask again."""
    client = Client(client_error("AccessDeniedException", "no", "ListServiceQuotas"))
    quotas = ServiceQuotas(client)
    for _ in range(3):
        with pytest.raises(AccessDenied, match="list the account's quotas"):
            quotas.by_name()

    assert client.asked == 1
