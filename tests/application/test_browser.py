"""Prefect's UI in a browser: what a user sees of a run, of its artifacts, and of the block's form.

The UI opens at the address that `flows.ui` prints, in Debian's Chromium, which `bin/setup` installs. The browser can
reach only the server.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from application_programs import CHECKOUT, Program, ask
from needed_programs import need
from playwright import sync_api
from waiting import PATIENCE_SECONDS, wait_until

from blocks import SageMakerProject

expect = sync_api.expect
expect.set_options(timeout=PATIENCE_SECONDS * 1000)

CHROMIUM = Path("/usr/bin/chromium")
BROWSED_FLOW = Path(__file__).with_name("browsed_flow.py")


@pytest.fixture(scope="module", autouse=True)
def browser():
    """Require Debian's Chromium."""
    need(CHROMIUM, "chromium")


# Chromium itself must send no requests, and needs no graphics card.
SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@dataclass(frozen=True)
class Site:
    """A server with runs on it.

    Attributes:
        landing: The address of the newest run, as `flows.ui` prints it.
        runs: The output of `browsed_flow.py run`.
        environment: Variables that direct a program to the server.
    """

    landing: str
    runs: dict[str, Any]
    environment: dict[str, str]

    @property
    def base(self) -> str:
        """The address of the UI, without a page."""
        return self.landing.partition("/runs/")[0]

    def run(self, name: str, tab: str) -> str:
        """Return the address of a run's page."""
        return f"{self.base}/runs/flow-run/{self.runs[name]}?tab={tab}"


@pytest.fixture(scope="module")
def site(make_quickstart, backend, start) -> Site:
    """The UI as `flows.ui` serves it, after two runs of a flow and one run that failed."""
    quickstart = make_quickstart(backend)
    quickstart.serve()
    environment = {
        "PREFECT_API_URL": quickstart.api,
        "PREFECT_HOME": str(quickstart.directory / "prefect"),
        "LOCAL_SAGEMAKER_HOME": str(backend.home),
        "PYTHONPATH": str(CHECKOUT),
    }
    ran = start(str(BROWSED_FLOW), "run", **environment).done()
    assert ran.code == 0, ran.out + ran.err
    said = quickstart.start("flows.ui").done().out
    landing = re.search(r"http://\S+/runs/flow-run/\S+", said)
    assert landing, said
    return Site(landing.group(), json.loads(ran.out.splitlines()[-1]), environment)


@pytest.fixture(scope="module")
def context(site, tmp_path_factory):
    """A new browser."""
    with sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("browser"),
            executable_path=CHROMIUM,
            args=SWITCHES,
            viewport={"width": 1280, "height": 900},
        )
        try:
            context.set_default_timeout(PATIENCE_SECONDS * 1000)
            # Prefect's pages request logos and fonts, and send statistics.
            context.route(re.compile(r"^https?://(?!127\.0\.0\.1[:/])"), lambda route: route.abort())
            yield context
        finally:
            context.close()


@pytest.fixture
def page(context):
    """A page in that browser."""
    page = context.new_page()
    yield page
    page.close()


def _open_artifact(page, site: Site, run: str, key: str):
    """Open the artifact that a run left under a key; return its content as it is shown."""
    wanted = {"flow_run_id": {"any_": [site.runs[run]]}, "key": {"any_": [key]}}
    (artifact,) = ask(site.environment["PREFECT_API_URL"], "/artifacts/filter", artifacts=wanted)
    page.goto(f"{site.base}/artifacts/artifact/{artifact['id']}")
    expect(page.get_by_role("tab", name="Raw")).to_be_visible()
    return page.get_by_role("tabpanel")


@pytest.mark.sampled(2, group="pages")
def test_lands_on_the_newest_run(page, site):
    """The address that `flows.ui` prints opens that run's page directly, with its state and its message."""
    page.goto(site.landing)

    expect(page.get_by_text("Finished in state Failed").first).to_be_visible()
    expect(page.get_by_text("Failed", exact=True).first).to_be_visible()
    assert page.url.startswith(site.landing)
    assert site.landing.endswith(site.runs["failed"])


@pytest.mark.sampled(2, group="pages")
def test_steps_have_their_names_and_cached_has_its_reason(page, site):
    """On the second run, each step has its own name and is Cached; its page says why no job ran."""
    page.goto(site.run("second", "TaskRuns"))

    for name in ("prepare", "fit-C0.1", "fit-C1.0"):
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    expect(page.get_by_text("3 Cached")).to_be_visible()

    page.get_by_role("link", name="fit-C0.1", exact=True).click()

    expect(page.get_by_text("Cached", exact=True).first).to_be_visible()
    expect(page.get_by_text("fit-C0.1: skipped: nothing changed")).to_be_visible()


@pytest.mark.sampled(2, group="pages")
def test_summary_names_the_job_and_the_reason(page, site):
    """The summaries of a step that ran and of a skipped step show the job's name and the reason."""
    job = site.runs["results"]["fit-C0.1"]["job"]
    for run, reason in (("first", "ran: first run"), ("second", "skipped: nothing changed")):
        summary = _open_artifact(page, site, run, "browsed--fit-c0-1-summary")

        expect(summary.get_by_role("row", name=f"Job {job}")).to_be_visible()
        expect(summary.get_by_role("row", name=f"Why {reason}")).to_be_visible()


@pytest.mark.sampled(2, group="pages")
def test_metrics_are_a_table_and_a_picture(page, site):
    """The page of the metrics has a row of numbers for each metric; that of the plot has a picture that is drawn."""
    table = _open_artifact(page, site, "first", "browsed--fit-c0-1-metrics")

    expect(table.get_by_role("row", name=re.compile(r"auc\s+0\.7\s+0\.5\s+0\.75\s+3"))).to_be_visible()

    picture = _open_artifact(page, site, "first", "browsed--fit-c0-1-plot").get_by_role("img")

    expect(picture).to_be_visible()
    expect(picture).to_have_js_property("complete", value=True)
    assert picture.evaluate("image => image.naturalWidth") > 0


@pytest.mark.sampled(2, group="pages")
def test_failure_says_what_broke_and_what_to_do(page, site):
    """The page of a failure shows its kind, its exit code, the job's last lines, and what to do."""
    failure = _open_artifact(page, site, "failed", "browsed--broken-failure")

    expect(failure.get_by_role("row", name=re.compile("Kind of failure JobFailed"))).to_be_visible()
    expect(failure.get_by_role("row", name="Exit code 3")).to_be_visible()
    # The page also contains the raw text, which is not visible.
    expect(failure.get_by_text("reading part-7").filter(visible=True).first).to_be_visible()
    expect(failure.get_by_role("heading", name="What to do")).to_be_visible()
    expect(failure.get_by_text("run again: finished steps are skipped").filter(visible=True)).to_be_visible()


@pytest.mark.sampled(2, group="pages")
def test_progress_is_a_bar_at_its_end(page, site):
    """The progress of a completed step is 100 %."""
    expect(_open_artifact(page, site, "first", "browsed--fit-c0-1-progress").get_by_text("100%")).to_be_visible()


@pytest.mark.sampled(2, group="pages")
def test_key_is_the_history_of_a_step(page, site):
    """A run's artifact leads to its key, which lists the summaries of both runs, the newest first."""
    page.goto(site.run("second", "Artifacts"))
    page.get_by_role("link", name="browsed--fit-c0-1-summary").first.click()
    page.wait_for_url(re.compile("/artifacts/(key|artifact)/"))
    if "/artifacts/artifact/" in page.url:  # Prefect 3.9 shows the artifact with a link to its key; 3.8 shows the key
        # By its address: the page before, which may still be shown, has a link with the same name.
        page.locator('a[href*="/artifacts/key/browsed--fit-c0-1-summary"]').first.click()
    page.wait_for_url("**/artifacts/key/browsed--fit-c0-1-summary")

    reasons = page.get_by_text(re.compile("^(ran: first run|skipped: nothing changed)$"))
    expect(reasons.filter(visible=True).first).to_have_text("skipped: nothing changed")
    expect(page.get_by_text("Task run: fit-C0.1")).to_have_count(2)


def _title(name: str) -> str:
    """Return a field's title as Prefect's form shows it."""
    schema = SageMakerProject.model_json_schema()
    return schema["properties"][name]["title"] + ("" if name in schema["required"] else " (Optional)")


def _open_form(page, site: Site) -> None:
    page.goto(f"{site.base}/blocks/catalog/sagemaker-project/create")
    expect(page.get_by_label(_title("bucket"), exact=True)).to_be_visible()


def _fill(page, **values: str) -> None:
    for name, value in values.items():
        page.get_by_label(_title(name), exact=True).fill(value)


def _save(page, site: Site, name: str, **values: str) -> None:
    """Save a block by its form, and wait for the page of the saved block."""
    _open_form(page, site)
    page.get_by_label("Name", exact=True).fill(name)
    _fill(page, **values)
    # 503 means that Prefect's database is busy. Its own client would retry; in a browser, the user does.
    answer = wait_until(lambda: (found := _saved(page)).status != HTTPStatus.SERVICE_UNAVAILABLE and found, "an answer")
    assert answer.ok, answer.text()
    page.wait_for_url("**/blocks/block/*")


def _saved(page) -> sync_api.Response:
    with page.expect_response(lambda answer: answer.url.rstrip("/").endswith("/block_documents")) as answer:
        page.get_by_role("button", name="Save").click()
    return answer.value


@pytest.mark.sampled(2, group="pages")
def test_form_explains_every_field(page, site):
    """The form has every field of the block in the order of the class, with its title and description."""
    _open_form(page, site)
    titles = page.locator("form label").all_inner_texts()
    text = " ".join(page.locator("form").inner_text().split())

    assert titles == ["Name", *map(_title, SageMakerProject.model_fields)]
    at = 0
    for name, field in SageMakerProject.model_fields.items():
        described = f"{_title(name)} {field.description}"
        assert described in text[at:]
        at = text.index(described, at) + len(described)


@pytest.mark.sampled(2, group="pages")
def test_form_refuses_a_number_out_of_bounds(page, site):
    """The form refuses a number that SageMaker would not accept, with a message at the field."""
    _open_form(page, site)
    form = page.url
    page.get_by_label("Name", exact=True).fill("too-many")
    _fill(page, project="browsed", bucket="my-bucket", instance_count="1000")
    page.get_by_role("button", name="Save").click()
    field = page.get_by_label(_title("instance_count"), exact=True)

    expect(field).to_be_focused()
    assert "100" in field.evaluate("field => field.validationMessage")
    assert page.url == form


@pytest.mark.sampled(2, group="pages")
def test_saved_block_is_the_project_or_says_its_bad_fields(page, site, start):
    """A valid form gives a project; a bad bucket and a bad role are named at the first use.

    Prefect's own form checks no pattern (3.8.8 and 3.9.1: V2 sends the values in place of the schema).
    """
    role = "arn:aws:iam::123456789012:role/jobs"
    _save(page, site, "good", project="browsed", bucket="my-bucket", role=role)
    _save(page, site, "bad", project="browsed", bucket="My_Bucket", role="arn:aws:iam::12:role/two words")
    loading: Program = start(str(BROWSED_FLOW), "load", "good", "bad", **site.environment)
    said = json.loads(loading.done().out.splitlines()[-1])

    assert said["good"] == {"project": "browsed", "bucket": "my-bucket", "role": role}
    assert "'bad' cannot be used: bucket: " in said["bad"]["refused"]
    assert "; role: " in said["bad"]["refused"]
    assert "To resolve this: " in said["bad"]["refused"]
