"""A page of the documentation as the blocks that its reader would type, and what they should see.

Read with markdown-it, which MyST itself stands on, and not with sybil: a page is one story for one test, and a block
that nobody declared must not slip through. CONTRIBUTING.md tells writers the convention.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from markdown_it import MarkdownIt

Kind = Literal["file", "python", "sh", "text"]

_DIRECTIVE = re.compile(r"\{code-block\}\s*(\S*)")
_OPTION = re.compile(r":([\w-]+):[ \t]*(.*)\n")
_REMARK = re.compile(r"<!-- (not run|exits|raises)(?:: | )(.+?) -->")
_RUN: dict[str, Kind] = {"python": "python", "sh": "sh", "text": "text"}


class UnknownBlock(Exception):
    """A block of which the convention does not say what to do with it."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        kind: `file` is written, `python` and `sh` are run, `text` is what the block before it says.
        language: As the page has it.
        content: Its text.
        line: Where it begins in the page, from 1.
        file: The name under which it is written.
        not_run: Why it cannot run here.
        exits: The exit code that a shell block ends with.
        raises: The name of the error that a Python block ends with.
    """

    kind: Kind
    language: str
    content: str
    line: int
    file: str = ""
    not_run: str = ""
    exits: int = 0
    raises: str = ""


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page in their order; a fence without a language is a drawing and no block.

    Raises:
        UnknownBlock: A language that is neither run, nor output, nor the content of a named file.
    """
    remarks: dict[str, str] = {}
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        if token.type == "html_block":
            remarks |= dict(_REMARK.findall(token.content))
        elif token.type == "fence" and (block := _block(page, token.info.strip(), token.content, token.map, remarks)):
            remarks = {}
            yield block


def _block(page: Path, info: str, content: str, place: list[int], remarks: dict[str, str]) -> Block | None:
    directive = _DIRECTIVE.fullmatch(info)
    if not info or (info.startswith("{") and not directive):
        return None
    options = {}
    while directive and (option := _OPTION.match(content)):
        options[option[1]] = option[2]
        content = content[option.end() :]
    language = directive[1] if directive else info
    if "caption" not in options and language not in _RUN and "not run" not in remarks:
        raise UnknownBlock(f"{page.name}:{place[0] + 1}: a {language!r} block is not run, and no file has its content")
    return Block(
        kind="file" if "caption" in options else _RUN.get(language, "text"),
        language=language,
        content=content.removeprefix("\n"),
        line=place[0] + 1,
        file=options.get("caption", ""),
        not_run=remarks.get("not run", ""),
        exits=int(remarks.get("exits", 0)),
        raises=remarks.get("raises", ""),
    )


def matches(expected: str, said: str) -> bool:
    """Tell whether a page's output is what was said.

    `…` on a line of its own stands for any lines, within a line for anything; spaces at the ends of lines do not count.
    """
    lines = [line.rstrip() for line in expected.strip().splitlines()]
    patterns = [r"(?:.*\n)*?" if line.strip() == "…" else _line(line) for line in lines]
    text = "".join(f"{line.rstrip()}\n" for line in said.strip().splitlines())
    return re.fullmatch("".join(patterns), text) is not None


def _line(line: str) -> str:
    return ".*".join(re.escape(part) for part in line.split("…")) + r"\n"
