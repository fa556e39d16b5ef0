"""`make ui`: the runs of the quickstart in Prefect's own UI, at addresses that a browser can open."""

from __future__ import annotations

import json
import re
import signal
import urllib.request

import pytest
from application_programs import ask, flow_runs, recorded_states

STEPS = ("prepare", "fit-C0.1", "fit-C1.0", "evaluate")


def _pages(said: str) -> list[str]:
    """Return the addresses of flow runs in an output."""
    return re.findall(r"http://127\.0\.0\.1:\d+/v2/runs/flow-run/[0-9a-f-]{36}", said)


def _get(url: str) -> tuple[int, str, str]:
    """Send a GET as a browser does: the UI's pages are only for clients that accept HTML."""
    request = urllib.request.Request(url, headers={"Accept": "text/html"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


def test_prints_the_address_of_the_runs(quickstart):
    """`flows.ui` prints the page and the name of each run; the page exists, and the API knows the run."""
    said = quickstart.serve().said
    runs = {run["id"]: run["name"] for run in flow_runs(quickstart.api)}
    pages = _pages(said)

    assert pages
    assert all(page.rpartition("/")[2] in runs for page in pages)
    assert all(runs[page.rpartition("/")[2]] in said for page in pages)
    for page in pages:
        status, kind, body = _get(page)
        assert (status, kind.partition(";")[0]) == (200, "text/html")
        assert "Prefect" in body


def test_shows_its_own_runs(quickstart):
    """The pages use the server that they came from, although another one has Prefect's usual port."""
    with urllib.request.urlopen(quickstart.api.removesuffix("/api") + "/ui-settings", timeout=60) as answer:
        told = json.load(answer)
    settings = ask(quickstart.api, "/admin/settings")["server"]

    assert told["api_url"] == quickstart.api
    assert settings["ui"]["show_promotional_content"] is False
    assert settings["analytics_enabled"] is False


def test_runs_read_well(quickstart):
    """Task runs have the names of the steps; in a run that skips, each is Cached."""
    first = flow_runs(quickstart.api)[-1]["id"]
    done = quickstart.run("--json")
    second = flow_runs(quickstart.api)[0]

    assert done.code == 0, done.out + done.err
    assert recorded_states(quickstart.api, first, dict.fromkeys(STEPS, "Completed"))
    assert second["state_name"] == "Completed"
    assert recorded_states(quickstart.api, second["id"], dict.fromkeys(STEPS, "Cached"))


@pytest.mark.exhaustive
def test_run_is_visible_while_it_runs(quickstart, tmp_path):
    """A quickstart that is started while the UI is served reports to that server, and appears there while it runs."""
    (tmp_path / "one.csv").write_text("radius,malignant\n1.5,1\n")
    before = {run["id"] for run in flow_runs(quickstart.api)}
    running = quickstart.start("flows.quickstart", "--data", str(tmp_path))
    running.wait_for("prepare         > ")
    new = [run for run in flow_runs(quickstart.api) if run["id"] not in before]

    assert [run["state_name"] for run in new] == ["Running"]
    assert new[0]["parameters"]["data"] == str(tmp_path)

    running.done()
    after = {run["id"]: run["state_name"] for run in flow_runs(quickstart.api)}

    assert after[new[0]["id"]] == "Failed"


def test_other_words_are_refused(quickstart):
    """`--help` describes the command, any other argument is refused, and neither goes on to serve."""
    helped, refused = quickstart.start("flows.ui", "--help").done(), quickstart.start("flows.ui", "serve").done()

    assert (helped.code, refused.code) == (0, 2)
    assert "until Ctrl-C" in helped.out
    assert "unrecognized arguments: serve" in refused.err


def test_served_once(quickstart):
    """A second `flows.ui` finds the first, prints the same addresses, and ends."""
    first = quickstart.serve()
    second = quickstart.start("flows.ui").done()

    assert second.code == 0
    assert second.out.startswith("The UI is already served.\n")
    assert second.err == ""
    assert {page.split("/v2/")[0] for page in _pages(second.out)} == {quickstart.api.removesuffix("/api")}
    assert first.process.poll() is None


@pytest.mark.sampled(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ends_when_asked(quickstart, number):
    """Ctrl-C and `kill` end the UI and its server; no process is left, and the port is closed."""
    program, api = quickstart.serve(), quickstart.api
    program.signal(number)
    done = program.done()

    assert done.code == 0
    assert done.err == ""
    assert program.group() == []
    assert quickstart.servers() == []
    with pytest.raises(OSError, match="refused"):
        _get(f"{api}/health")
    assert not (quickstart.directory / "prefect" / "served.json").exists()
