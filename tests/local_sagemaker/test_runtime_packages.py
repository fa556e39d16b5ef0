"""What pip does in a job: it replaces and removes packages, and the server's Python stays unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from runtime_laboratory import BUCKET, channel, laboratory
from wheels import wheel

__all__ = ["laboratory"]

INSTALLED = distribution("packaging")  # its metadata has folders, and pip has its own copy
SITE = Path(INSTALLED.locate_file(""))
NEWER, OLDER = "99.1", "0.1"


def packaging(version):
    """Return a wheel of `packaging` with a nested package, and with folders in its metadata, as the real one has."""
    files = {
        "packaging/__init__.py": f"__version__ = {version!r}\n",
        "packaging/inner/deep/__init__.py": f"VERSION = {version!r}\n",
        f"packaging-{version}.dist-info/licenses/deep/LICENSE": "free\n",
    }
    return wheel("packaging", version, files)


def outer():
    """Return all files of the installed package with their digests."""
    return {str(file): hashlib.sha256(file.locate().read_bytes()).hexdigest() for file in INSTALLED.files or ()}


def put_wheels(laboratory):
    """Store the wheels; return the channel that brings them."""
    for version in (NEWER, OLDER):
        laboratory.put(f"wheels/packaging-{version}-py3-none-any.whl", packaging(version))
    return [channel("wheels", f"s3://{BUCKET}/wheels/")]


# What Python reports after each change. `pip` must be the same by name and as a module.
SCRIPT = """
install="install -q --no-index --no-deps --find-links $R/opt/ml/input/data/wheels"
python -m pip $install packaging==NEWER && python -c 'import packaging.inner.deep as deep; print(deep.VERSION)'
pip $install packaging==OLDER && python -c 'import packaging; print(packaging.__version__)'
pip uninstall -q -y packaging
python -c 'from importlib.metadata import distributions; print({d.version for d in distributions(name="packaging")})'
""".replace("NEWER", NEWER).replace("OLDER", OLDER)
REMOVED, LEFT = "set()", repr({INSTALLED.version})


def test_a_job_replaces_a_package(laboratory):
    """A job can upgrade, downgrade and uninstall a package; the Python outside and the next job are unchanged.

    After the uninstall, an overlay has no such package, as in an image. An environment still has the Python's own
    package.
    """
    before = outer()
    job = laboratory.train(SCRIPT, InputDataConfig=put_wheels(laboratory))
    said = laboratory.lines()
    laboratory.train("python -c 'import packaging; print(packaging.__version__)'", name="next")

    assert job.status == "Completed", said
    assert said == [NEWER, OLDER, REMOVED if laboratory.isolation == "auto" else LEFT]
    assert outer() == before
    assert laboratory.lines(name="next") == [INSTALLED.version]


@pytest.fixture
def python_with_a_mount(tmp_path):
    """Return a function that runs a program where a mount in the Python's folder prevents an overlay."""
    folder = next(path for path in (SITE / "packaging").iterdir() if path.is_dir() and path.name != "__pycache__")

    def run(program, *arguments):
        bind = f'mount --bind {folder} {folder} && exec "$@"'
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", bind, "sh", sys.executable, "-c"]
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(
            [*command, program, *arguments], capture_output=True, text=True, check=True, env=variables
        ).stdout

    return run


IN_NAMESPACE = """
import json, sys
from pathlib import Path
from runtime_laboratory import Laboratory
from test_runtime_packages import SCRIPT, put_wheels
laboratory = Laboratory(Path(sys.argv[1]), "auto")
try:
    job = laboratory.train(SCRIPT, InputDataConfig=put_wheels(laboratory))
    (log,) = (laboratory.home / "logs").glob("*/job/*.jsonl")
    print(json.dumps([job.status, laboratory.lines(), log.read_text()]))
finally:
    laboratory.close()
"""


def test_a_namespace_without_overlay(python_with_a_mount, tmp_path):
    """If the Python cannot be overlaid, the log says so, and pip changes the job's own environment."""
    before = outer()
    status, said, log = json.loads(python_with_a_mount(IN_NAMESPACE, str(tmp_path)).splitlines()[-1])

    assert status == "Completed"
    assert "LOCAL_SAGEMAKER_ROOT" not in log  # it still runs in a namespace
    assert said == [NEWER, OLDER, LEFT]
    assert "go into an environment of its own" in log
    assert outer() == before
