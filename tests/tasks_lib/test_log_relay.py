"""The relay of a job's lines to Prefect: a console gets all of them once, the API a limited number."""

from __future__ import annotations

import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.logging.handlers import PrefectConsoleHandler

from tasks_lib.aws.logs import LogLine
from tasks_lib.prefect_runtime.log_relay import LAST_LINES, LogRelay, batches
from tasks_lib.prefect_runtime.run_context import RunContext


class Records(logging.Handler):
    """A handler that keeps all records."""

    def __init__(self):
        super().__init__()
        self.all = []
        self.logger = logging.Logger("run")  # noqa: LOG001 - private to this test
        self.logger.addHandler(self)

    def emit(self, record):
        self.all.append(record)

    @property
    def sent(self):
        """The messages that go to Prefect's API."""
        return [record.getMessage() for record in self.all if record.send_to_api]

    @property
    def shown(self):
        """The lines that a console shows."""
        return [(record.sagemaker_prefix, line) for record in self.all for line in record.sagemaker_lines]


@pytest.fixture
def records():
    return Records()


def relay(records, **more):
    run = RunContext(logger=records.logger, longest_message=more.pop("longest_message", 20_000))
    return LogRelay(run, "fit", "over there", **more)


def lines(*texts, host="algo-1"):
    return [LogLine(float(number), host, text) for number, text in enumerate(texts)]


@given(texts=st.lists(st.text(max_size=300)), most=st.integers(80, 400), margin=st.integers(0, 20))
def test_no_record_is_too_long_and_no_line_is_lost(texts, most, margin):
    """Every record is short enough as JSON, and together the records have all lines, which a console gets unbroken."""
    divided = list(batches(texts, most, margin))

    assert [line for batch in divided for line in batch.lines] == texts
    assert "".join(text for batch in divided for text in batch.said) == "".join(texts)
    for batch in divided:
        assert sum(len(json.dumps(text)) + margin for text in batch.said) <= most


def test_a_terminal_gets_each_line_once(records):
    """Prefect's own handler for a terminal shows neither the last lines again nor the remarks about them."""
    terminal = io.StringIO()
    handler = PrefectConsoleHandler(stream=terminal)
    handler.setFormatter(logging.Formatter("%(message)s"))
    records.logger.addHandler(handler)
    one = relay(records, most_lines=3)
    one.send(lines(*"abcdef"))
    one.close()

    assert terminal.getvalue().split() == [word for letter in "abcdef" for word in ("fit/algo-1", "|", letter)]
    assert "".join(records.sent).count("| f") == 1


def test_a_poll_is_one_record_for_each_host(records):
    """The lines of a host in one poll are one record, with the names of task and host before each line."""
    relay(records).send([*lines("a", "b"), *lines("c", host="algo-2")])

    assert records.sent == ["fit/algo-1 | a\nfit/algo-1 | b", "fit/algo-2 | c"]
    assert records.shown == [("fit/algo-1", "a"), ("fit/algo-1", "b"), ("fit/algo-2", "c")]


def test_a_long_line_is_cut_for_the_api_alone(records):
    """A long line is split for the API, and a console gets it unbroken."""
    relay(records, longest_message=100).send(lines("short", "x" * 250))

    assert all(len(message) <= 100 for message in records.sent)
    assert "".join(message.partition(" | ")[2] for message in records.sent) == "short" + "x" * 250
    assert [line for _, line in records.shown] == ["short", "x" * 250]


@pytest.mark.parametrize("limits", [{"most_lines": 10}, {"most_characters": 10 * len('"line 0"')}])
def test_a_job_that_says_too_much(limits, records):
    """The API gets the first lines, a note with the place of the log, and the last lines.

    A console gets each line once.
    """
    said = [f"line {number:03}" for number in range(1000)]
    one = relay(records, **limits)
    for start in range(0, 1000, 50):
        one.send(lines(*said[start : start + 50]))
    one.close()

    got = [line for message in records.sent for line in message.splitlines() if " | line" in line]
    first = len(got) - LAST_LINES
    assert 8 <= first <= 10
    assert got == [f"fit/algo-1 | {line}" for line in said[:first] + said[-LAST_LINES:]]
    assert [line for _, line in records.shown] == said
    told = [message for message in records.sent if "over there" in message]
    assert len(told) == 2
    assert f"{1000 - len(got)} lines are only in the whole log" in told[1]


def test_a_job_that_says_a_little_too_much(records):
    """If all held-back lines fit at the end, none is left out, and no note says so."""
    one = relay(records, most_lines=2)
    one.send(lines("a", "b", "c"))
    one.close()

    assert records.sent[0] == "fit/algo-1 | a\nfit/algo-1 | b"
    assert records.sent[-1] == "fit/algo-1 | c"
    assert not [message for message in records.sent if "only in the whole log" in message]


def test_the_last_lines_are_bounded_too(records):
    """The last lines are limited by their length too, since a line may be as long as CloudWatch allows."""
    one = relay(records, most_lines=1)
    one.send(lines("first", *["x" * 60_000] * 5))
    one.close()

    assert sum(map(len, records.sent)) < 200_000
    assert [len(line) for _, line in records.shown] == [5, *[60_000] * 5]
