"""`bin/setup`: the real file with the real venv and pip, in a small project that needs no network."""

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / "bin" / "setup"
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "tiny"
version = "1"
"""
# Builds an editable wheel with the standard library alone. If a FIFO `gate` exists, the build waits there for the test.
BACKEND = """
import os, zipfile

def build_editable(directory, config_settings=None, metadata_directory=None):
    if os.path.exists("gate"):
        open("gate").read()
    name, info = "tiny-1-py3-none-any.whl", "tiny-1.dist-info/"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.writestr(info + "METADATA", open("METADATA").read())
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""
METADATA = "Metadata-Version: 2.1\nName: tiny\nVersion: 1\nProvides-Extra: quickstart\nProvides-Extra: dev\n"


class Checkout:
    """A folder with `bin/setup` and a project without dependencies."""

    def __init__(self, root):
        self.root = root
        (root / "bin").mkdir(parents=True)
        shutil.copy(SETUP, root / "bin" / "setup")
        (root / "pyproject.toml").write_text(PYPROJECT)
        (root / "backend.py").write_text(textwrap.dedent(BACKEND))
        (root / "METADATA").write_text(METADATA)
        (root / "constraints.txt").write_text("# none\n")

    def start(self, extra, stderr=subprocess.PIPE, **variables):
        environment = {**os.environ, "PIP_NO_INDEX": "1", "UV_OFFLINE": "1", "UV": "", **variables}
        command = [sys.executable, str(self.root / "bin" / "setup"), extra]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)

    def setup(self, extra, **variables):
        """Run `bin/setup`; return its exit code and its output."""
        with self.start(extra, **variables) as process:
            said, errors = process.communicate()
        return process.returncode, said + errors

    @property
    def record(self):
        """The record that the set-up wrote."""
        return json.loads((self.root / ".venv" / "setup.json").read_text())

    def installed(self):
        """Return the project's version in the venv; empty if it is not installed."""
        code = "from importlib.metadata import version; print(version('tiny'))"
        python = str(self.root / ".venv" / "bin" / "python")
        return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def drained(terminal):
    """Return the rest of a terminal's output until its last writer is gone, which Linux reports as an error."""
    said = b""
    with contextlib.suppress(OSError):
        while some := terminal.read(1000):
            said += some
    return said


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose path contains a space."""
    return Checkout(tmp_path / "my project")


uv = pytest.param({"UV": "uv"}, id="uv", marks=pytest.mark.skipif(not shutil.which("uv"), reason="uv is not installed"))


@pytest.mark.parametrize("variables", [pytest.param({}, id="pip"), uv])
def test_second_call_does_nothing_until_something_changes(checkout, variables):
    """The first call makes a venv with the project, the second is silent, also after `touch`, and a change updates it.

    Without a terminal, each phase is named at its start and at its end.
    """
    code, said = checkout.setup("quickstart", **variables)

    assert code == 0, said
    assert "first time" in said
    phases = [line.strip() for line in said.splitlines() if line.startswith("  ")]
    assert [line for line in phases if line.endswith(" …")] == ["venv …", "packages …", "first imports …"]
    assert [line.partition("   ")[0] for line in phases[1::2]] == ["venv", "packages", "first imports"]
    assert checkout.installed() == "1"

    os.utime(checkout.root / "pyproject.toml")

    assert checkout.setup("quickstart", **variables) == (0, "")

    (checkout.root / "constraints.txt").write_text("# changed\n")
    code, said = checkout.setup("quickstart", **variables)

    assert code == 0, said
    assert "constraints.txt changed" in said
    assert "  venv" not in said
    assert checkout.setup("quickstart", **variables) == (0, "")


@pytest.mark.exhaustive
def test_dev_contains_quickstart(checkout):
    """`make test` adds to what `make quickstart` installed, and a later `make quickstart` removes nothing."""
    checkout.setup("quickstart")
    code, said = checkout.setup("dev")

    assert code == 0, said
    assert "dev needs more" in said
    assert checkout.setup("quickstart") == (0, "")

    (checkout.root / "constraints.txt").write_text("# changed\n")
    checkout.setup("quickstart")

    assert checkout.record["extra"] == "dev"


@pytest.mark.exhaustive
def test_interrupted_set_up_is_done_again(checkout):
    """After a set-up was ended or killed during the installation, the next call waits for its rest, and starts over."""
    gate = checkout.root / "gate"
    codes = []
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.mkfifo(gate)
        process = checkout.start("quickstart")
        with process, gate.open("w"):  # opens when the build waits at the other end
            process.send_signal(number)
            gate.unlink()
            process.wait()
        codes.append(process.returncode)
    code, said = checkout.setup("quickstart")

    assert codes == [130, -signal.SIGKILL]
    assert code == 0, said
    assert "the last set-up did not end" in said
    assert checkout.installed() == "1"


@pytest.mark.exhaustive
def test_two_at_once_set_up_once(checkout):
    """Two commands that start at the same time both succeed, and one of them does the work."""
    gate = checkout.root / "gate"
    os.mkfifo(gate)
    both = [checkout.start("quickstart") for _ in range(2)]
    gate.open("w").close()
    gate.unlink()
    said = [process.communicate()[1] for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert sum("installed" in text for text in said) == 1
    assert checkout.installed() == "1"


def test_failure_shows_the_end_of_the_log_and_the_remedy(checkout):
    """A failed installation shows the installer's own error and what to do, with exit code 1."""
    (checkout.root / "METADATA").write_text(METADATA + "Requires-Dist: no-such-package-here\n")
    code, said = checkout.setup("quickstart")

    assert code == 1
    assert "| ERROR: No matching distribution found for no-such-package-here" in said
    assert "What to do: The package index has no such version" in said


@pytest.mark.exhaustive
def test_foreign_venv_stays_untouched(checkout):
    """A `.venv` that the set-up did not make is neither used, changed nor removed."""
    mine = checkout.root / ".venv" / "bin" / "mine"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    code, said = checkout.setup("quickstart")

    assert code == 1
    assert "move it away" in said
    assert checkout.setup("remove")[0] == 0
    assert [mine] == [path for path in (checkout.root / ".venv").rglob("*") if path.is_file()]


@pytest.mark.exhaustive
def test_something_moves_while_a_phase_lasts(checkout):
    """On a terminal the seconds of a phase are updated while the installer is silent."""
    gate = checkout.root / "gate"
    os.mkfifo(gate)
    master, slave = pty.openpty()
    process = checkout.start("quickstart", stderr=slave, TERM="xterm")
    os.close(slave)
    with process, os.fdopen(master, "rb", buffering=0) as terminal:
        with gate.open("w"):
            said = b""
            while len(set(re.findall(rb"\r\033\[K  packages +([0-9.]+) s", said))) < 2:
                said += terminal.read(1000)
            gate.unlink()
        said += drained(terminal)

    assert process.returncode == 0
    assert re.search(rb"  packages +[0-9.]+ s  \d+ installed\r?\n", said)
