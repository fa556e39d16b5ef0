"""What a run shows: at several terminal widths, into a pipe, and from several threads at once."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading

import pytest
from rich.console import Console

from tasks_lib import JobResult
from tasks_lib.console import JobConsole, JobLogHandler, summary

WIDTHS = (80, 100, 200)


def result(task: str, *, cached: bool = False, why: str = "first run", **metrics: float) -> JobResult:
    """Return a result with names and URIs of the longest form that AWS has."""
    training = task.startswith("fit")
    job = f"{re.sub('[^A-Za-z0-9]', '-', task)}-5f3a9c1e7b2d4860-1"
    folder = f"s3://sagemaker-eu-central-1-123456789012/teams/diagnostics/quickstart/{task}"
    outputs = {"output": f"{folder}/{job}/output/", "source": f"{folder}/source.tar.gz"}
    if training:
        outputs |= {"model": f"{folder}/{job}/output/model.tar.gz", "state": f"{folder}/state/"}
    return JobResult(
        project="quickstart",
        task=task,
        job=job,
        arn=f"arn:aws:sagemaker:eu-central-1:123456789012:job/{job}",
        kind="training" if training else "processing",
        cached=cached,
        reason=f"{'skipped' if cached else 'ran'}: {why}",
        seconds=3.14159,
        metrics=metrics,
        outputs=outputs,
        fingerprint="0" * 64,
    )


RESULTS = [
    result("prepare", cached=True, why="nothing changed"),
    result(
        "fit-C0.1",
        why='input "train" changed (1 of 2 objects); hyperparameter "epochs" changed (12 -> 24)',
        auc=0.9906,
        loss=0.06621,
    ),
    result("fit-C1.0", auc=0.99, loss=0.0278),
    result("evaluate", why='input "model_0" comes from another job (fit-C0-1-5f3a9c1e7b2d4860-1)'),
]


class Screen:
    """A terminal of the given width, or a pipe, that records what is written."""

    def __init__(self, width: int | None = None, *, encoding: str = "utf-8"):
        self._bytes = io.BytesIO()
        self._file = io.TextIOWrapper(self._bytes, encoding=encoding, write_through=True)
        terminal = {} if width is None else {"width": width, "force_terminal": True, "color_system": "standard"}
        self.console = JobConsole(Console(file=self._file, highlight=False, _environ={}, **terminal))
        handler = JobLogHandler(self.console)
        self.log = logging.Logger("job")  # noqa: LOG001  private: records of other tests must not arrive here
        self.log.addHandler(handler)

    @property
    def written(self) -> str:
        return self._bytes.getvalue().decode(self._file.encoding)

    @property
    def text(self) -> str:
        """The recorded text without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.written)

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def line(self, prefix: str, *lines: str) -> None:
        """Log lines of a job as `tasks_lib` does."""
        message = "\n".join(f"{prefix} | {line}" for line in lines)
        self.log.info("%s", message, extra={"sagemaker_prefix": prefix, "sagemaker_lines": lines})

    def status(self, task: str, status: str) -> None:
        self.log.info("%s: %s", task, status, extra={"sagemaker_prefix": task, "sagemaker_status": status})


def colour_of(screen: Screen, text: str) -> str:
    """Return the colour in which a text first appears."""
    return re.search(rf"\x1b\[(?:1;)?(\d+)m{re.escape(text)}", screen.written)[1]


# The jobs' logs


def test_a_line_stands_behind_its_job_and_host():
    """Lines have the form `task/host | message`; the bars of a run, and the marks of statuses, are in one column."""
    screen = Screen()
    screen.console.align(["prepare/algo-2", "fit-C1.0/algo-1"])
    screen.status("prepare", "Processing")
    screen.line("prepare/algo-2", "71 rows")
    screen.line("fit-C1.0/algo-1", "epoch=3 loss=0.123 auc=0.987")
    screen.status("prepare", "Completed")

    assert screen.lines == [
        "prepare         > Processing",
        "prepare/algo-2  | 71 rows",
        "fit-C1.0/algo-1 | epoch=3 loss=0.123 auc=0.987",
        "prepare         > Completed",
    ]


def test_each_line_of_a_record_is_shown_by_itself():
    """Each raw line of a record is shown with the prefix; a record with no raw lines is not shown here."""
    screen = Screen()
    screen.line("prepare/algo-1", "71 rows", "", "written")
    screen.log.info("the whole log is elsewhere", extra={"sagemaker_prefix": "prepare", "sagemaker_lines": ()})

    assert [line.rstrip() for line in screen.lines] == [
        "prepare/algo-1 | 71 rows",
        "prepare/algo-1 |",
        "prepare/algo-1 | written",
    ]


def test_a_record_without_the_raw_lines_shows_its_message():
    """A record that has a prefix but no raw lines is shown as its message."""
    screen = Screen()
    screen.log.info("%d rows", 71, extra={"sagemaker_prefix": "prepare/algo-1"})

    assert screen.lines == ["prepare/algo-1 | 71 rows"]


def test_a_task_has_one_colour_everywhere():
    """A task's lines of the log and its row in the results share a colour that no other task has."""
    logs, table = Screen(100), Screen(100)
    for each in RESULTS:
        logs.line(f"{each.task}/algo-1", "a line")
    table.console.show_results(RESULTS)

    colours = {each.task: colour_of(logs, f"{each.task}/algo-1") for each in RESULTS}
    assert len(set(colours.values())) == len(RESULTS)
    assert colours == {each.task: colour_of(table, each.task) for each in RESULTS}


@pytest.mark.parametrize("width", WIDTHS)
def test_a_long_line_is_folded_behind_its_prefix(width: int):
    """On a terminal every line of a folded message has the prefix, and the message is complete."""
    screen = Screen(width)
    message = " ".join(f"word{number}" for number in range(80))
    screen.line("fit-C1.0/algo-1", message)

    assert len(screen.lines) > 1
    assert all(len(line) <= width for line in screen.lines)
    assert all(line.startswith("fit-C1.0/algo-1 | ") for line in screen.lines)
    assert " ".join(line.partition(" | ")[2].strip() for line in screen.lines) == message


def test_a_pipe_gets_each_line_whole():
    """In a pipe a message of any length is one line without escape sequences."""
    screen = Screen()
    message = "x" * 1000
    screen.line("fit-C1.0/algo-1", message)

    assert screen.written == f"fit-C1.0/algo-1 | {message}\n"


def test_every_line_of_a_message_has_its_prefix():
    """Every line of a multi-line message has the prefix, including blank lines; brackets are not markup."""
    screen = Screen()
    screen.line("fit-C1.0/algo-1", "Traceback\n\n  File [red] x")

    assert [line.rstrip() for line in screen.lines] == [
        "fit-C1.0/algo-1 | Traceback",
        "fit-C1.0/algo-1 |",
        "fit-C1.0/algo-1 |   File [red] x",
    ]


def test_a_job_keeps_its_colours_and_nothing_else():
    """Colours are kept, a progress bar shows its last state, and other control sequences are removed."""
    screen = Screen(80)
    screen.line("fit/algo-1", "\x1b[32mgreen\x1b[0m")
    screen.line("fit/algo-1", " 10%\r 50%\r100%\r")
    screen.line("fit/algo-1", "bell\x07 reset\x1bc title\x1b]0;x")

    assert "\x1b[32mgreen" in screen.written
    assert screen.lines[:2] == ["fit/algo-1 | green", "fit/algo-1 | 100%"]
    assert not re.search(r"[\x00-\x09\x0b-\x1a\x1c-\x1f\x7f-\x9f]|\x1b[^\[]", screen.written)


def test_threads_do_not_mix_their_lines():
    """Lines of eight threads, also folded ones, are not interleaved, and each thread's lines stay in order."""
    screen = Screen(60)
    messages = {f"fit-{name}/algo-1": [f"{name}{number} " + name * 60 for number in range(40)] for name in "abcdefgh"}
    start = threading.Barrier(len(messages))

    def work(prefix: str) -> None:
        start.wait()
        for message in messages[prefix]:
            screen.line(prefix, message)

    threads = [threading.Thread(target=work, args=(prefix,)) for prefix in messages]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)

    # The console prints the lines of a message together: "a0", 44 letters, the other 16.
    rest = iter(screen.lines)
    seen: dict[str, list[str]] = {prefix: [] for prefix in messages}
    for line in rest:
        prefix = line.partition(" | ")[0]
        parts = [line.partition(" | ")[2], *(next(rest).removeprefix(f"{prefix} | ") for _ in range(2))]
        seen[prefix].append(parts[0].rstrip() + " " + "".join(parts[1:]))
    assert seen == messages


def test_only_jobs_and_warnings_are_shown():
    """Only records of jobs and warnings are shown; Prefect's report of a failed run is not, as the error itself is."""
    screen = Screen()
    screen.log.info("Finished in state Completed()")
    screen.log.warning("The log of job %s could not be read", "fit-1")
    echo = logging.LogRecord("prefect.task_runs", logging.ERROR, __file__, 1, "Finished in state Failed()", None, None)
    screen.log.handle(echo)

    assert screen.lines == ["warning: The log of job fit-1 could not be read"]


def test_a_record_that_cannot_be_shown_does_not_stop_the_job(capsys: pytest.CaptureFixture[str]):
    """`logging` reports the error on standard error, and the next record is shown."""
    screen = Screen()
    screen.log.info("%d rows", "many", extra={"sagemaker_prefix": "fit/algo-1"})
    screen.line("fit/algo-1", "next")

    assert "Logging error" in capsys.readouterr().err
    assert screen.lines == ["fit/algo-1 | next"]


# The table of results


@pytest.mark.parametrize("width", WIDTHS)
def test_results_fit_the_terminal(width: int):
    """No row of the table is wider than the terminal; every column is there, and reasons are complete."""
    screen = Screen(width)
    screen.console.show_results(RESULTS)
    table = screen.text.partition("3 ran, 1 skipped")[0].splitlines()
    words = " ".join(screen.text.split())

    assert max(map(len, table)) <= width
    assert table[1].split() == ["task", "result", "why", "seconds", "metrics"]
    assert all(word in words for word in ("prepare skipped nothing changed", "3.1", "auc 0.9906", "loss 0.06621"))
    column = slice(table[1].index("why"), table[1].index("seconds"))
    assert RESULTS[1].reason.removeprefix("ran: ").replace(" ", "") in "".join(
        line[column].replace(" ", "") for line in table[2:]
    )


@pytest.mark.parametrize("width", [*WIDTHS, 40, None])
def test_no_name_and_no_uri_is_cut(width: int | None):
    """The name of each job and each URI is on one line, which the terminal may fold, so that it can be copied."""
    screen = Screen(width)
    screen.console.show_results(RESULTS)

    for each in RESULTS:
        assert any(line.split()[-2:] == ["job", each.job] for line in screen.lines)
        for kind in each.outputs.keys() - {"source"}:
            assert any(line.split()[-2:] == [kind, each.outputs[kind]] for line in screen.lines)
    assert not any("source.tar.gz" in line for line in screen.lines)


def test_a_pipe_gets_plain_text():
    """In a pipe there are no colours, and each row of the table is one line."""
    screen = Screen()
    screen.console.show("  local SageMaker     0.3 s")
    screen.console.show_results(RESULTS)

    assert "\x1b" not in screen.written
    assert screen.lines[0] == "  local SageMaker     0.3 s"
    assert any(line.startswith("  fit-C0.1") and RESULTS[1].reason[5:] in line for line in screen.lines)


def test_a_terminal_without_unicode_still_gets_everything():
    """Characters that the encoding lacks are replaced."""
    screen = Screen(encoding="ascii")
    screen.console.show_results([result("fit", größe=1.0)])
    screen.line("fit-C1.0/algo-1", "Größe ✓")

    assert any("gr??e 1" in line for line in screen.lines)
    assert screen.lines[-1] == "fit-C1.0/algo-1 | Gr??e ?"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_next_commands_can_be_copied(width: int):
    """Each command is on one line, with its label before it and its effect behind it."""
    screen = Screen(width)
    screen.console.show_commands([("run again", 'make quickstart ARGS="--Cs 0.1"', "skips"), ("see it", "make ui", "")])

    assert screen.lines == [
        "",
        "  next",
        '  run again  make quickstart ARGS="--Cs 0.1"  skips',
        "  see it     make ui",
    ]


def test_a_failure_says_what_to_do():
    """The whole error message is shown, and its brackets are not read as markup."""
    screen = Screen(80)
    screen.console.show_failure(RuntimeError("The job [fit-1] failed.\nTo resolve this: mend [it]."))

    assert screen.lines == ["", "The job [fit-1] failed.", "To resolve this: mend [it]."]


def test_attached_is_not_ran():
    """A task that waited for another run's job, or found it completed, counts as attached, not as run."""
    first, other = RESULTS[0], RESULTS[1]
    reasons = ("attached to its running job", "its job had completed without a record")
    attached = [other.model_copy(update={"reason": reason}) for reason in reasons]
    told = summary([first, other, *attached])

    assert (told["ran"], told["attached"], told["skipped"]) == (1, 2, 1)


def test_the_summary_is_one_line_of_json():
    """The `--json` summary is one line with each task's fields, unchanged, and the counts."""
    line = json.dumps(summary(RESULTS))
    told = json.loads(line)

    assert "\n" not in line
    assert told.keys() == {"tasks", "ran", "attached", "skipped"}
    assert (told["ran"], told["attached"], told["skipped"]) == (3, 0, 1)
    for task, each in zip(told["tasks"], RESULTS, strict=True):
        assert task == {
            "task": each.task,
            "job": each.job,
            "cached": each.cached,
            "reason": each.reason,
            "seconds": each.seconds,
            "metrics": each.metrics,
            "outputs": each.outputs,
        }
