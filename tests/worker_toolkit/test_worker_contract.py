"""The command line and variables of a request: the bootstrap reads what the request's side wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_toolkit.arguments import LONGEST, LaunchOptions
from worker_toolkit.contract import LONGEST_VARIABLE, joined_variable, variable_pieces
from worker_toolkit.errors import BootstrapError
from worker_toolkit.paths import PROCESSING, TRAINING

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-._", min_size=1, max_size=20).filter(lambda name: name.strip("."))
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=700)
words = texts.map(lambda text: "".join(text.splitlines())[:LONGEST])


@st.composite
def launch_options(draw):
    """Draw options with a file or a command, channels to extract and arguments for the user's code."""
    of_file = draw(st.booleans())
    return LaunchOptions(
        entry_point=draw(paths) if of_file else None,
        command=None if of_file else draw(texts.filter(bool)),
        extract=draw(st.dictionaries(names, st.just("") | paths, max_size=3)),
        arguments=draw(st.lists(words, max_size=4)),
    )


@given(launch_options())
def test_a_command_line_is_read_as_it_was_written(options):
    """Parsing restores the options, also with long or multi-line commands and arguments that look like options."""
    written = options.to_arguments()

    assert options == LaunchOptions.parse(written)
    assert all(len(word) <= LONGEST and word.splitlines() in ([word], []) for word in written)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--entry-point"],
        ["--entry-point", "fit.py", "--command", "ls"],
        ["--entry-point", "../fit.py"],
        ["--extract", "data", "--", "--entry-point", "fit.py"],
        ["--command-json", "ls"],
        ["fit.py"],
    ],
)
def test_what_is_not_a_command_line(argv):
    """An invalid command line raises an error that says what is expected."""
    with pytest.raises(BootstrapError, match="Expected: --entry-point FILE"):
        LaunchOptions.parse(argv)


@given(texts, st.dictionaries(st.sampled_from(["HOME", "SSM_TASK"]), texts))
def test_a_long_variable_is_joined_from_its_pieces(text, others):
    """A text in pieces is restored, and each piece fits in a variable of a processing job."""
    pieces = variable_pieces("SSM_SECRETS", text)

    assert text == joined_variable("SSM_SECRETS", {**others, **pieces})
    assert all(0 < len(piece) <= LONGEST_VARIABLE for piece in pieces.values())


def test_each_kind_of_job_is_known_by_its_own_file():
    """The kinds of job have description files with different names, by which the bootstrap distinguishes them."""
    assert TRAINING.description != PROCESSING.description
