"""Every example in the documentation and in the README does what its page says."""

from __future__ import annotations

from pathlib import Path

import pytest
from blocks_of_pages import UnknownBlock, blocks_of, matches

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
STORIES = [page for page in PAGES if any(True for _ in blocks_of(page))]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("page", STORIES, ids=[page.stem for page in STORIES])
def test_page_is_true(page, make_story):
    """The blocks of a page, run from top to bottom in a fresh directory, have the output that the page shows."""
    make_story(page).live()


@pytest.mark.parametrize(
    ("expected", "said", "same"),
    [
        ("ran", "ran\n", True),
        ("ran", "ran\nand more\n", False),
        ("…\nran", "16:01 starting\n16:02 loading\nran\n", True),
        ("fit  …  Completed", "fit  2.1 s  Completed", True),
        ("a\n…\nb", "a\nb", True),
        ("a…b", "a\nb", False),
        ("1.5 (x)", "1x5 (x)", False),
    ],
)
def test_dots_stand_for_what_varies(expected, said, same):
    """`…` alone on a line stands for any lines, within a line for anything; all else is literal."""
    assert matches(expected, said) is same


def test_a_block_that_is_not_run_is_refused(tmp_path):
    """A block in a language that is not run needs a file name or a reason, so that no example becomes stale."""
    page = tmp_path / "page.md"
    page.write_text("```yaml\na: 1\n```\n")

    with pytest.raises(UnknownBlock, match=r"page\.md:1: a 'yaml' block"):
        list(blocks_of(page))


def test_a_reason_counts_for_one_block(tmp_path):
    """A remark applies only to the block after it."""
    page = tmp_path / "page.md"
    page.write_text("<!-- not run: needs AWS -->\n```sh\naws s3 ls\n```\n\n```sh\nls\n```\n")

    assert [block.not_run for block in blocks_of(page)] == ["needs AWS", ""]


@pytest.mark.parametrize(
    "content",
    [
        "```python\n1 / 0\n```\n",
        "<!-- raises KeyError -->\n```python\n1 / 0\n```\n",
        "<!-- raises KeyError -->\n```python\n1\n```\n",
        "```python\nprint(1)\n```\n\n```text\n2\n```\n",
        "```sh\nfalse\n```\n",
        "<!-- exits 1 -->\n```sh\ntrue\n```\n",
        "```{code-block} python\n:caption: flow.py\n\ndef\n```\n",
        "<!-- not run: needs AWS -->\n```python\ndef\n```\n",
    ],
)
def test_a_wrong_page_fails(content, tmp_path, make_story):
    """A block that fails, does not fail as announced, or has another output fails the page's test."""
    page = tmp_path / "page.md"
    page.write_text(content)

    with pytest.raises((AssertionError, SyntaxError)):
        make_story(page).live()


def test_a_story_goes_on_where_it_was(tmp_path, make_story):
    """Shell blocks keep directory and variables, files are written there, and Python blocks share their names."""
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\nmkdir mine\ncd mine\nexport WORD=kept\n```\n\n"
        "```{code-block} sh\n:caption: say.sh\n\necho $WORD\n```\n\n"
        "```sh\nsh say.sh\n```\n\n```text\nkept\n```\n\n"
        "```python\nnumber = 6\n```\n\n```python\nprint(number * 7)\n```\n\n```text\n42\n```\n"
    )

    make_story(page).live()
