"""The table of job kinds: it agrees with botocore's service model, with boto3 and with the AWS CLI."""

from __future__ import annotations

import pytest

from tasks_lib.jobs.kind import Phase
from tasks_lib.jobs.kinds import KINDS, kind_of
from tasks_lib.options import JobOptions

EACH = pytest.mark.parametrize("kind", KINDS.values(), ids=str)


@EACH
def test_its_words_are_those_of_aws(kind, sagemaker_model):
    """Operations, fields, statuses and the name's limit are those of botocore's model."""
    create, describe, listed, stop = (
        sagemaker_model.operation_model(kind.api.operation(verb)) for verb in ("Create", "Describe", "List", "Stop")
    )
    row = listed.output_shape.members[kind.api.summaries].member

    assert create.input_shape.members[kind.api.name].metadata["max"] == kind.name_limit
    assert kind.api.arn in create.output_shape.members
    assert kind.api.name in stop.input_shape.members
    assert {kind.api.name, kind.api.status} <= row.members.keys()
    fields = {kind.api.name, kind.api.arn, kind.api.status, kind.api.start_time, kind.api.end_time}
    assert fields <= describe.output_shape.members.keys()
    assert set(describe.output_shape.members[kind.api.status].enum) <= kind.statuses.keys()


@EACH
def test_its_methods_are_those_of_boto3_and_its_commands_those_of_the_cli(kind, block):
    """The methods are those of boto3's client, and the command is that of the AWS CLI with its option for the name."""
    client = block.client("sagemaker")
    for verb in ("Create", "Describe", "List", "Stop"):
        assert client.meta.method_to_api_mapping[kind.api.method(verb)] == kind.api.operation(verb)

    assert kind.api.command("Stop", "x") == f"aws sagemaker stop-{kind}-job --{kind}-job-name x"


@EACH
def test_it_is_one_whole(kind):
    """Each phase has a status, defaults are valid values, and the options are those of a job."""
    for phase in (Phase.IN_PROGRESS, Phase.STOPPING, Phase.COMPLETED, Phase.FAILED, Phase.STOPPED):
        assert kind.phase_of(kind.status_of(phase)) is phase
    assert kind.default_output in kind.outputs
    assert kind.computing in kind.phases
    assert issubclass(kind.options, JobOptions)
    assert kind.inputs_field in kind.overrides
    assert kind_of(kind.name) is kind_of(kind) is kind


def test_what_a_newer_version_made_is_named():
    """An unknown kind, as in a record of a newer version, is an error that names it."""
    with pytest.raises(ValueError, match="there is no kind of job 'rehearsal', only training, processing"):
        kind_of("rehearsal")
