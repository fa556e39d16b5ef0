"""`make screenshots`: runs the quickstart and takes the pictures of Prefect's UI that the documentation shows.

Taken, not drawn, so that they show what a reader will see; in a home, with a server and a local SageMaker of their own,
all of which is gone afterwards. Needs Debian's Chromium. Nothing imports it.
"""
# ruff: noqa: INP001, T201  a program, which says what it did

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import BrowserContext, FloatRect, Locator, Page, sync_playwright

CHECKOUT = Path(__file__).resolve().parent.parent
IMAGES = CHECKOUT / "docs" / "images"
WIDTH = 1280
_LARGEST = 200_000
_MARGIN = 16
_BESIDE = 696
"""What stands beside the content of an artifact's page: the menu, the column on the right, and gaps."""
_CHROMIUM = "/usr/bin/chromium"
_SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_ELSEWHERE = re.compile(r"^https?://(?!127\.0\.0\.1[:/])")


def main() -> int:
    """Take all pictures and return the exit code."""
    with tempfile.TemporaryDirectory() as home, _served(Path(home)) as ui:
        _run(Path(home))
        IMAGES.mkdir(exist_ok=True)
        with _browser(Path(home)) as browser:
            for name, show in _PICTURES.items():
                size = _take(browser, ui, name, show)
                print(f"  docs/images/{name}.png  {size / 1000:.0f} kB", flush=True)
    print("taken. Next: look at them, and git diff --stat docs/images.")
    return 0


@contextmanager
def _served(home: Path) -> Iterator[Ui]:
    """Serve the UI on a fresh home; end it, and the local SageMaker of the runs, afterwards."""
    os.environ |= {"QUICKSTART_HOME": str(home), "PYTHONPATH": str(CHECKOUT)}
    os.environ.pop("LOCAL_SAGEMAKER_HOME", None)
    with subprocess.Popen(_python("-m", "flows.ui"), stdout=subprocess.PIPE, text=True) as server:
        try:
            said = ""
            while "Stop it" not in said:
                line = server.stdout.readline() if server.stdout else ""
                if not line:
                    raise SystemExit(f"flows.ui ended:\n{said}")
                said += line
            address = re.search(r"(http://\S+)/dashboard", said)
            assert address, said
            yield Ui(address.group(1), json.loads((home / "prefect" / "served.json").read_text())["api"])
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
            down = _python("-m", "local_sagemaker", "down", "--home", str(home / "sagemaker"))
            subprocess.run(down, stdout=subprocess.DEVNULL, check=True)


def _python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def _run(home: Path) -> None:
    """Run the quickstart, run it with one more step, and run a step that fails."""
    api = json.loads((home / "prefect" / "served.json").read_text())["api"]
    own = {"PREFECT_API_URL": api, "PREFECT_HOME": str(home / "prefect")}
    own = {**os.environ, **own, "LOCAL_SAGEMAKER_HOME": str(home / "sagemaker")}
    subprocess.run(_python("-m", "prefect", "block", "register", "-m", "blocks"), check=True, env=own)
    subprocess.run(_python("-m", "flows.quickstart"), check=True)
    subprocess.run(_python("-m", "flows.quickstart", "--Cs", "0.1", "1.0", "10.0"), check=True)
    (home / "check.py").write_text(_CHECK)
    (home / "flow.py").write_text(_FLOW)
    failed = subprocess.run(_python(str(home / "flow.py")), check=False, env=own, cwd=home, stderr=subprocess.DEVNULL)
    if failed.returncode != 1:
        raise SystemExit("the run that should fail did not")


_CHECK = """\
import sys

for part in (1, 2, 3):
    print(f"customers-{part}.csv: 400 rows")
sys.exit("17 rows have no label")
"""
_FLOW = """\
from prefect import flow

from tasks_lib import sagemaker_tasks


@flow(name="churn")
def churn() -> None:
    sagemaker_tasks("local").process("check", code="check.py")


churn()
"""


class Ui:
    """Prefect's UI and what is behind it.

    Args:
        base: Its address.
        api: That of the API.
    """

    def __init__(self, base: str, api: str) -> None:
        self.base, self._api = base, api

    def run(self, state: str) -> str:
        """The address of the newest flow run in a state."""
        by_state = {"state": {"name": {"any_": [state]}}}
        newest = self._ask("/flow_runs/filter", flow_runs=by_state, sort="START_TIME_DESC", limit=1)[0]
        return f"{self.base}/runs/flow-run/{newest['id']}"

    def artifact(self, key: str) -> str:
        """The address of the newest artifact of a key."""
        by_key = {"key": {"any_": [key]}}
        newest = self._ask("/artifacts/filter", artifacts=by_key, sort="CREATED_DESC", limit=1)[0]
        return f"{self.base}/artifacts/artifact/{newest['id']}"

    def _ask(self, path: str, **body: Any) -> Any:
        request = urllib.request.Request(  # noqa: S310 - loopback
            self._api + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - loopback
            return json.load(answer)


Show = Callable[[Page, Ui], FloatRect]
"""Opens a page and makes it ready; returns the part of it that the picture shows."""


@contextmanager
def _browser(home: Path) -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            home / "browser",
            executable_path=_CHROMIUM,
            args=_SWITCHES,
            viewport={"width": WIDTH, "height": 900},
            color_scheme="light",
        )
        try:
            context.route(_ELSEWHERE, lambda route: route.abort())
            yield context
        finally:
            context.close()


def _take(browser: BrowserContext, ui: Ui, name: str, show: Show) -> int:
    """Take one picture and return its size in bytes."""
    page = browser.new_page()
    part = show(page, ui)
    # A logo from elsewhere that could not be had would be a broken picture.
    page.evaluate("for (const each of document.images) if (!each.naturalWidth) each.style.display = 'none'")
    picture = _packed(_settled(page, part))
    page.close()
    if len(picture) > _LARGEST:
        raise SystemExit(f"{name}.png has {len(picture)} bytes, more than {_LARGEST}")
    (IMAGES / f"{name}.png").write_bytes(picture)
    return len(picture)


def _packed(picture: bytes) -> bytes:
    """Return a picture with a palette in place of each pixel's own colour: a third of the size, and looks the same."""
    packed = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(256).save(packed, "PNG", optimize=True)
    return packed.getvalue()


def _settled(page: Page, part: FloatRect | None = None) -> bytes:
    """Return a picture of a page that no longer changes: the graph of a run is drawn step by step on a canvas."""
    before, now = b"", page.screenshot(clip=part)
    while now != before:
        page.wait_for_timeout(500)
        before, now = now, page.screenshot(clip=part)
    return now


def _down_to(page: Page, end: Locator, gap: int = 8) -> FloatRect:
    """Return the part of a page above something, and make the window so high."""
    end.wait_for()
    _settled(page)
    box = end.bounding_box()
    assert box
    height = int(box["y"]) - gap
    page.set_viewport_size({"width": WIDTH, "height": height})
    return {"x": 0, "y": 0, "width": WIDTH, "height": height}


def _flow_run(page: Page, ui: Ui) -> FloatRect:
    """Steps by what they wait for; the marks of artifacts and events would hide their names."""
    page.goto(f"{ui.run('Completed')}?tab=TaskRuns")
    page.get_by_text("evaluate", exact=True).wait_for()
    _settled(page)
    graph = page.locator("canvas").locator("xpath=ancestor::*[.//button][1]")
    settings = graph.get_by_role("button").last
    settings.click()
    page.get_by_label("Dependency grid").check()
    for mark in ("Hide artifacts", "Hide events"):
        page.get_by_label(mark).click()
    page.get_by_role("tab", name="Task Runs").click()
    page.get_by_label("Dependency grid").wait_for(state="hidden")
    return _down_to(page, page.get_by_text("Items per page"), gap=16)


def _summary(page: Page, ui: Ui) -> FloatRect:
    page.goto(ui.artifact("local--fit-c10-0-summary"))
    return _down_to(page, page.get_by_role("button", name="Show Raw Data"))


def _plot(page: Page, ui: Ui) -> FloatRect:
    """Enlarged, since Prefect shows it no larger than it is; below it Prefect writes its whole address."""
    return _content(
        page, ui.artifact("local--fit-c10-0-plot"), page.get_by_role("tabpanel").get_by_role("img"), zoom=1.9
    )


def _failure(page: Page, ui: Ui) -> FloatRect:
    """Without the column on the right, where Prefect repeats all words of the error without its lines."""
    return _content(page, ui.artifact("local--check-failure"), page.get_by_test_id("markdown-display"), zoom=1.8)


def _content(page: Page, address: str, shown: Locator, zoom: float) -> FloatRect:
    """Open an artifact's page so that its content may have the whole width of the picture; return where that is."""
    page.set_viewport_size({"width": int(WIDTH - 2 * _MARGIN + zoom * _BESIDE), "height": 900})
    page.goto(address)
    page.evaluate("zoom => document.documentElement.style.zoom = zoom", zoom)
    shown.wait_for()
    _settled(page)
    box = shown.bounding_box()
    assert box
    height = int(box["y"] + box["height"] + _MARGIN)
    page.set_viewport_size({"width": int(WIDTH - 2 * _MARGIN + zoom * _BESIDE), "height": height})
    return {"x": box["x"] - _MARGIN, "y": 0, "width": WIDTH, "height": height}


def _block_form(page: Page, ui: Ui) -> FloatRect:
    """Down to the third group of fields."""
    page.goto(f"{ui.base}/blocks/catalog/sagemaker-project/create")
    page.get_by_label("Bucket", exact=True).wait_for()
    for title, value in (("Bucket", "example-research-data"), ("Project", "churn"), ("Name", "research")):
        page.get_by_label(title, exact=True).fill(value)
    return _down_to(page, page.locator("form label").filter(has_text=re.compile("^Jobs:")).first)


_PICTURES: dict[str, Show] = {
    "flow-run": _flow_run,
    "summary": _summary,
    "plot": _plot,
    "failure": _failure,
    "block-form": _block_form,
}


if __name__ == "__main__":
    raise SystemExit(main())
