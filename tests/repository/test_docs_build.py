"""The documentation builds without a warning and without a network, and its links have targets."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("sphinx", reason="Sphinx of today asks for Python 3.11")

ROOT = Path(__file__).parents[2]
NO_WAY_OUT = "http://127.0.0.1:9"  # a proxy that does not exist


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, built as by `make docs`."""
    target = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(target / "trees")]
    offline = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NO_WAY_OUT)
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(target / "html")],
        cwd=ROOT,
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target / "html"


class Page(HTMLParser):
    """The links, the anchors and the loaded files of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.add(found["href"])
        self.loaded |= {found[name] for name in ("src",) if name in found}
        if tag == "link" and found.get("rel") == "stylesheet":
            self.loaded.add(found["href"])


@pytest.mark.exhaustive
def test_internal_links_lead_somewhere(site):
    """Each link inside the site has its page, and its anchor on that page."""
    pages = {file: Page(file) for file in site.rglob("*.html")}
    broken = [
        f"{file.relative_to(site)}: {link}"
        for file, page in pages.items()
        for link in page.links
        if not urlsplit(link).scheme and not leads_somewhere(file, link, pages)
    ]

    assert broken == []


def leads_somewhere(file: Path, link: str, pages: dict[Path, Page]) -> bool:
    """Return whether the target of a relative link exists."""
    parts = urlsplit(link)
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if target not in pages:
        return target.is_file()
    return not parts.fragment or unquote(parts.fragment) in pages[target].anchors


@pytest.mark.exhaustive
def test_pages_load_nothing_from_elsewhere(site):
    """Styles, scripts and images are files of the site, so that a reader calls no other host."""
    foreign = {part for file in site.rglob("*.html") for part in Page(file).loaded if urlsplit(part).netloc}

    assert foreign == set()


@pytest.mark.exhaustive
def test_every_page_is_in_the_menu(site):
    """Each page of `docs/` is in the menu of the first page."""
    menu = {urlsplit(link).path for link in Page(site / "index.html").links}
    pages = {file.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for file in (ROOT / "docs").rglob("*.md")}

    assert pages - menu - {"index.html"} == set()
