"""The tree of errors: it is as documented, and errors can be copied and pickled."""

import copy
import inspect
import pickle
import re

import cloudpickle
import pytest

import blocks
from tasks_lib import errors
from tasks_lib.errors import JobError, JobFailed, JobStopped, PrefectSageMakerError, ServiceError


def drawn():
    """Return the tree in the module's docstring, as pairs of name and parent."""
    above, found = {}, {}
    for line in errors.__doc__.splitlines():
        if match := re.match(r"( {4})((?:[|` ] {2} ?)*)(?:[|`]-- )?([A-Z]\w+)", line):
            depth = (len(line) - len(line.lstrip(" |`-"))) // 4
            above[depth] = match[3]
            found[match[3]] = above.get(depth - 1)
    return found


def real():
    """Return the tree of the classes, as pairs of name and parent."""
    found, waiting = {"PrefectSageMakerError": None}, [PrefectSageMakerError]
    while waiting:
        parent = waiting.pop()
        ours = [kind for kind in parent.__subclasses__() if kind.__module__.split(".")[0] in ("blocks", "tasks_lib")]
        found |= {kind.__name__: parent.__name__ for kind in ours}
        waiting += ours
    return found


KINDS = [getattr(errors, name) for name in errors.__all__]
FIELDS = {"task": "fit", "job": "fit-1", "arn": "arn:x", "reason": "AlgorithmError", "exit_code": 3, "host": "algo-2",
          "last_lines": ["algo-2 | boom"], "link": "https://console"}  # fmt: skip


def made(kind):
    """Return an error with all fields that it can have."""
    parameters = inspect.signature(kind).parameters
    more = {name: value for name, value in FIELDS.items() if name in parameters}
    if issubclass(kind, ServiceError):
        more = {"operation": "CreateTrainingJob", "code": "ResourceInUse"}
    return kind("It broke.", fix="mend it.", **more)


def test_the_drawing_is_the_tree():
    """The tree in the module's docstring has the names and parents of the classes."""
    assert real() == drawn()


def test_all_names_are_public():
    """`tasks_lib.errors` exports every error, in alphabetical order."""
    assert set(errors.__all__) == set(real())
    assert sorted(errors.__all__) == errors.__all__


def test_blocks_raise_errors_of_the_same_tree():
    """The errors of `blocks` are in the same tree, so `except PrefectSageMakerError` catches them."""
    for name in ("BackendNotRunning", "BlockInvalid", "BlockNotFound", "LoopbackOnly"):
        assert getattr(blocks, name) is getattr(errors, name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "travel",
    [
        copy.copy,
        copy.deepcopy,
        lambda error: pickle.loads(pickle.dumps(error)),
        lambda error: cloudpickle.loads(cloudpickle.dumps(error)),
    ],
    ids=["copy", "deepcopy", "pickle", "cloudpickle"],
)
def test_errors_travel(kind, travel):
    """Errors keep their type, text and fields when they are copied or pickled, as Prefect does between processes."""
    error = made(kind)
    again = travel(error)

    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert again.args == error.args


@pytest.mark.parametrize("kind", KINDS)
def test_errors_have_the_message_first_and_the_fix_last(kind):
    """The text starts with the message and ends with the fix."""
    text = str(made(kind))

    assert text.startswith("It broke.")
    assert text.endswith("To resolve this: mend it.")


def test_without_a_fix_nothing_is_promised():
    """Without a fix the text has no "To resolve this:"."""
    assert str(PrefectSageMakerError("It broke.")) == "It broke."


@pytest.mark.parametrize("kind", [JobFailed, JobStopped])
def test_job_errors_have_all_their_fields(kind):
    """The text of a job's error has the message, AWS's reason, the last lines, the link and the fix, in this order."""
    error = made(kind)
    places = [
        str(error).index(words) for words in ("It broke", "AlgorithmError", "algo-2 | boom", "https://", "mend it")
    ]

    assert places == sorted(places)
    assert {name: getattr(error, name) for name in FIELDS} == {**FIELDS, "last_lines": ("algo-2 | boom",)}


def test_a_job_error_with_little_is_short():
    """Unknown fields leave no empty line in the text."""
    assert str(JobError("It broke.", task="fit", job="fit-1", fix="mend it.")) == "It broke.\nTo resolve this: mend it."
