"""The quickstart's console output: at several terminal widths, into a pipe, and from several threads at once."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading

import pytest
from rich.console import Console
from rich.text import Text

from flows.console import (
    JobLogHandler,
    QuickstartConsole,
    Step,
    next_commands,
    quickstart_steps,
    results_table,
    steps_drawing,
    summary,
)
from flows.console.colours import Colours
from tasks_lib import JobResult

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
        self.console = QuickstartConsole(Console(file=self._file, highlight=False, _environ={}, **terminal))
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


def plain(lines: list[Text]) -> list[str]:
    return [line.plain for line in lines]


def colour_of(screen: Screen, text: str) -> str:
    """Return the colour in which a text first appears."""
    return re.search(rf"\x1b\[(?:1;)?(\d+)m{re.escape(text)}", screen.written)[1]


# The drawing of the steps


def test_steps_are_drawn_with_what_waits_for_what():
    """The fits are drawn in a column between the step before them and the step after them, with connecting lines."""
    drawing = plain(steps_drawing(quickstart_steps([0.1, 1.0]), Colours()))

    first, second, third, fourth = drawing
    fork, fit, join, evaluate = (first.index(word) for word in ("┬", "fit-C0.1", "┬─▶ evaluate", "evaluate"))

    assert re.fullmatch(r" +prepare ─+┬─▶ fit-C0.1 ─+┬─▶ evaluate", first)
    assert [second[column] for column in (fork, join)] == ["│", "│"]
    assert re.fullmatch(r"└─▶ fit-C1.0 ─+┘", third[fork : join + 1])
    assert third.index("fit-C1.0") == fit
    assert [line[fit:].startswith("training, 1 host") for line in (second, fourth)] == [True, True]
    assert [line[evaluate:] for line in (second, third)] == ["processing, 1 host", "report, plot"]
    assert [line[:fork].strip() for line in drawing[1:]] == ["processing, 2 hosts", "split, scale", ""]


def test_one_fit_is_a_straight_line():
    """With a single fit, the drawing is one straight line without branches."""
    drawing = plain(steps_drawing(quickstart_steps([1.0]), Colours()))

    assert drawing[0] == "  prepare ────────────────▶ fit-C1.0 ────────────▶ evaluate"


def test_many_fits_hang_on_one_line():
    """Each of four fits has its own branch on both sides."""
    drawing = plain(steps_drawing(quickstart_steps([0.01, 0.1, 1.0, 10.0]), Colours()))

    assert [line[24:27] for line in drawing if "fit-" in line] == ["┬─▶", "├─▶", "├─▶", "└─▶"]
    assert [re.search("─([┬┤┘])", line[30:])[1] for line in drawing if "fit-" in line] == ["┬", "┤", "┤", "┘"]


def test_a_long_name_stays_apart_from_its_line():
    """The widest cell of a column is followed by a space and a line, and the columns stay aligned."""
    steps = [
        Step("a-rather-long-name-of-a-step", "processing"),
        Step("b", "training", after=("a-rather-long-name-of-a-step",)),
    ]

    first, second = plain(steps_drawing(steps, Colours()))

    assert re.fullmatch(" +a-rather-long-name-of-a-step ─+▶ b", first)
    assert second.index("training, 1 host") == first.index("b", first.index("▶"))


def test_a_drawing_that_would_lie_is_refused():
    """Two separate chains are refused: a drawing in stages would show dependencies that do not exist."""
    steps = [
        Step(name, "training", after=after) for name, after in [("a", ()), ("b", ()), ("c", ("a",)), ("d", ("b",))]
    ]
    with pytest.raises(ValueError, match=r"'a', 'd'.*'b', 'c'"):
        steps_drawing(steps, Colours())


# The jobs' logs


def test_a_line_stands_behind_its_job_and_host():
    """Lines have the form `task/host | message`; the bars of a run, and the marks of statuses, are in one column."""
    screen = Screen()
    screen.console.show_steps([0.1, 1.0])
    before = len(screen.lines)
    screen.status("prepare", "Processing")
    screen.line("prepare/algo-2", "71 rows")
    screen.line("fit-C1.0/algo-1", "epoch=3 loss=0.123 auc=0.987")
    screen.status("prepare", "Completed")

    assert screen.lines[before:] == [
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
    """A task's name in the drawing and its hosts' lines share a colour that no other task has."""
    screen = Screen(100)
    screen.console.show_steps([0.1, 1.0])
    drawn = {task: colour_of(screen, task) for task in ("prepare", "fit-C0.1", "fit-C1.0", "evaluate")}
    screen.line("evaluate/algo-1", "report")
    screen.line("fit-C1.0/algo-1", "epoch=1")
    screen.line("prepare/algo-2", "rows")

    assert len(set(drawn.values())) == 4
    for prefix in ("evaluate/algo-1", "fit-C1.0/algo-1", "prepare/algo-2"):
        assert colour_of(screen, prefix) == drawn[prefix.partition("/")[0]]


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
    """No line is wider than the terminal, and every column is present."""
    screen = Screen(width)
    screen.console.show_steps([0.1, 1.0])
    screen.console.show_results(RESULTS)

    assert max(len(line) for line in screen.lines) <= width
    for word in (
        "skipped",
        "ran",
        "nothing changed",
        "first run",
        "3.1",
        "auc 0.9906  loss 0.06621",
        "3 ran, 1 skipped",
    ):
        assert word in screen.text


@pytest.mark.parametrize("width", [*WIDTHS, 40, None])
def test_no_name_and_no_uri_is_cut(width: int | None):
    """URIs are folded after slashes on a terminal and unbroken in a pipe; every URI and job name is complete."""
    lines = plain(results_table(RESULTS, width, Colours()))
    joined = "".join(line.strip() for line in lines)

    for each in RESULTS:
        assert f"job     {each.job}" in joined
        for kind in each.outputs.keys() - {"source"}:
            assert f"{kind}{' ' * (len('output') - len(kind))}  {each.outputs[kind]}" in joined
        if width is None:
            assert all(
                any(line.endswith(uri) for line in lines) for kind, uri in each.outputs.items() if kind != "source"
            )


@pytest.mark.parametrize("width", WIDTHS)
def test_a_uri_is_folded_behind_a_slash(width: int):
    """Every folded piece of a URI except the last ends with a slash."""
    lines = plain(results_table(RESULTS, width, Colours()))
    firsts = [number for number, line in enumerate(lines) if "s3://" in line]
    folded = [number for number in firsts if number + 1 < len(lines) and re.match(r" {10,}\S+$", lines[number + 1])]

    assert bool(folded) == (width < 200)
    assert all(lines[number].endswith("/") for number in folded)


def test_a_reason_is_folded_into_its_column():
    """A long reason is folded within its column, with its words in order."""
    lines = plain(results_table(RESULTS, 80, Colours()))
    first = next(number for number, line in enumerate(lines) if line.startswith("  fit-C0.1"))
    last = next(number for number, line in enumerate(lines) if number > first and line.startswith("    job"))
    column = lines[0].index("why")
    words = " ".join(line[column : lines[0].index(" seconds")].strip() for line in lines[first:last])

    assert words == RESULTS[1].reason.removeprefix("ran: ")


def test_names_and_uris_stand_in_one_column():
    """Job names and URIs start in the same column, whichever outputs a task has."""
    modest = result("fit-C1.0")
    modest = modest.model_copy(update={"outputs": {"model": modest.outputs["model"]}})
    lines = plain(results_table([result("prepare"), modest], 200, Colours()))

    assert {re.search(r"^    \w+ +", line).end() for line in lines if line.startswith("    ")} == {12}


def test_a_pipe_gets_neither_colours_nor_folded_uris():
    """In a pipe the whole output is plain text in which each URI can be searched for."""
    screen = Screen()
    screen.console.show_phase("local SageMaker", 0.31)
    screen.console.show_steps([0.1, 1.0])
    screen.console.show_results(RESULTS)

    assert "\x1b" not in screen.written
    assert screen.lines[0] == "  local SageMaker     0.3 s"
    for each in RESULTS:
        assert any(line.endswith(each.outputs["output"]) for line in screen.lines)


def test_a_terminal_without_line_drawing_still_gets_everything():
    """If the encoding lacks arrows and umlauts, lines are drawn in ASCII and other characters are replaced."""
    screen = Screen(encoding="ascii")
    screen.console.show_steps([0.1, 1.0])
    screen.line("fit-C1.0/algo-1", "Größe ✓")

    assert screen.lines[1] == "  prepare --------------+-> fit-C0.1 ----------+-> evaluate"
    assert screen.lines[-1] == "fit-C1.0/algo-1 | Gr??e ?"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_next_commands_fit_and_can_be_copied(width: int):
    """Each command fits on one line, and the report's location is complete."""
    report = RESULTS[-1].outputs["output"]
    lines = plain(next_commands(report, width))

    assert max(map(len, lines)) <= width
    for command in ("make quickstart", 'make quickstart ARGS="--Cs 0.1 10"', "make ui"):
        assert any(re.search(rf"{re.escape(command)}(  |$)", line) for line in lines)
    assert report in "".join(line.strip() for line in lines)


def test_the_report_can_be_a_file():
    """The local path of a fetched report is shown instead of its URI."""
    screen = Screen(80)
    screen.console.show_results(RESULTS, ".local/report/roc.png")

    assert screen.lines[-1].split() == ["see", "the", "report", ".local/report/roc.png"]


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
