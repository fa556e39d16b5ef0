"""Check the prose of docstrings, comments, messages and pages for words that `CONTRIBUTING.md` asks to avoid.

    python tests/check_prose.py [FILE...]

Part of `make lint`. Spelling is checked by codespell.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
BANNED = {
    r"\bmend(?:s|ed|ing)?\b": "fix, correct",
    r"\banew\b": "again",
    r"\blapse[sd]?\b": "expire",
    r"\bleast rights\b": "least privilege",
    r"\bwant of \w+": "insufficient, missing",
    r"\b(?:whoever|somebody|nobody|anybody|everybody)\b": "the caller, SageMaker, the user, no run, …: name the actor",
    r"(?<!there )\b(?:is|are) no (?!longer\b|more\b|less\b|later\b|other\b|such\b)": "is not a, is invalid, has no",
}
"""What to avoid, with what to write instead."""

_WORDS = re.compile("|".join(f"({pattern})" for pattern in BANNED), re.IGNORECASE)
_FENCE = re.compile(r"^\s*(```|~~~)")


def prose_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the prose of a file by line: comments and texts of Python, and of a page what is not code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield from _page(text)
        return
    before = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        # The values of a test may be anything; of the product they are messages.
        is_value = token.type != tokenize.COMMENT and before not in _STATEMENT_BEGINS
        if token.type in _PROSE and not (is_value and path.is_relative_to(ROOT / "tests")):
            yield from enumerate(token.string.splitlines(), token.start[0])
        before = token.type


_PROSE = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}  # Python 3.12 splits f-strings
_STATEMENT_BEGINS = {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT}


def _page(text: str) -> Iterator[tuple[int, str]]:
    code = False
    for number, line in enumerate(text.splitlines(), 1):
        if _FENCE.match(line):
            code = not code
        elif not code:
            yield number, re.sub(r"`[^`]*`", "``", line)


def findings(path: Path) -> Iterator[str]:
    """Yield what to avoid in a file, each with its line and with what to write instead."""
    for number, line in prose_of(path):
        for found in _WORDS.finditer(line):
            instead = [*BANNED.values()][next(index for index, group in enumerate(found.groups()) if group)]
            yield f"{path.relative_to(ROOT)}:{number}: {found[0].strip()!r}; write: {instead}"


def checked_files() -> list[Path]:
    """Return the files with prose of ours: all of Python and Markdown, without what others or the past wrote."""
    listed = subprocess.run(["git", "ls-files", "*.py", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split() if name not in ("CHANGELOG.md", "tests/check_prose.py")]


def main(arguments: list[str]) -> int:
    """Print all findings and return the exit code."""
    files = [Path(name).resolve() for name in arguments] or checked_files()
    found = [finding for path in files if path.is_file() for finding in findings(path)]
    print("\n".join(found) or f"prose of {len(files)} files: nothing found")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
