"""The tree of errors: drawn as it is, and fit to travel."""

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
    """The tree at the top of the module, as (name, parent) pairs."""
    above, found = {}, {}
    for line in errors.__doc__.splitlines():
        if match := re.match(r"( {4})((?:[|` ] {2} ?)*)(?:[|`]-- )?([A-Z]\w+)", line):
            depth = (len(line) - len(line.lstrip(" |`-"))) // 4
            above[depth] = match[3]
            found[match[3]] = above.get(depth - 1)
    return found


def real():
    """The classes of the tree, as (name, parent) pairs."""
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
    """An error with all that it can carry."""
    parameters = inspect.signature(kind).parameters
    more = {name: value for name, value in FIELDS.items() if name in parameters}
    if issubclass(kind, ServiceError):
        more = {"operation": "CreateTrainingJob", "code": "ResourceInUse"}
    return kind("It broke.", fix="mend it.", **more)


def test_the_drawing_is_the_tree():
    """What the module's docstring draws is what the classes are: same names, same parents."""
    assert real() == drawn()


def test_all_names_are_public():
    """`from tasks_lib.errors import …` finds every one of them."""
    assert set(errors.__all__) == set(real())
    assert sorted(errors.__all__) == errors.__all__


def test_blocks_raise_errors_of_the_same_tree():
    """One `except PrefectSageMakerError` catches all."""
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
    """Prefect carries them to other processes: type, words and every field arrive."""
    error = made(kind)
    again = travel(error)

    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert again.args == error.args


@pytest.mark.parametrize("kind", KINDS)
def test_errors_say_what_and_what_now(kind):
    """The message first, the fix last."""
    text = str(made(kind))

    assert text.startswith("It broke.")
    assert text.endswith("To resolve this: mend it.")


def test_without_a_fix_nothing_is_promised():
    """No "To resolve this:" with nothing behind it."""
    assert str(PrefectSageMakerError("It broke.")) == "It broke."


@pytest.mark.parametrize("kind", [JobFailed, JobStopped])
def test_job_errors_tell_all_they_know(kind):
    """AWS's reason, the last lines, where to look, and the fix, in this order."""
    error = made(kind)
    places = [
        str(error).index(words) for words in ("It broke", "AlgorithmError", "algo-2 | boom", "https://", "mend it")
    ]

    assert places == sorted(places)
    assert {name: getattr(error, name) for name in FIELDS} == {**FIELDS, "last_lines": ("algo-2 | boom",)}


def test_a_job_error_with_little_is_short():
    """What is not known leaves no empty line."""
    assert str(JobError("It broke.", task="fit", job="fit-1", fix="mend it.")) == "It broke.\nTo resolve this: mend it."
