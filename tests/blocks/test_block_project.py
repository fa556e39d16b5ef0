"""The `SageMakerProject` block: its form in the UI, its validation, its clients and how it is serialized."""

import itertools
import json
from importlib.metadata import entry_points

import boto3
import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from prefect.utilities.schema_tools.validation import validate
from prefect_aws import AwsCredentials
from pydantic import SecretStr, ValidationError

from blocks import SageMakerProject, backend

PRODUCTION = {
    "subnets": ["subnet-0a1b"],
    "security_group_ids": ["sg-0a1b"],
    "volume_kms_key": "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "output_kms_key": "alias/outputs",
    "network_isolation": True,
    "encrypt_between_containers": True,
    "tags": {"team": "a", "größe": ""},
    "expected_bucket_owner": "123456789012",
    "permissions_boundary": "arn:aws:iam::123456789012:policy/boundary",
}
"""The fields that requirement X18 asks for, except those of the credentials."""


def make(**fields):
    return SageMakerProject(**({"project": "demo", "bucket": "a-bucket"} | fields))


class TestStandard(BlockStandardTestSuite):
    """Prefect's standard tests for blocks."""

    @pytest.fixture
    def block(self):
        return SageMakerProject

    def test_has_a_valid_image(self, block):
        """The block has no logo: Prefect loads logos only from a web server, and shows a plain square without one."""
        assert block._logo_url is None


@pytest.mark.parametrize("name", SageMakerProject.model_fields)
def test_every_field_has_a_title_and_a_description(name):
    """Every field has what the form in the UI shows: a capitalized title and a description that ends with a period."""
    field = SageMakerProject.model_fields[name]

    assert field.title
    assert field.title[0].isupper()
    assert field.description
    assert field.description.endswith(".")


def test_the_form_goes_from_group_to_group():
    """The fields of a group are adjacent, and outside the first group every title starts with the group's name."""
    fields = SageMakerProject.model_fields
    groups = {name: field.json_schema_extra["group"] for name, field in fields.items()}
    in_order = [group for group, _ in itertools.groupby(groups.values())]

    assert in_order == ["Place", "Access", "Jobs", "Cost", "Network", "Encryption", "This machine"]
    assert all(fields[name].title.startswith(f"{group}: ") for name, group in groups.items() if group != "Place")


def test_only_what_cannot_be_guessed_has_no_default():
    """Only the project's name and the bucket are required."""
    required = [name for name, field in SageMakerProject.model_fields.items() if field.is_required()]

    assert required == ["project", "bucket"]


def test_the_form_has_an_input_for_every_text():
    """An optional text field keeps its type, pattern and format in the schema, without `anyOf`; its default is None."""
    fields = SageMakerProject.model_json_schema()["properties"]
    region, home = fields["region"], fields["local_home"]

    assert not [name for name, field in fields.items() if "anyOf" in field]
    assert (region["type"], region["pattern"]) == ("string", r"^[a-z]{2,4}(-[a-z]+)+-\d$")
    assert (home["type"], home["format"]) == ("string", "path")
    assert [fields[name]["position"] for name in SageMakerProject.model_fields] == list(range(len(fields)))
    assert make().region is None


def complaints(**values):
    """Return the fields whose values Prefect's server finds invalid in a form."""
    found = validate({"project": "demo", "bucket": "a-bucket"} | values, SageMakerProject.model_json_schema())
    return {error.json_path.removeprefix("$.").partition("[")[0] for error in found}


def test_the_form_takes_a_good_block():
    """A complete form, a form with only the required fields, and a saved block with its nulls are all valid."""
    assert complaints() == set()
    assert complaints(**PRODUCTION, role="jobs", region="eu-west-1", hourly_prices={"ml.m5.large": 0.1}) == set()
    assert complaints(**json.loads(make().model_dump_json(include=set(SageMakerProject.model_fields)))) == set()


def test_prefect_finds_the_block_in_a_fresh_process():
    """The entry point names the block's module, and importing it registers the block under its slug."""
    points = {point.name: point.load() for point in entry_points(group="prefect.collections")}

    assert points["prefect_sagemaker"].SageMakerProject is SageMakerProject
    assert Block.get_block_class_from_key("sagemaker-project") is SageMakerProject


# -- invalid values ------------------------------------------------------------------------------------------------

BAD = [
    *(
        ("bucket", value)
        for value in ["", "ab", "UPPER", "under_score", "-a-bucket", "a-bucket-", "a" * 64, "s3://b", "a/b"]
    ),
    *(("project", value) for value in ["", "a/b", "..", ".a", "-a", "a b", "ä", "a" * 64, "a\n"]),
    *(("prefix", value) for value in ["..", "a/../b", "./a", "a/."]),
    *(("region", value) for value in ["", "us-east", "us east 1", "US-EAST-1", "s3.us-east-1", "us-east-1\n"]),
    *(("role", value) for value in ["", "a role", "arn:aws:iam::12:role/x", "arn:aws:s3:::bucket", "x" * 700]),
    *(("instance_type", value) for value in ["m5.large", "ml.m5", "", "ml.m5.large;", "local"]),
    *(("instance_count", value) for value in [0, -1, 101, "many"]),
    *(("volume_size_gb", value) for value in [0, 20000]),
    *(("max_runtime_minutes", value) for value in [0, 28 * 24 * 60 + 1]),
    ("hourly_prices", {"ml.m5.large": 0}),
    ("hourly_prices", {"ml.m5.large": float("inf")}),
    ("hourly_prices", {"m5.large": 0.1}),
    ("subnets", ["vpc-1"]),
    ("security_group_ids", ["subnet-1"]),
    ("volume_kms_key", "a key"),
    ("output_kms_key", ""),
    ("tags", {"": "x"}),
    ("tags", {"k" * 129: "x"}),
    ("tags", {"k": "x" * 257}),
    ("tags", {"aws:owner": "x"}),
    ("tags", {"AWS:owner": "x"}),
    ("tags", {f"k{number}": "" for number in range(51)}),
    ("expected_bucket_owner", "12345"),
    ("expected_bucket_owner", "arn:aws:iam::123456789012:root"),
    ("permissions_boundary", "boundary"),
    ("permissions_boundary", "arn:aws:iam::123456789012:role/x"),
]


@pytest.mark.parametrize(("field", "value"), BAD, ids=lambda value: repr(value)[:40])
def test_bad_values_are_refused(field, value):
    """An invalid value raises an error that names the field when the block is made, not when AWS creates a job."""
    with pytest.raises(ValidationError) as caught:
        make(**{field: value})

    assert {error["loc"][0] for error in caught.value.errors()} == {field}


@pytest.mark.parametrize(
    ("field", "value"),
    [row for row in BAD if row[0] not in ("prefix", "tags", "hourly_prices") and not str(row[1]).endswith("\n")],
    ids=lambda value: repr(value)[:40],
)
def test_the_forms_schema_refuses_bad_values(field, value):
    """Prefect's own check of the form refuses them too: the patterns suit every regular expression dialect."""
    assert complaints(**{field: value}) == {field}


@pytest.mark.parametrize("field", ["subnets", "security_group_ids"])
def test_a_vpc_needs_both(field):
    """`VpcConfig` requires subnets and security groups, so the block refuses one without the other."""
    with pytest.raises(ValidationError, match="both subnets and security groups"):
        make(**{field: PRODUCTION[field]})


GOOD = [
    *(("bucket", value) for value in ["abc", "a.b.c", "a" * 63, "0-0"]),
    *(("project", value) for value in ["a", "A.b_c-d", "0", "a" * 63]),
    ("role", None),
    ("role", "jobs"),
    *(("role", f"arn:aws{where}:iam::123456789012:role/a/b") for where in ("", "-us-gov", "-cn")),
    *(("instance_type", value) for value in ["ml.m5.large", "ml.p4de.24xlarge", "ml.trn1.32xlarge", "ml.u-6tb1.metal"]),
    *PRODUCTION.items(),
]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [row for row in GOOD if row[0] not in ("subnets", "security_group_ids")],
    ids=lambda value: repr(value)[:40],
)
def test_good_values_pass(field, value):
    """A valid value is stored unchanged."""
    assert getattr(make(**{field: value}), field) == value


def regions():
    """Return all regions in which botocore knows SageMaker."""
    session = boto3.Session()
    return sorted(
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("sagemaker", partition)
    )


def test_every_region_of_aws_is_one():
    """The region pattern accepts every SageMaker region of every partition that botocore knows."""
    assert regions() == [make(region=region).region for region in regions()]


def test_every_instance_type_of_aws_is_one():
    """The instance type pattern accepts every training and processing instance type that botocore lists."""
    model = boto3.client(
        "sagemaker", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none"
    ).meta.service_model
    types = {*model.shape_for("TrainingInstanceType").enum, *model.shape_for("ProcessingInstanceType").enum}

    assert types == {make(instance_type=name).instance_type for name in types}


def test_a_misspelt_field_is_refused():
    """An unknown field is an error: `network_isolaton=True` must not leave the network open."""
    with pytest.raises(ValidationError):
        make(network_isolaton=True)


# -- bucket and prefix ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [("", "demo/"), ("a", "a/demo/"), ("/a/b/", "a/b/demo/"), ("a//b", "a/b/demo/"), ("/", "demo/")],
)
def test_folder_of_a_project(prefix, expected):
    """The key prefix has one slash between its parts and one at its end."""
    project = make(prefix=prefix)

    assert expected == project.key_prefix
    assert f"s3://a-bucket/{expected}" == project.uri


@given(
    st.lists(st.sampled_from(["a", "b.c", "", "ä"]), max_size=4),
    st.lists(st.sampled_from(["a", "b.c", "", "ä"]), max_size=4),
)
def test_two_prefixes_never_share_a_folder(one, other):
    """Two prefixes give the same folder only if they are the same path."""
    first, second = make(prefix="/".join(one)), make(prefix="/".join(other))

    assert (first.key_prefix == second.key_prefix) is (list(filter(None, one)) == list(filter(None, other)))
    assert first.key_prefix.endswith("/")
    assert "//" not in first.key_prefix
    assert not first.key_prefix.startswith("/")


def test_a_project_on_this_machine(tmp_path, monkeypatch):
    """A local project needs no AWS account and no bucket. Its data is in `home`, or where the environment says."""
    monkeypatch.setenv("LOCAL_SAGEMAKER_HOME", str(tmp_path / "named"))
    monkeypatch.chdir(tmp_path)
    project = SageMakerProject.local("demo", home="here", instance_count=2)

    assert project.is_local
    assert (project.local_home, project.instance_count, project.project) == (tmp_path / "here", 2, "demo")
    assert SageMakerProject.local().local_home == tmp_path / "named"
    assert not make().is_local


def test_named_takes_a_block_or_the_local_name(tmp_path, monkeypatch):
    """`named` returns a block unchanged, and a local project for the name "local"."""
    monkeypatch.setenv("LOCAL_SAGEMAKER_HOME", str(tmp_path))
    project = make()

    assert SageMakerProject.named(project) is project
    assert SageMakerProject.named("local").is_local


# -- serialization -------------------------------------------------------------------------------------------------

CREDENTIALS = AwsCredentials(
    aws_access_key_id="AKIAEXAMPLE",
    aws_secret_access_key=SecretStr("hunter2-secret"),
    aws_session_token="hunter2-token",
    region_name="eu-central-1",
    assume_role_arn="arn:aws:iam::210987654321:role/deploy",
    assume_role_kwargs={"ExternalId": "an-external-id"},
)


def full(**more):
    return make(**PRODUCTION, region="eu-west-1", role="jobs", credentials=CREDENTIALS, local_home=None, **more)


def test_a_block_comes_back_from_json(tmp_path):
    """A block can be restored from the JSON that Prefect stores, including its secrets if they are requested."""
    block = full(image="image:1", spot=False)
    stored = block.model_dump(mode="json", context={"include_secrets": True})
    again = SageMakerProject.model_validate(json.loads(json.dumps(stored)))

    for name in SageMakerProject.model_fields:
        if name != "credentials":
            assert getattr(again, name) == getattr(block, name), name
    assert again.credentials.aws_secret_access_key.get_secret_value() == "hunter2-secret"
    assert (
        SageMakerProject.model_validate_json(SageMakerProject.local(home=tmp_path).model_dump_json()).local_home
        == tmp_path
    )


def test_secrets_are_hidden():
    """Secrets do not appear in `str`, `repr` or plain JSON."""
    block = full()

    for text in (str(block), repr(block), block.model_dump_json(), repr(block.credentials)):
        assert "hunter2-secret" not in text


def test_a_role_can_be_assumed_with_an_external_id():
    """The block's prefect-aws credentials hold the role to assume and the external ID (X18)."""
    fields = full().credentials

    assert fields.assume_role_arn == "arn:aws:iam::210987654321:role/deploy"
    assert fields.assume_role_kwargs.ExternalId == "an-external-id"


@pytest.mark.parametrize("travel", ["deepcopy", "cloudpickle"])
def test_a_block_travels(travel):
    """A block survives a deep copy and cloudpickle: Prefect does both to the values that flows take and return."""
    block = full()
    again = block.model_copy(deep=True) if travel == "deepcopy" else cloudpickle.loads(cloudpickle.dumps(block))

    assert again.model_dump() == block.model_dump()


# -- clients -------------------------------------------------------------------------------------------------------


def test_clients_are_made_once_and_again_after_forgetting():
    """The block caches its clients, which are slow to make. `forget_clients` drops them when credentials expire."""
    block = make(region="eu-west-1", credentials=AwsCredentials(aws_access_key_id="a", aws_secret_access_key="b"))
    first = block.client("sagemaker")

    assert block.client("sagemaker") is first
    block.forget_clients()
    assert block.client("sagemaker") is not first


def test_region_and_endpoint_of_clients():
    """The block's region overrides the credentials' region; the credentials' endpoint and client settings are used."""
    credentials = AwsCredentials(
        aws_access_key_id="a", aws_secret_access_key="b", region_name="eu-central-1",
        aws_client_parameters={"endpoint_url": "https://vpce.example", "config": {"connect_timeout": 7}},
    )  # fmt: skip
    client = make(region="eu-west-1", credentials=credentials).client("sagemaker")

    assert client.meta.region_name == "eu-west-1"
    assert client.meta.endpoint_url == "https://vpce.example"
    assert client.meta.config.connect_timeout == 7
    assert client.meta.config.retries["mode"] == "standard"
    assert make(credentials=credentials).region_name == "eu-central-1"


def test_a_project_is_a_folder_in_its_own_bucket():
    """A local project also has its own folder in its bucket."""
    assert SageMakerProject.local("demo").uri == f"s3://{backend.BUCKET}/demo/"


# -- origin ----------------------------------------------------------------------------------------------------------


def test_a_project_is_made_again_by_its_origin():
    """The origin restores the project in another process, which uses its own credentials; it contains no secret."""
    credentials = AwsCredentials(aws_access_key_id="key", aws_secret_access_key="s3cret")
    place = {"project": "demo", "bucket": "a-bucket", "region": "eu-west-1", "prefix": "x"}
    project = SageMakerProject(**place, credentials=credentials)
    again = SageMakerProject.from_origin(json.loads(json.dumps(project.origin)))

    assert "s3cret" not in str(project.origin)
    assert (again.uri, again.region, again.is_local) == (project.uri, "eu-west-1", False)


def test_a_local_project_is_made_again_by_its_origin(tmp_path):
    """The origin of a local project restores its home, prefix and region."""
    project = SageMakerProject.local("mine", home=tmp_path, prefix="team", region="eu-west-1")
    again = SageMakerProject.from_origin(json.loads(json.dumps(project.origin)))

    assert (again.uri, again.local_home, again.region) == (project.uri, tmp_path, "eu-west-1")
