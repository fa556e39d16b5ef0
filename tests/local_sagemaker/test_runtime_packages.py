"""What pip really does in a job: it replaces and removes packages of the Python, which itself stays as it is."""

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

INSTALLED = distribution("packaging")  # it has folders in its metadata, and `pip` a copy of its own
SITE = Path(INSTALLED.locate_file(""))
NEWER, OLDER = "99.1", "0.1"


def packaging(version):
    """A wheel of `packaging` with a package below the package, and folders in its metadata, as the real one has."""
    files = {
        "packaging/__init__.py": f"__version__ = {version!r}\n",
        "packaging/inner/deep/__init__.py": f"VERSION = {version!r}\n",
        f"packaging-{version}.dist-info/licenses/deep/LICENSE": "free\n",
    }
    return wheel("packaging", version, files)


def outer():
    """All files of the installed package, with their content."""
    return {str(file): hashlib.sha256(file.locate().read_bytes()).hexdigest() for file in INSTALLED.files or ()}


def put_wheels(laboratory):
    """Store the wheels, and return the channel that brings them."""
    for version in (NEWER, OLDER):
        laboratory.put(f"wheels/packaging-{version}-py3-none-any.whl", packaging(version))
    return [channel("wheels", f"s3://{BUCKET}/wheels/")]


# What Python says after each change. `pip` by name and as a module must be the same.
SCRIPT = """
install="install -q --no-index --no-deps --find-links $R/opt/ml/input/data/wheels"
python -m pip $install packaging==NEWER && python -c 'import packaging.inner.deep as deep; print(deep.VERSION)'
pip $install packaging==OLDER && python -c 'import packaging; print(packaging.__version__)'
pip uninstall -q -y packaging
python -c 'from importlib.metadata import distributions; print({d.version for d in distributions(name="packaging")})'
""".replace("NEWER", NEWER).replace("OLDER", OLDER)
REMOVED, LEFT = "set()", repr({INSTALLED.version})


def test_a_job_replaces_a_package(laboratory):
    """Upgrade, downgrade and uninstall in one job; the Python outside keeps every byte, and so does the next job.

    In an overlay nothing is left after the uninstall, as in an image; in an environment the Python's own package is.
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
    """Programs of a namespace in which the Python's folder holds another mount, so that it cannot be overlaid."""
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
    """Where the Python cannot be overlaid, the log says so, and pip changes an environment of the job's own."""
    before = outer()
    status, said, log = json.loads(python_with_a_mount(IN_NAMESPACE, str(tmp_path)).splitlines()[-1])

    assert status == "Completed"
    assert "LOCAL_SAGEMAKER_ROOT" not in log  # it is a namespace all the same
    assert said == [NEWER, OLDER, LEFT]
    assert "go into an environment of its own" in log
    assert outer() == before
