"""A page of the documentation as blocks that its reader would type, and their expected output.

Pages are read with markdown-it, which MyST uses itself, and not with sybil: a page is one story for one test, and every
block must be declared. CONTRIBUTING.md explains the convention to writers.
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
    """A block for which the convention has no rule."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        kind: `file` is written, `python` and `sh` are run, `text` is the output of the block before it.
        language: The language on the page.
        content: Its text.
        line: Its first line on the page, from 1.
        file: The name under which it is written; empty if it is not a file.
        not_run: Why it cannot run here; empty if it is run.
        exits: The exit code of a shell block; default 0.
        raises: The name of the exception that a Python block raises; empty if it raises none.
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
    """Yield the blocks of a page in order; a fence without a language is a drawing and does not count.

    Raises:
        UnknownBlock: A block is neither run, nor output, nor the content of a named file.
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
    """Return whether a page's output matches the real output.

    `…` alone on a line stands for any lines, within a line for anything. Spaces at the ends of lines do not count.
    """
    lines = [line.rstrip() for line in expected.strip().splitlines()]
    patterns = [r"(?:.*\n)*?" if line.strip() == "…" else _line(line) for line in lines]
    text = "".join(f"{line.rstrip()}\n" for line in said.strip().splitlines())
    return re.fullmatch("".join(patterns), text) is not None


def _line(line: str) -> str:
    return ".*".join(re.escape(part) for part in line.split("…")) + r"\n"
