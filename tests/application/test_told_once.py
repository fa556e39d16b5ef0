"""What a user reads if a job fails: the cause, once, wherever the flow runs.

The flow is that of `ssm init`, with a misspelt column in `prepare.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from application_programs import ask, flow_runs
from nbclient import NotebookClient

CAUSE = "KeyError: 'area_qm'"
OF_THE_JOB = re.compile(r"^(?:.* \| )?prepare/algo-1 \| ")
COLOUR = re.compile(r"\x1b\[[\d;]*m")
MOST_LINES, LONGEST_MESSAGE = 25, 200
ENGINE = ("site-packages/prefect", "tasks_lib/", "UnfinishedRun")

pytestmark = pytest.mark.logs_errors(r"\| (Task|Flow) run '|exited with status code: 1")


@dataclass(frozen=True)
class Shop:
    """A repository made by `ssm init`, and the variables with which its flow runs."""

    place: Path
    api: str
    variables: dict[str, str]

    def messages(self) -> list[str]:
        """Return the state message of its last flow run, and the messages about failed states in that run's log."""
        run = flow_runs(self.api)[0]
        logs = ask(self.api, "/logs/filter", logs={"flow_run_id": {"any_": [run["id"]]}}, limit=200)
        told = [row["message"] for row in logs if row["message"].startswith("Finished in state Failed")]
        return [run["state"]["message"], *told]

    def log(self) -> list[str]:
        """Return the log lines of its last flow run, as Prefect's UI shows them."""
        run = flow_runs(self.api)[0]
        logs = ask(
            self.api, "/logs/filter", logs={"flow_run_id": {"any_": [run["id"]]}}, sort="TIMESTAMP_ASC", limit=200
        )
        return [line for row in logs for line in row["message"].splitlines()]


@pytest.fixture(scope="module")
def shop(tmp_path_factory, start, backend, prefect_api) -> Shop:
    """The repository, with the misspelt column."""
    place = tmp_path_factory.mktemp("told") / "shop"
    variables = {
        "PREFECT_API_URL": prefect_api,
        "PREFECT_HOME": str(place.parent / "prefect"),
        "LOCAL_SAGEMAKER_HOME": str(backend.home),
    }
    made = start("-m", "tasks_lib", "init", str(place), **variables).done()
    assert made.code == 0, made.err
    script = place / "code" / "prepare.py"
    script.write_text(script.read_text().replace("area_m2", "area_qm"))
    return Shop(place, prefect_api, variables)


def told(text: str) -> list[str]:
    """Return the lines after the job's own last line: they say why it failed."""
    lines = text.splitlines()
    last = max(number for number, line in enumerate(lines) if OF_THE_JOB.search(line))
    return lines[last + 1 :]


def check_is_told_once(lines: list[str]) -> None:
    """Check that few lines contain the cause, that one has the fix, and that none is a frame of the engine."""
    whole = "\n".join(lines)

    assert len(lines) <= MOST_LINES, whole
    assert whole.count("To resolve this: ") == 1
    assert 1 <= whole.count(CAUSE) <= 4, whole
    assert [part for part in ENGINE if part in whole] == []


@pytest.mark.always
def test_a_user_script(shop, start):
    """`python flow.py` tells the cause in few lines and in its last line, and so do the messages of the states."""
    done = start("flow.py", cwd=shop.place, **shop.variables).done()

    assert done.code == 1
    check_is_told_once(told(done.err))
    last = done.err.splitlines()[-1]
    assert last.startswith("tasks_lib.errors.JobFailed: task 'prepare' failed ")
    assert CAUSE in last
    assert 'File "' + str(shop.place / "flow.py") in done.err  # where the flow asked for the result
    messages = shop.messages()
    assert len(messages) == 3
    for message in messages:
        assert CAUSE in message
        assert "\n" not in message
    assert len(messages[0]) <= LONGEST_MESSAGE


@pytest.mark.exhaustive
def test_a_worker(shop, start):
    """The worker's own output and the log of the flow run tell the cause in few lines."""
    folder = {"prefect.deployments.steps.set_working_directory": {"directory": str(shop.place)}}
    start("-m", "prefect", "work-pool", "create", "told", "--type", "process", **shop.variables).done()
    deployment = ask(
        shop.api,
        "/deployments/",
        name="told",
        flow_id=ask(shop.api, "/flows/", name="shop")["id"],
        entrypoint="flow.py:pipeline",
        pull_steps=[folder],
        work_pool_name="told",
        enforce_parameter_schema=False,
    )
    ask(shop.api, f"/deployments/{deployment['id']}/create_flow_run", name="told")
    worker = ("-m", "prefect", "worker", "start", "--type", "process", "--pool", "told", "--run-once")
    done = start(*worker, cwd=shop.place, **shop.variables).done()

    for text in (done.err + done.out, "\n".join(shop.log())):
        check_is_told_once(told(text))
    assert CAUSE in shop.messages()[0]


@pytest.mark.exhaustive
def test_a_cell_of_a_notebook(shop, monkeypatch):
    """The cell's log and its traceback tell the cause in few lines."""
    for name, value in shop.variables.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("from flow import pipeline\npipeline()")])
    place = {"metadata": {"path": str(shop.place)}}
    NotebookClient(notebook, kernel_name="python3", resources=place, allow_errors=True).execute()
    (cell,) = notebook.cells
    log = COLOUR.sub("", "".join(each.data["text/plain"] for each in cell.outputs if "data" in each))
    (failure,) = (each for each in cell.outputs if each.output_type == "error")

    check_is_told_once([*told(log), *failure.traceback])
    assert CAUSE in failure.traceback[-1]


@pytest.mark.exhaustive
def test_a_step_that_cannot_begin(shop, start, tmp_path):
    """A missing file is reported in few lines, with the path that was tried."""
    flow = tmp_path / "flow.py"
    flow.write_text((shop.place / "flow.py").read_text().replace("code/prepare.py", "code/prepared.py"))
    done = start(str(flow), cwd=shop.place, **shop.variables).done()
    lines = [line for line in done.err.splitlines() if "View at" not in line and "Beginning flow run" not in line]

    assert len(lines) <= MOST_LINES
    assert "\n".join(lines).count("To resolve this: ") == 1
    assert str(shop.place / "code" / "prepared.py") in lines[-1]
    assert [part for part in ENGINE if part in done.err] == []


@pytest.mark.exhaustive
def test_an_exception_of_the_users_own(shop, start, tmp_path):
    """An exception of the user's own code is shown as usual: with its traceback and the frames of the engine."""
    flow = tmp_path / "flow.py"
    flow.write_text((shop.place / "flow.py").read_text().replace("return train.result()", "raise ValueError('mine')"))
    done = start(str(flow), cwd=shop.place, **shop.variables).done()

    assert done.err.splitlines().count("ValueError: mine") >= 1  # not the last line: Prefect may log after it
    assert "site-packages/prefect" in done.err
