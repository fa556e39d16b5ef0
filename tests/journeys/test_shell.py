"""`sm.shell`: a command of any length as a training job, with files beside it."""

from __future__ import annotations

import pytest
from prefect import flow

from tasks_lib import output_of
from tasks_lib.errors import InvalidRequest, InvalidTask, JobFailed

pytestmark = pytest.mark.sampled(5, group="all")

OUTPUT = '"$SM_OUTPUT_DATA_DIR"'


def test_files_land_beside_the_command(sm, tmp_path):
    """Files and directories are in the command's directory under their own names; a second call is skipped."""
    (tmp_path / "words.txt").write_text("one\ntwo\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "words.txt").write_text("three\n")
    command = f"cat words.txt more/words.txt | wc -l > {OUTPUT}/count; ls > {OUTPUT}/listed"
    files = [tmp_path / "words.txt", str(tmp_path / "more")]
    first = sm.shell("hello", command, files=files, state="none")

    assert int(first.output.read_text("count")) == 3
    assert first.output.read_text("listed").split() == ["more", "words.txt", "worker_toolkit"]
    assert (first.kind, sm.shell("hello", command, files=files, state="none").cached) == ("training", True)

    (tmp_path / "words.txt").write_text("one\n")
    changed = sm.shell("hello", command, files=files, state="none")

    assert changed.reason == "ran: code changed (words.txt)"
    assert int(changed.output.read_text("count")) == 2


def test_the_shared_arguments_and_futures(sm):
    """A shell task takes inputs of other tasks, hyperparameters, arguments and an environment as a training does."""

    @flow
    def chain():
        words = sm.shell.submit("words", f"echo one two > {OUTPUT}/words", state="none")
        count = sm.shell.submit(
            "count",
            f'cat "$SM_CHANNEL_WORDS"/words > {OUTPUT}/said; echo "$SM_HP_N $MODE $1" >> {OUTPUT}/said',
            inputs={"words": output_of(words, "output", extract=True)},
            hyperparameters={"n": 3},
            environment={"MODE": "fast"},
            arguments=["a b"],
            state="none",
        )
        return count.result()

    assert chain().output.read_text("said") == "one two\n3 fast a b\n"


@pytest.mark.parametrize("kind", ["train", "process", "shell"])
@pytest.mark.parametrize("between", [" ", "\n"], ids=["one line", "many lines"])
def test_a_command_of_any_length(between, kind, sm):
    """A command much longer than SageMaker's 256 characters an argument runs unchanged, with dashes and lines."""
    text = between.join(f"-- word {number} ö \\ $HOME --command" for number in range(90))
    command = f"printf '%s' '{text}' > {OUTPUT}/text"
    result = getattr(sm, kind)("long", command=command, state="none")

    assert len(command) > 8 * 256
    assert result.output.read_text("text") == text


def test_a_command_that_fails_fails_the_task(sm):
    """A command that exits with a code other than 0 fails the task."""
    with pytest.raises(JobFailed) as caught:
        sm.shell("fails", "echo so it is >&2; exit 7", state="none")

    assert caught.value.exit_code == 7


@pytest.mark.parametrize("command", ["", "  \n", None, ["ls"]])
def test_an_empty_command(command, sm):
    """An empty or invalid command is refused."""
    with pytest.raises(InvalidTask, match="'hello' has the command"):
        sm.shell("hello", command)


def test_one_path_is_no_list_of_files(sm):
    """A single path where a list of paths belongs is refused, and not read as a list of letters."""
    with pytest.raises(InvalidTask, match=r"give a list: \['words.txt'\]"):
        sm.shell("hello", "ls", files="words.txt")


@pytest.mark.parametrize(
    ("argument", "words"), [("y" * 257, "257 characters, at most 256 allowed"), ("a\nb", "a line break, none allowed")]
)
def test_an_argument_that_sagemaker_does_not_carry_has_a_way_out(argument, words, sm):
    """An argument beyond SageMaker's limits is named by its position; the fix says to write it to a file."""
    with pytest.raises(InvalidRequest, match=f"Argument 2 of the task 'fit' has {words}") as caught:
        sm.train("fit", command="true", arguments=["x" * 256, argument])

    assert "write it to a file" in caught.value.fix


def test_a_misspelt_argument_is_refused_at_the_call(sm):
    """The shared arguments are part of each task's signature: Prefect refuses another name when it binds the call."""
    for task in (sm.train, sm.process, sm.shell):
        with pytest.raises(Exception, match="instance_typ"):
            task("fit", command="true", instance_typ="ml.m5.large")
