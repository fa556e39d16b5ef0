"""Fingerprints: they cover what determines a result and nothing else, and they never change between versions.

The hashes in `golden_fingerprints.json` are promises to users: **a change of one needs an entry in CHANGELOG.md that
says which steps will run again.** A new spec gets a new line; an old line is never edited for convenience.
"""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.jobs.fingerprint import differences, fingerprint, ingredients
from tasks_lib.jobs.kinds import KINDS, PROCESSING, TRAINING
from tasks_lib.jobs.manifest import Item, Manifest
from tasks_lib.jobs.spec import JobSpec, ResolvedChannel

GOLDEN = json.loads((Path(__file__).parent / "golden_fingerprints.json").read_text())
CONTRACT = 1


def spec(**changed):
    """Return a spec with all fields that a fingerprint covers."""
    given = {
        "kind": TRAINING,
        "task": "fit",
        "image": "image:1",
        "entry_point": "fit.py",
        "arguments": ("-v",),
        "hyperparameters": {"C": 0.1, "name": "svm"},
        "environment": {"MODE": "fast"},
        "instance_types": ("ml.m5.large",),
        "instance_count": 1,
        "volume_size_gb": 30,
        "max_runtime_seconds": 3600,
    }
    return JobSpec(**(given | changed))


def code(**changed):
    """Return the manifest of two source files."""
    return Manifest({"fit.py": Item(10, "aa"), "lib/util.py": Item(20, "bb", executable=True)} | changed)


def channel(name="train", *, identity=None, **changed):
    """Return a channel of local data."""
    given = {"uri": "s3://b/x/", "distribution": "FullyReplicated", "identity": identity or {"digest": "dd"}}
    return ResolvedChannel(name, **(given | changed))


def parts(the_spec=None, source=None, channels=None, contract=CONTRACT):
    """Return the ingredients of a spec with the usual code and input."""
    return ingredients(
        the_spec or spec(),
        code() if source is None else source,
        (channel(),) if channels is None else channels,
        contract,
    )


def of(*given, **named):
    """Return the fingerprint of `parts`."""
    return fingerprint(parts(*given, **named))


JOB = {"job": "prepare-0123-1", "output": "output", "part": ""}
S3 = {"uri": "s3://foreign/data/", "digest": "ee"}
GOLDEN_SPECS = {
    "training": of,
    "training without code": lambda: of(spec(entry_point=None), Manifest({})),
    "training of a command": lambda: of(spec(entry_point=None, command="make all")),
    "training without inputs": lambda: of(channels=()),
    "training on two hosts": lambda: of(spec(instance_count=2)),
    "training without state": lambda: of(spec(state="none")),
    "training in isolation": lambda: of(spec(network_isolation=True)),
    "training without hyperparameters": lambda: of(spec(hyperparameters={})),
    "training with a text that looks like a number": lambda: of(spec(hyperparameters={"C": "0.1"})),
    "training with a number": lambda: of(spec(hyperparameters={"C": 0.1})),
    "training with nested hyperparameters": lambda: of(spec(hyperparameters={"a": {"b": [1, None, True]}})),
    "training with umlauts": lambda: of(spec(hyperparameters={"name": "Größe"}, environment={"ÄÖ": "ß"})),
    "training without environment": lambda: of(spec(environment={})),
    "training without arguments": lambda: of(spec(arguments=())),
    "training of another image": lambda: of(spec(image="image@sha256:" + "0" * 64)),
    "training of a sharded input": lambda: of(channels=(channel(distribution="ShardedByS3Key"),)),
    "training of a task's output": lambda: of(channels=(channel(identity=JOB),)),
    "training of an unpacked model": lambda: of(channels=(channel(identity=JOB, extract=True, subdir="best"),)),
    "training of an S3 prefix": lambda: of(channels=(channel(identity=S3),)),
    "training of three inputs": lambda: of(channels=(channel("a"), channel("b"), channel("c", identity=JOB))),
    "training with an override": lambda: of(spec(overrides={"RetryStrategy": {}, "ResourceConfig": {"Foo": 1}})),
    "training with metrics": lambda: of(spec(metrics={"auc": "auc=(.*)"})),
    "training on spot": lambda: of(spec(spot=True, max_wait_seconds=9000)),
    "processing": lambda: of(spec(kind=PROCESSING, hyperparameters={})),
    "processing of a command": lambda: of(spec(kind=PROCESSING, entry_point=None, command="ls", hyperparameters={})),
    "processing on five hosts": lambda: of(spec(kind=PROCESSING, instance_count=5, hyperparameters={})),
    "processing of a complete image": lambda: of(
        spec(kind=PROCESSING, entry_point=None, hyperparameters={}), Manifest({})
    ),
    "processing of a state": lambda: of(
        spec(kind=PROCESSING, hyperparameters={}),
        channels=(channel(identity={"uri": "s3://b/t/state/", "digest": "f"}),),
    ),
    "processing with an override": lambda: of(
        spec(kind=PROCESSING, hyperparameters={}, overrides={"AppSpecification": {"ContainerEntrypoint": ["/x"]}})
    ),
    "code of one file": lambda: of(source=Manifest({"main.sh": Item(1, "cc", executable=True)})),
}


@pytest.mark.parametrize("name", ["MODE", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY"])
def test_another_value_of_a_variable_is_other_work(name):
    """Another value of an environment variable changes the fingerprint, also of a secret one."""
    assert of(spec(environment={name: "one"})) != of(spec(environment={name: "two"}))


def test_there_are_thirty_golden_specs():
    """There are 30 specs, and each has exactly one hash in the file."""
    assert len(GOLDEN_SPECS) == 30
    assert GOLDEN.keys() == GOLDEN_SPECS.keys()


@pytest.mark.parametrize("name", GOLDEN_SPECS)
def test_golden_fingerprints(name):
    """The fingerprint is the one in the file, so that earlier results are found.

    A change needs an entry in the changelog.
    """
    assert GOLDEN[name] == GOLDEN_SPECS[name]()


# -- what is covered -----------------------------------------------------------------------------------------------

MATTERS = {
    "kind": lambda: parts(spec(kind=PROCESSING)),
    "image": lambda: parts(spec(image="image:2")),
    "entry point": lambda: parts(spec(entry_point="other.py")),
    "command": lambda: parts(spec(entry_point=None, command="fit.py")),
    "an argument": lambda: parts(spec(arguments=("-q",))),
    "another argument first": lambda: parts(spec(arguments=("-q", "-v"))),
    "a hyperparameter": lambda: parts(spec(hyperparameters={"C": 0.2, "name": "svm"})),
    "one more hyperparameter": lambda: parts(spec(hyperparameters={"C": 0.1, "name": "svm", "x": None})),
    "type of a hyperparameter": lambda: parts(spec(hyperparameters={"C": "0.1", "name": "svm"})),
    "a variable": lambda: parts(spec(environment={"MODE": "slow"})),
    "name of a variable": lambda: parts(spec(environment={"MOOD": "fast"})),
    "instance count": lambda: parts(spec(instance_count=2)),
    "network isolation": lambda: parts(spec(network_isolation=True)),
    "state": lambda: parts(spec(state="none")),
    "an override with effect": lambda: parts(spec(overrides={"AlgorithmSpecification": {"TrainingInputMode": "Pipe"}})),
    "an override of a volume's neighbour": lambda: parts(spec(overrides={"ResourceConfig": {"InstanceCount": 3}})),
    "a byte of code": lambda: parts(source=code(**{"fit.py": Item(10, "ab")})),
    "name of a file": lambda: parts(source=code(**{"new.py": Item(1, "cc")})),
    "executable flag of a file": lambda: parts(source=code(**{"fit.py": Item(10, "aa", executable=True)})),
    "no code": lambda: parts(source=Manifest({})),
    "content of an input": lambda: parts(channels=(channel(identity={"digest": "d0"}),)),
    "name of an input": lambda: parts(channels=(channel("test"),)),
    "distribution of an input": lambda: parts(channels=(channel(distribution="ShardedByS3Key"),)),
    "unpacking of an input": lambda: parts(channels=(channel(extract=True),)),
    "subdir of an input": lambda: parts(channels=(channel(subdir="a"),)),
    "producer of an input": lambda: parts(channels=(channel(identity=JOB),)),
    "one more input": lambda: parts(channels=(channel(), channel("x"))),
    "no input": lambda: parts(channels=()),
    "contract of the toolkit": lambda: parts(contract=2),
}


@pytest.mark.parametrize("what", MATTERS)
def test_what_determines_the_result_changes_the_fingerprint(what):
    """A change that may change the result changes the fingerprint."""
    assert fingerprint(MATTERS[what]()) != of()


def test_all_these_changes_differ_from_each_other():
    """Any two of these changes give different fingerprints."""
    found = [fingerprint(change()) for change in MATTERS.values()]

    assert len(set(found)) == len(found)


# -- what is not covered -------------------------------------------------------------------------------------------

MAKES_NO_DIFFERENCE = {
    "task": {"task": "other"},  # the job's name has it, with the task's URI
    "instance type": {"instance_types": ("ml.p5.48xlarge",)},
    "spot": {"spot": True, "max_wait_seconds": 9999},
    "longest run": {"max_runtime_seconds": 60},
    "volume": {"volume_size_gb": 500},
    "tags": {"tags": {"team": "b"}},
    "VPC": {"subnets": ("subnet-1",), "security_group_ids": ("sg-1",)},
    "keys": {"volume_kms_key": "k", "output_kms_key": "l"},
    "encryption between containers": {"encrypt_between_containers": True},
    "metrics": {"metrics": {"auc": "auc=(.*)"}},
    "role": {"overrides": {"RoleArn": "arn:aws:iam::123456789012:role/other"}},
    "tags by override": {"overrides": {"Tags": [{"Key": "a", "Value": "b"}]}},
    "instance type by override": {"overrides": {"ResourceConfig": {"InstanceType": "ml.c5.large"}}},
    "warm pool": {"overrides": {"ResourceConfig": {"KeepAlivePeriodInSeconds": 600}}},
    "keys by override": {"overrides": {"OutputDataConfig": {"KmsKeyId": "k"}}},
    "VPC by override": {"overrides": {"VpcConfig": {"Subnets": ["subnet-1"]}}},
    "timeouts by override": {"overrides": {"StoppingCondition": {"MaxPendingTimeInSeconds": 7200}}},
    "retries": {"overrides": {"RetryStrategy": {"MaximumRetryAttempts": 3}}},
    "experiment": {"overrides": {"ExperimentConfig": {"ExperimentName": "x"}}},
}


@pytest.mark.parametrize("what", MAKES_NO_DIFFERENCE)
def test_what_changes_price_or_place_keeps_the_fingerprint(what):
    """A change that affects only the price or the place of a job keeps the fingerprint."""
    assert of(spec(**MAKES_NO_DIFFERENCE[what])) == of()


def test_each_kind_ignores_its_own_fields(sagemaker_model):
    """Each ignored field of a kind exists in AWS's request, and its value does not change the fingerprint."""
    for kind in KINDS.values():
        for path in kind.ignored_request_fields:
            shape = sagemaker_model.operation_model(kind.api.operation("Create")).input_shape
            for name in path.split("."):
                shape = shape.members[name.removesuffix("[]")]
                shape = shape.member if name.endswith("[]") else shape
            specs = [spec(kind=kind, hyperparameters={}, overrides=nested(path, value)) for value in "xy"]

            assert len({of(one) for one in specs}) == 1, path


def nested(path, value):
    for name in reversed(path.split(".")):
        value = {name.removesuffix("[]"): [value] if name.endswith("[]") else value}
    return value


def test_where_an_input_was_put_is_not_its_identity():
    """The identity of local data depends neither on the place of its copy nor on the listing."""
    assert (
        of(channels=(channel(uri="s3://elsewhere/y/", manifest=Manifest({"a": Item(1, "z")}), foreign=True),)) == of()
    )


VALUES = st.recursive(
    st.integers() | st.text(max_size=4), lambda below: st.dictionaries(st.text(max_size=4), below), max_leaves=6
)
DICTS = st.dictionaries(st.text(min_size=1, max_size=5), VALUES, max_size=5)


def shuffled(tree, order):
    """Return the same mapping in another order, at every level."""
    if not isinstance(tree, dict):
        return tree
    rows = list(tree.items())
    order.shuffle(rows)
    return {key: shuffled(value, order) for key, value in rows}


@given(DICTS, st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=5), st.integers())
def test_the_order_of_dicts_does_not_matter(hyperparameters, environment, seed):
    """The order of keys in dicts, at any level, does not change the fingerprint."""
    order = random.Random(seed)
    one = spec(hyperparameters=hyperparameters, environment=environment, overrides={"A": hyperparameters})
    other = spec(
        hyperparameters=shuffled(hyperparameters, order),
        environment=shuffled(environment, order),
        overrides={"A": shuffled(hyperparameters, order)},
    )

    assert of(one) == of(other)


def test_the_order_of_inputs_does_not_matter():
    """The order of inputs does not change the fingerprint, although the resolver sorts them anyway."""
    one, other = channel("a"), channel("b", identity=JOB)

    assert of(channels=(one, other)) == of(channels=(other, one))


def test_secrets_are_not_in_the_ingredients():
    """The ingredients, which are written to the ledger, have a variable's hash instead of its value."""
    found = ingredients(spec(environment={"TOKEN": "hunter2"}), code(), (), CONTRACT)

    assert "hunter2" not in json.dumps(found)
    assert "TOKEN" in found["environment"]


def test_ingredients_survive_the_ledger():
    """Ingredients are plain JSON: read back, they are equal and have the same fingerprint."""
    found = ingredients(spec(overrides={"A": {"B": [1, 2]}}), code(), (channel(), channel("b", identity=JOB)), CONTRACT)

    assert json.loads(json.dumps(found)) == found
    assert fingerprint(json.loads(json.dumps(found))) == fingerprint(found)


def test_tuples_in_overrides_survive_the_ledger():
    """A tuple in an override, which botocore accepts, equals the list that the ledger returns."""
    found = ingredients(spec(overrides={"A": (1, 2)}), code(), (), CONTRACT)

    assert differences(json.loads(json.dumps(found)), found) == []


# -- differences in words ------------------------------------------------------------------------------------------

BASE = ingredients(spec(), code(), (channel(),), CONTRACT)
WORDS = {
    "an input": ((spec(), code(), (channel(identity={"digest": "d0"}),)), ['input "train" changed']),
    "a new producer": (
        (spec(), code(), (channel(identity=JOB),)),
        ['input "train" comes from another job (prepare-0123-1)'],
    ),
    "an input more": ((spec(), code(), (channel(), channel("x"))), ['input "x" added']),
    "an input less": ((spec(), code(), ()), ['input "train" removed']),
    "a file": ((spec(), code(**{"fit.py": Item(10, "ab")}), (channel(),)), ["code changed (fit.py)"]),
    "many files": (
        (spec(), code(**{f"{letter}.py": Item(1, "x") for letter in "abcde"}), (channel(),)),
        ["code changed (a.py, b.py, c.py and 2 more)"],
    ),
    "a hyperparameter": (
        (spec(hyperparameters={"C": 0.2, "name": "svm"}), code(), (channel(),)),
        ['hyperparameter "C" changed (0.1 -> 0.2)'],
    ),
    "a hyperparameter less": (
        (spec(hyperparameters={"C": 0.1}), code(), (channel(),)),
        ['hyperparameter "name" removed'],
    ),
    "a variable": (
        (spec(environment={"MODE": "slow"}), code(), (channel(),)),
        ['environment variable "MODE" changed'],
    ),
    "the hosts": ((spec(instance_count=3), code(), (channel(),)), ["instance count changed (1 -> 3)"]),
    "the image": ((spec(image="image:2"), code(), (channel(),)), ["image changed (image:1 -> image:2)"]),
    "arguments": ((spec(arguments=("-q",)), code(), (channel(),)), ["arguments changed"]),
    "an override": (
        (spec(overrides={"A": {"B": 1, "C": {}}, "D": [1]}), code(), (channel(),)),
        ['override "A.B" added', 'override "A.C" added', 'override "D" added'],
    ),
    "nothing": ((spec(), code(), (channel(),)), []),
    "several": (
        (spec(image="image:2", environment={}), code(), (channel(identity={"digest": "d0"}),)),
        ['input "train" changed', 'environment variable "MODE" removed', "image changed (image:1 -> image:2)"],
    ),
}


@pytest.mark.parametrize("what", WORDS)
def test_differences_in_words(what):
    """Differences are listed in words, the most informative first."""
    parts, expected = WORDS[what]

    assert expected == differences(BASE, ingredients(*parts, CONTRACT))


@pytest.mark.parametrize("what", MATTERS)
def test_every_change_of_the_fingerprint_has_a_difference(what):
    """Every change of the fingerprint has at least one line of difference, so that every run has a reason."""
    assert differences(BASE, MATTERS[what]())


@given(st.permutations(["-v", "-q", "-x"]))
def test_the_order_of_arguments_matters(arguments):
    """The order of arguments changes the fingerprint, because they are a list."""
    same = tuple(arguments) == ("-v", "-q", "-x")

    assert (of(spec(arguments=tuple(arguments))) == of(spec(arguments=("-v", "-q", "-x")))) is same


def test_an_ingredient_that_was_removed_is_a_difference():
    """An unknown ingredient in a record of a newer version is also a difference."""
    assert differences({**BASE, "new part": 1}, BASE) == ["new part changed (1 -> None)"]
