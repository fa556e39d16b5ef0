"""Runs the blocks of one page from top to bottom, in a directory of its own.

Files are written, shell blocks run in bash, and Python blocks run in one namespace of this process. So a page costs the
start of its own local SageMaker (a second or two), and not also an import of Prefect.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blocks_of_pages import Block, blocks_of, matches

_PATIENCE_SECONDS = 240

# The next block continues where this one ended: in its directory, with its variables.
_SHELL = """\
set -e
if [ -e "$STORY_NOTES" ]; then . "$STORY_NOTES"; fi
{block}
{{ printf 'cd %q\\n' "$PWD"; declare -px; }} > "$STORY_NOTES"
"""


class Story:
    """The run of one page.

    Args:
        page: The page.
        directory: An empty directory, or one with the files that the page says the reader has.
        variables: The environment of the shell blocks; Python blocks use that of this process.
    """

    def __init__(self, page: Path, directory: Path, variables: Mapping[str, str]) -> None:
        self.page, self.directory = page, directory
        self._notes = directory.parent / "notes.sh"
        self._variables = {**variables, "STORY_NOTES": str(self._notes)}
        self._names: dict[str, Any] = {"__name__": "page"}
        self._said: tuple[str, ...] = ()

    def live(self) -> None:
        """Run every block.

        Raises:
            AssertionError: A block fails or has another output than on the page; the message has page and line.
        """
        for block in blocks_of(self.page):
            getattr(self, f"_{block.kind}")(block)

    def _file(self, block: Block) -> None:
        if block.language == "python":
            self._compiled(block)
        path = self._here / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.content)

    def _python(self, block: Block) -> None:
        code = self._compiled(block)
        if block.not_run:
            return
        out, ended = io.StringIO(), ""
        with contextlib.redirect_stdout(out):
            try:
                exec(code, self._names)
            except Exception as error:  # the page says which exception is expected
                ended = type(error).__name__
                self._said = (str(error),)
                if ended != block.raises:
                    raise AssertionError(f"{self._place(block)} {error}") from error
        assert ended == block.raises, f"{self._place(block)} no {block.raises}"
        if not ended:
            self._said = (out.getvalue(),)

    def _sh(self, block: Block) -> None:
        if block.not_run:
            return
        done = subprocess.run(
            ["bash", "-c", _SHELL.format(block=block.content)],
            cwd=self.directory,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_SECONDS,
        )
        self._said = (done.stdout, done.stderr)
        assert done.returncode == block.exits, (
            f"{self._place(block)} exit code {done.returncode}\n{block.content}\n{done.stdout}\n{done.stderr}"
        )

    def _text(self, block: Block) -> None:
        if block.not_run:
            return
        assert any(matches(block.content, said) for said in self._said), (
            f"{self._place(block)} the page has\n{block.content}\nand it was\n" + "\n--\n".join(self._said)
        )

    def _compiled(self, block: Block) -> Any:
        """Compile a block so that tracebacks and `inspect` find its lines."""
        name = f"<{self._place(block)}>"
        linecache.cache[name] = (len(block.content), None, block.content.splitlines(keepends=True), name)
        return compile(block.content, name, "exec", dont_inherit=True)

    @property
    def _here(self) -> Path:
        """The shell's directory: a `cd` on the page applies to the files that come after it."""
        notes = self._notes.read_text().splitlines() if self._notes.exists() else []
        if not notes:
            return self.directory
        asked = ["bash", "-c", f"{notes[0]} && pwd"]
        return Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.rstrip("\n"))

    def _place(self, block: Block) -> str:
        return f"{self.page.name}:{block.line}:"


def shell_variables(**variables: str) -> dict[str, str]:
    """Return this process's environment without the user's settings for AWS, Prefect, this package or a proxy.

    The directory of this Python comes first in `PATH`.
    """
    foreign = ("AWS_", "PREFECT_", "LOCAL_SAGEMAKER_", "QUICKSTART_", "PYTHONPATH", "FORCE_COLOR", "COLUMNS")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) and not name.lower().endswith("_proxy")
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return {**kept, "PATH": path, "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1", **variables}
