"""What a user sees of a job while it runs: each line once, in order, under the names of task and host."""

from __future__ import annotations

from collections import defaultdict

import pytest
from journey_tools import Bucket, Gate, in_background
from prefect import flow
from waiting import wait_until

pytestmark = pytest.mark.sampled(4, group="all")


@pytest.mark.parametrize("kind", ["train", "process"])
def test_a_line_is_seen_while_the_job_runs(kind, sm, run_log, tmp_path):
    """A line that a running job prints is in the run's log before the job goes on."""
    gate = Gate(tmp_path / "open")
    command = f"echo waiting; {gate.wait}; echo done"
    with in_background(lambda: getattr(sm, kind)("fit-C1.0", command=command)) as running:
        wait_until(lambda: ("fit-C1.0/algo-1", "waiting") in run_log.job_lines, "the line")

        assert ("fit-C1.0/algo-1", "done") not in run_log.job_lines
        assert not running.done()
        gate.open()

    assert ("fit-C1.0/algo-1", "done") in run_log.job_lines


def test_a_python_program_needs_no_flush(sm, run_log, tmp_path):
    """Python's own buffering does not delay a line."""
    gate = Gate(tmp_path / "open")
    script = tmp_path / "wait.py"
    loop = f"while not pathlib.Path({str(gate.path)!r}).exists():\n    time.sleep(0.05)\n"
    script.write_text(f"import pathlib, time\nprint('waiting')\n{loop}")
    with in_background(lambda: sm.train("fit", entry_point=str(script))):
        wait_until(lambda: ("fit/algo-1", "waiting") in run_log.job_lines, "the line")
        gate.open()


@pytest.mark.always
def test_every_line_comes_once_and_in_order(sm, run_log):
    """Two hosts write a thousand lines each, slowly and in bursts: each comes once, in its host's order."""
    lines = "i=0; while [ $i -lt 1000 ]; do echo $i; i=$((i+1)); [ $((i % 250)) -ne 0 ] || sleep 0.2; done"
    result = sm.train(
        "count", command=f"{lines}; printf 'no newline'; echo on stderr >&2", instance_count=2, state="none"
    )

    said = defaultdict(list)
    for place, line in run_log.job_lines:
        said[place].append(line)
    assert {"count/algo-1", "count/algo-2"} == said.keys()
    for host_said in said.values():
        assert [str(number) for number in range(1000)] == [line for line in host_said if line.isdigit()]
        assert host_said.count("on stderr") + host_said.count("no newlineon stderr") == 1
    assert result.job


def test_the_log_names_what_happens_to_the_job(sm, run_log):
    """The run's log has the job's end and a skip's reason, under the task's name."""
    sm.train("fit", command="true")
    sm.train("fit", command="true")
    told = [
        (each.sagemaker_prefix, each.sagemaker_status) for each in run_log.records if hasattr(each, "sagemaker_status")
    ]

    assert ("fit", "Completed") in told
    assert "fit: skipped: nothing changed" in run_log.texts
    assert told[-1] == ("fit", "skipped: nothing changed")


def test_metrics_have_their_history(sm):
    """The history has every value that a job prints, with ascending times; the last value is the metric."""
    command = 'for x in 0.5 0.75 nan 0.875 1e-3; do echo "auc=$x f1=1"; done; echo loss=none'
    patterns = {"auc": "auc=([0-9.e+-]+|nan)", "loss": "loss=(.*)", "f1": "f1=([0-9])", "absent": "x=(.*)"}
    result = sm.train("fit", command=command, metrics=patterns)

    assert str([value for _, value in result.metric_history["auc"]]) == "[0.5, 0.75, nan, 0.875, 0.001]"
    assert result.metrics == {"auc": 0.001, "f1": 1.0}
    times = [time for time, _ in result.metric_history["auc"]]
    assert times == sorted(times)
    again = sm.train("fit", command=command, metrics=patterns)
    assert (True, result.metrics, str(result.metric_history)) == (
        again.cached,
        again.metrics,
        str(again.metric_history),
    )


def test_a_processing_job_has_metrics_too(sm):
    """A processing job has metrics, although SageMaker reads none from its log."""
    assert sm.process("clean", command="echo rows=12", metrics={"rows": r"rows=(\d+)"}).metrics == {"rows": 12.0}


def test_attach_shows_the_log_from_its_beginning(sm, project, backend, run_log, tmp_path):
    """A second run that attaches to the job shows all its lines, and reads all its metrics."""
    gate = Gate(tmp_path / "open")
    arguments = {"command": f"echo auc=0.5; {gate.wait}; echo auc=0.7", "metrics": {"auc": r"auc=([0-9.]+)"}}
    fits = []

    @flow
    def run():
        fits.append(sm.train("fit", **arguments))

    with in_background(run):
        wait_until(lambda: ("fit/algo-1", "auc=0.5") in run_log.job_lines, "the first line")
        with in_background(run):
            wait_until(lambda: run_log.job_lines.count(("fit/algo-1", "auc=0.5")) == 2, "the line for the second run")
            assert len(Bucket(backend, project).names("fit/_ledger/interest/")) == 2
            gate.open()

    assert run_log.job_lines.count(("fit/algo-1", "auc=0.7")) == 2
    assert [value for _, value in fits[1].metric_history["auc"]] == [0.5, 0.7]
    assert {"ran: first run", "attached to its running job"} == {fit.reason for fit in fits}
    assert len({fit.job for fit in fits}) == 1


def test_a_burst_is_a_few_records(sm, run_log):
    """Lines that come together reach Prefect in few records, each with its task's and host's name, and none is cut."""
    sm.train("burst", command="seq 1000 1999")
    with_numbers = [text for text in run_log.texts if " | 1" in text]

    assert len(with_numbers) < 20
    numbers = [line.removeprefix("burst/algo-1 | ") for text in with_numbers for line in text.splitlines()]
    assert [str(number) for number in range(1000, 2000)] == [number for number in numbers if number.isdigit()]


def test_a_job_that_says_too_much_keeps_its_last_lines(sm, run_log):
    """Of 20,000 lines Prefect's API gets the first, the last, and how to read all; metrics are read from all lines."""
    command = 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo "step=$i"; done; echo the end'
    result = sm.train("loud", command=command, metrics={"step": r"step=(\d+)"})
    sent = [record for record in run_log.records if getattr(record, "send_to_api", True)]
    lines = [line for record in sent for line in record.getMessage().splitlines()]

    assert {"loud/algo-1 | step=1", "loud/algo-1 | step=20000", "loud/algo-1 | the end"} <= set(lines)
    assert len(lines) < 6_000
    assert sum("result.logs()" in line for line in lines) == 2
    assert result.metrics == {"step": 20000.0}
    assert [line for _, line in run_log.job_lines if line.startswith("step=")] == [
        f"step={number}" for number in range(1, 20001)
    ]
    assert len(result.logs()) > 20_000


@pytest.mark.always
def test_secrets_are_masked_in_the_log(sm, run_log):
    """The log masks secrets of the environment and printed AWS credentials; metrics are still read."""
    result = sm.train(
        "fit",
        command='echo "token=$HF_TOKEN auc=0.5"; echo "AWS_SESSION_TOKEN=IQoJb3JpZ2luX2VjEJr0123456789abcdef"',
        environment={"HF_TOKEN": "hf_hidden"},
        metrics={"auc": "auc=([0-9.]+)"},
    )

    assert ("fit/algo-1", "token=**** auc=0.5") in run_log.job_lines
    assert ("fit/algo-1", "AWS_SESSION_TOKEN=****") in run_log.job_lines
    assert not [text for text in run_log.texts if "hf_hidden" in text or "IQoJ" in text]
    assert result.metrics == {"auc": 0.5}
