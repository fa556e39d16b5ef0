"""`overrides`: a rule for each field of the request that is written or read, compared with botocore's service model."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from whole_specs import OPERATION, PLACE, PROCESSING, SPECS, TRAINING, outputs_at

from tasks_lib import Channel, output_of
from tasks_lib.aws.request_validation import check_request
from tasks_lib.errors import InvalidName, InvalidTask
from tasks_lib.jobs.job import instances_of
from tasks_lib.jobs.kinds import KINDS, kind_of
from tasks_lib.jobs.override_rules import How
from tasks_lib.jobs.overrides import check_overrides, combined, deep_merge
from tasks_lib.jobs.request import to_request
from tasks_lib.quotas.quota import hosts_by_quota

INPUTS = {"model": output_of("fit", extract=True), "train": Channel("s3://bucket/data/")}
GROUPS = [
    {"InstanceGroupName": "cpu", "InstanceType": "ml.c5.xlarge", "InstanceCount": 2},
    {"InstanceGroupName": "gpu", "InstanceType": "ml.g5.xlarge", "InstanceCount": 1},
]
ON_EFS = {
    "ChannelName": "shared",
    "DataSource": {
        "FileSystemDataSource": {
            "FileSystemId": "fs-0123456789abcdef0",
            "FileSystemAccessMode": "ro",
            "FileSystemType": "EFS",
            "DirectoryPath": "/data",
        }
    },
}


def check(kind, overrides, *, ships_code=True):
    check_overrides(kind_of(kind), overrides, inputs=INPUTS, ships_code=ships_code)


def overridden(spec, overrides):
    check(spec.kind, overrides)
    return to_request(spec.model_copy(update={"overrides": overrides}), PLACE)


def by_name(entries, key):
    return {entry[key]: entry for entry in entries}


# -- the table and botocore's model ----------------------------------------------------------------------------------


def shape_at(shape, path):
    """Return the shape at a path of the table; fail if there is none."""
    for part in path.split("."):
        shape = shape.members[part.removesuffix("[]")]
        if part.endswith("[]"):
            shape = shape.member
    return shape


@pytest.mark.parametrize("kind", SPECS)
def test_each_row_is_a_field_of_aws(kind, sagemaker_model):
    """Each path exists in the model, and fields that are merged by member or by name have the shape for it."""
    shape = sagemaker_model.operation_model(OPERATION[kind]).input_shape
    for path, row in kind_of(kind).overrides.items():
        found = shape_at(shape, path)
        assert row.how is not How.MEMBERS or found.type_name == "structure", path
        assert row.how is not How.ENTRIES or row.key in found.member.members, path


@pytest.mark.parametrize("kind", SPECS)
def test_each_field_beside_a_written_one_has_a_row(kind, sagemaker_model):
    """Each top-level member, and each member of a merged structure, has a rule, so a new field of AWS's is noticed."""
    shape, table = sagemaker_model.operation_model(OPERATION[kind]).input_shape, kind_of(kind).overrides
    wanted = set(shape.members)
    for path, row in table.items():
        if row.how is How.MEMBERS:
            wanted |= {f"{path}.{name}" for name in shape_at(shape, path).members}
        elif row.how is How.ENTRIES:
            wanted |= {f"{path}[].{name}" for name in shape_at(shape, path).member.members if name != row.key}

    assert not sorted(wanted - table.keys())


def written(table, value, path=""):
    """Yield each path of a request, as deep as the table has rules for it, with its rule."""
    row = table[path] if path else None
    if row is None or row.how is How.MEMBERS:
        for name, below in value.items():
            yield from written(table, below, f"{path}.{name}".lstrip("."))
    elif row.how is How.ENTRIES:
        for entry in value:
            for name in entry.keys() - {row.key}:
                yield from written(table, entry[name], f"{path}[].{name}")
    else:
        yield path, row


@pytest.mark.parametrize(
    "spec",
    [
        *SPECS.values(),
        TRAINING.model_copy(update={"spot": False, "instance_types": ("ml.m5.large", "ml.c5.xlarge")}),
        TRAINING.model_copy(update={"entry_point": None}),
        PROCESSING.model_copy(update={"command": None}),
    ],
)
def test_each_written_field_has_a_rule(spec):
    """Each field that the package writes is merged or refused by its own rule."""
    found = dict(written(spec.kind.overrides, to_request(spec, PLACE)))

    assert len(found) > 10
    assert [path for path, row in found.items() if row.how is How.FREE] == []


class Read(dict):
    """A request that records which paths are read."""

    def __init__(self, value, path, seen):
        wrapped = {key: self._wrap(below, f"{path}.{key}".lstrip("."), seen) for key, below in value.items()}
        super().__init__(wrapped)
        self.path, self.seen = path, seen

    def _wrap(self, value, path, seen):
        if isinstance(value, dict):
            return Read(value, path, seen)
        if isinstance(value, list):
            return [self._wrap(one, f"{path}[]", seen) for one in value]
        return value

    def __getitem__(self, key):
        self.seen.add(f"{self.path}.{key}".lstrip("."))
        return super().__getitem__(key)

    def get(self, key, default=None):
        self.seen.add(f"{self.path}.{key}".lstrip("."))
        return super().get(key, default)


@pytest.mark.parametrize("kind", SPECS)
def test_each_field_that_is_read_has_a_rule(kind):
    """The fields that quotas and costs are read from, and their parents, have their own rules."""
    seen = set()
    request = Read(to_request(SPECS[kind], PLACE), "", seen)
    hosts_by_quota(kind_of(kind), request)
    instances_of(kind_of(kind).cluster(request))
    # Only training jobs have `InstanceGroups`; a processing job's cluster never has this field.
    unknown = {"ProcessingResources.ClusterConfig.InstanceGroups"}

    assert len(seen) > 4
    assert [path for path in seen - unknown if kind_of(kind).overrides[path].how is How.FREE] == []


# -- merged ----------------------------------------------------------------------------------------------------------


def test_values_are_replaced_and_others_kept():
    """An override replaces a field or adds one, and all other fields are kept."""
    request = overridden(
        TRAINING,
        {
            "ResourceConfig": {"KeepAlivePeriodInSeconds": 60},
            "RoleArn": "arn:aws:iam::123456789012:role/other",
            "RetryStrategy": {"MaximumRetryAttempts": 2},
        },
    )
    own = to_request(TRAINING, PLACE)

    assert request == own | {
        "ResourceConfig": own["ResourceConfig"] | {"KeepAlivePeriodInSeconds": 60},
        "RoleArn": "arn:aws:iam::123456789012:role/other",
        "RetryStrategy": {"MaximumRetryAttempts": 2},
    }


def test_a_further_channel_is_added(sagemaker_model):
    """An override can add a channel, such as a file system, beside those of the code and of `inputs`."""
    request = overridden(TRAINING, {"InputDataConfig": [ON_EFS]})

    assert request["InputDataConfig"] == [*to_request(TRAINING, PLACE)["InputDataConfig"], ON_EFS]
    check_request(sagemaker_model, "CreateTrainingJob", request)


def test_an_existing_channel_is_changed_in_place(sagemaker_model):
    """An override of an existing channel is merged into it by its name, and loses nothing of it."""
    over = [
        {
            "ChannelName": "train",
            "InputMode": "FastFile",
            "DataSource": {"S3DataSource": {"InstanceGroupNames": ["gpu"]}},
        }
    ]
    request = overridden(TRAINING, {"InputDataConfig": over, "ResourceConfig": {"InstanceGroups": GROUPS}})
    own, found = (by_name(one["InputDataConfig"], "ChannelName") for one in (to_request(TRAINING, PLACE), request))

    assert list(own) == list(found)
    assert found["train"]["InputMode"] == "FastFile"
    assert found["train"]["DataSource"]["S3DataSource"] == {
        **own["train"]["DataSource"]["S3DataSource"],
        "InstanceGroupNames": ["gpu"],
    }
    assert {name: channel for name, channel in own.items() if name != "train"} == {
        name: channel for name, channel in found.items() if name != "train"
    }
    check_request(sagemaker_model, "CreateTrainingJob", request)


def test_a_further_output_is_added(sagemaker_model):
    """A processing job's inputs and outputs are also merged by name."""
    output = {
        "OutputName": "lake",
        "S3Output": {"S3Uri": "s3://lake/x/", "LocalPath": "/opt/ml/processing/lake", "S3UploadMode": "EndOfJob"},
    }
    source = {
        "InputName": "more",
        "S3Input": {
            "S3Uri": "s3://lake/y/",
            "LocalPath": "/opt/ml/processing/input/data/more",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
        },
    }
    request = overridden(PROCESSING, {"ProcessingOutputConfig": {"Outputs": [output]}, "ProcessingInputs": [source]})
    own = to_request(PROCESSING, PLACE)

    assert request["ProcessingOutputConfig"]["Outputs"] == [*own["ProcessingOutputConfig"]["Outputs"], output]
    assert request["ProcessingInputs"] == [*own["ProcessingInputs"], source]
    check_request(sagemaker_model, "CreateProcessingJob", request)


def test_instance_groups_take_the_place_of_one_type(sagemaker_model):
    """Instance groups replace instance type and preferences, since AWS allows only one of them.

    Quotas and the result count the groups.
    """
    for types in (("ml.m5.large",), ("ml.m5.large", "ml.m5.xlarge")):
        spec = TRAINING.model_copy(update={"spot": False, "max_wait_seconds": None, "instance_types": types})
        request = overridden(spec, {"ResourceConfig": {"InstanceGroups": GROUPS}})

        assert request["ResourceConfig"] == {
            "InstanceGroups": GROUPS,
            "VolumeSizeInGB": 31,
            "VolumeKmsKeyId": "1234abcd-12ab-34cd-56ef-1234567890ab",
        }
        check_request(sagemaker_model, "CreateTrainingJob", request)
    assert list(hosts_by_quota(KINDS["training"], request).values()) == [2, 1]
    assert instances_of(request["ResourceConfig"]) == ("ml.c5.xlarge+ml.g5.xlarge", 3)


def test_the_jobs_input_mode_is_that_of_its_channels():
    """The job's input mode applies to all channels except those of the code and of inputs that are unpacked."""
    request = overridden(TRAINING, {"AlgorithmSpecification": {"TrainingInputMode": "FastFile"}})
    modes = {channel["ChannelName"]: channel["InputMode"] for channel in request["InputDataConfig"]}

    assert modes == {"model": "File", "other": "File", "train": "FastFile", "ssm_source": "File"}
    assert request["AlgorithmSpecification"]["TrainingInputMode"] == "FastFile"


def test_none_removes_what_we_write(sagemaker_model):
    """None removes the VPC, a key, the volume's size or SageMaker's metrics, and the request stays valid."""
    request = overridden(
        TRAINING,
        {
            "VpcConfig": None,
            "OutputDataConfig": {"KmsKeyId": None},
            "ResourceConfig": {"VolumeSizeInGB": None},
            "AlgorithmSpecification": {"MetricDefinitions": None, "EnableSageMakerMetricsTimeSeries": None},
            "RetryStrategy": None,
        },
    )

    assert "VpcConfig" not in request
    assert request["OutputDataConfig"] == {"S3OutputPath": PLACE.folder.uri}
    assert "VolumeSizeInGB" not in request["ResourceConfig"]
    assert not {"MetricDefinitions", "EnableSageMakerMetricsTimeSeries"} & request["AlgorithmSpecification"].keys()
    check_request(sagemaker_model, "CreateTrainingJob", request)


KEYS = {"InputDataConfig[]": "ChannelName", "ProcessingInputs[]": "InputName", "Outputs[]": "OutputName"}


def at(path, value, name):
    """Return overrides with a value at a path of the table; in a list, in an entry of that name."""
    for part in reversed(path.split(".")):
        if part.endswith("[]"):
            key = {"InputDataConfig[]": "ChannelName", "ProcessingInputs[]": "InputName", "Outputs[]": "OutputName"}[
                part
            ]
            value = [{key: name} | value if isinstance(value, dict) else value]
        value = {part.removesuffix("[]"): value}
    return value


@pytest.mark.parametrize("kind", SPECS)
def test_none_leaves_a_request_that_aws_takes_or_is_refused(kind, sagemaker_model):
    """A field that None can remove is not required by AWS; None for another field with a rule is refused."""
    for path, row in kind_of(kind).overrides.items():
        over = at(path, None, "output" if "Outputs" in path else "train")
        if row.removable:
            check_request(sagemaker_model, OPERATION[kind], overridden(SPECS[kind], over))
        elif row.how is not How.FREE and not row.with_code:
            with pytest.raises(InvalidTask):
                check(kind, over)


JUNK = st.sampled_from([None, "x", 3, True, [], ["a"], {}, {"a": None}, [{}], [None], [[1]]])


@pytest.mark.parametrize("kind", SPECS)
@given(data=st.data())
def test_overrides_of_any_form_are_accepted_or_refused(kind, sagemaker_model, data):
    """Overrides of any form give a valid request or an `InvalidTask`, for example a string in place of a mapping."""
    path = data.draw(st.sampled_from([path.rpartition(".")[0] or path for path in kind_of(kind).overrides]))
    over = at(path, data.draw(JUNK), data.draw(st.sampled_from(["train", "new"]) | JUNK))
    spec = SPECS[kind].model_copy(update={"overrides": combined(kind_of(kind), over, over)})
    with suppress(InvalidTask):
        check_request(sagemaker_model, OPERATION[kind], overridden(spec, spec.overrides))

    assert spec.kind.possible_objects(spec)


def with_tuples(value, draw):
    """Return overrides with some of their lists as tuples."""
    if isinstance(value, dict):
        return {name: with_tuples(below, draw) for name, below in value.items()}
    if not isinstance(value, list):
        return value
    entries = [with_tuples(entry, draw) for entry in value]
    return tuple(entries) if draw(st.booleans()) else entries


@given(data=st.data())
def test_a_tuple_is_a_list(data):
    """A tuple is treated like a list, as in boto3, also in the fingerprint."""
    groups = {"ResourceConfig": {"InstanceGroups": GROUPS}, "InputDataConfig": [ON_EFS]}
    output = {"ProcessingOutputConfig": {"Outputs": [{"OutputName": "output", "S3Output": {"S3Uri": "s3://b/x"}}]}}
    for kind, over in ((KINDS["training"], groups), (KINDS["processing"], output)):
        varied = with_tuples(over, data.draw)
        assert (
            combined(kind_of(kind), varied, {})
            == combined(kind_of(kind), {}, varied)
            == combined(kind_of(kind), over, {})
            == over
        )
    with pytest.raises(InvalidTask, match="name another output"):
        check("processing", combined(KINDS["processing"], {}, varied))


def test_one_further_channel_twice_is_one_channel():
    """Two entries for a channel in one list are merged, like those on two levels."""
    more = {"ChannelName": "shared", "InputMode": "FastFile"}

    assert combined(KINDS["training"], {}, {"InputDataConfig": [ON_EFS, more]}) == combined(
        KINDS["training"], {"InputDataConfig": [ON_EFS]}, {"InputDataConfig": [more]}
    )


def test_a_task_overrides_the_bound_values():
    """The task's overrides win, entry by entry, and its None removes a field that was bound for all tasks."""
    bound = {"VpcConfig": {"Subnets": ["subnet-1"]}, "InputDataConfig": [ON_EFS], "RetryStrategy": {"x": 1}}
    own = {"VpcConfig": None, "InputDataConfig": [{"ChannelName": "shared", "InputMode": "File"}]}

    assert combined(KINDS["training"], bound, own) == {
        "VpcConfig": None,
        "InputDataConfig": [ON_EFS | {"InputMode": "File"}],
        "RetryStrategy": {"x": 1},
    }


def test_outputs_that_a_plan_expects():
    """A plan shows the same places of outputs as the result."""
    plain = TRAINING.model_copy(update={"overrides": {"OutputDataConfig": {"CompressionType": "NONE"}}})
    places = [
        outputs_at(spec, PLACE, spec.kind.possible_objects(spec), has_state=False)["model"]
        for spec in (TRAINING, plain)
    ]

    assert [place.rpartition("/output/")[2] for place in places] == ["model.tar.gz", "model/"]


# -- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPECS)
def test_each_refused_field_says_what_to_do(kind):
    """The error for a refused field names the field and the way to set it."""
    table, seen = kind_of(kind).overrides, 0
    for path, row in table.items():
        if row.how is How.REFUSED and "[]" not in path:
            over = "x"
            for part in reversed(path.split(".")):
                over = {part: over}
            with pytest.raises(InvalidTask) as caught:
                check(kind, over)
            assert caught.value.message == f"overrides cannot set {path}."
            assert caught.value.fix == f"{path}: {row.advice}."
            seen += 1
    assert seen > 9, f"only {seen} fields of {kind} jobs are refused by a rule of their own"


@pytest.mark.parametrize(
    ("kind", "overrides", "words"),
    [
        ("training", {"InputDataConfig": [{"ChannelName": "ssm_source", "InputMode": "Pipe"}]}, "[ssm_source]"),
        ("processing", {"ProcessingInputs": [{"InputName": "ssm_state"}]}, "ProcessingInputs[ssm_state]"),
        (
            "training",
            {"InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": {"S3Uri": "s3://x/"}}}]},
            "InputDataConfig[train].DataSource.S3DataSource.S3Uri: say in `inputs`",
        ),
        (
            "training",
            {"InputDataConfig": [{**ON_EFS, "ChannelName": "train"}]},
            "DataSource.FileSystemDataSource: name another channel",
        ),
        (
            "training",
            {"InputDataConfig": [{"ChannelName": "model", "InputMode": "FastFile"}]},
            "leave `extract` out",
        ),
        (
            "processing",
            {"ProcessingInputs": [{"InputName": "model", "S3Input": {"S3InputMode": "Pipe"}}]},
            "leave `extract` out",
        ),
        (
            "processing",
            {"ProcessingOutputConfig": {"Outputs": [{"OutputName": "state", "S3Output": {}}]}},
            "Outputs[state].S3Output: name another output",
        ),
        ("training", {"InputDataConfig": None}, "the job needs the others"),
        ("training", {"ResourceConfig": None}, "the job needs the others"),
        ("training", {"Environment": {"SSM_FINGERPRINT": "x"}}, "use `environment`"),
    ],
)
def test_what_would_contradict_the_task_is_refused(kind, overrides, words):
    """Overrides cannot change the code, the state or the content of the task's inputs."""
    with pytest.raises(InvalidTask) as caught:
        check(kind, overrides)

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "place"), [("training", "AlgorithmSpecification"), ("processing", "AppSpecification")]
)
def test_an_image_that_is_complete_may_be_given_its_entry_point(kind, place):
    """An override may set the entry point only for a complete image, because the bootstrap does not start that job."""
    over = {place: {"ContainerEntrypoint": ["train"]}}
    check(kind, over, ships_code=False)
    with pytest.raises(InvalidTask, match=f"{place}.ContainerEntrypoint"):
        check(kind, over)


def test_a_further_channel_needs_a_variable_of_its_own():
    """An additional channel needs its own variable: `TRAIN` and `train` would both be `SM_CHANNEL_TRAIN`."""
    with pytest.raises(InvalidName, match="SM_CHANNEL_TRAIN"):
        check("training", {"InputDataConfig": [{**ON_EFS, "ChannelName": "TRAIN"}]})


# -- deep_merge ------------------------------------------------------------------------------------------------------


TREES = st.recursive(
    st.integers() | st.lists(st.integers(), max_size=2),
    lambda below: st.dictionaries(st.sampled_from("abc"), below, max_size=3),
    max_leaves=12,
)
MAPPINGS = st.dictionaries(st.sampled_from("abc"), TREES, max_size=3)


def leaves(tree, path=()):
    """Return every path to a value that is not a mapping."""
    if not isinstance(tree, dict):
        return {path: tree}
    return {where: value for key, below in tree.items() for where, value in leaves(below, (*path, key)).items()}


@given(MAPPINGS, MAPPINGS)
def test_a_merge_has_all_overrides(base, over):
    """The result has everything in the overrides, and all other values of the base, which is not modified."""
    before = json.dumps(base, sort_keys=True)
    merged = leaves(deep_merge(base, over))

    assert leaves(over).items() <= merged.items() or not leaves(over)
    for path, value in leaves(base).items():
        touched = any(path[: len(other)] == other or other[: len(path)] == path for other in leaves(over))
        assert touched or merged.get(path, value) == value
    assert before == json.dumps(base, sort_keys=True)


@given(MAPPINGS)
def test_merging_nothing_changes_nothing(tree):
    """Merging an empty mapping, or the same mapping again, changes nothing."""
    assert deep_merge(tree, {}) == deep_merge({}, tree) == deep_merge(tree, tree) == tree
