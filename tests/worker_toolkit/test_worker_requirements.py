"""The user's `requirements.txt`: installed before the code runs, from a wheelhouse if there is one."""

import socket

import pytest
from wheels import wheel

pytestmark = pytest.mark.sampled(3, group="all")


@pytest.fixture
def site(tmp_path):
    """The variables that make pip install into a directory of the test, not into the Python that runs the tests."""
    return {"PIP_TARGET": str(tmp_path / "site"), "PYTHONPATH": str(tmp_path / "site"), "PIP_NO_CACHE_DIR": "1"}


@pytest.fixture
def index():
    """A package index that must not be called: the fixture fails the test if it is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/simple"
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_wheelhouse_needs_no_network(container, site, index):
    """With a `wheelhouse/`, pip asks no index, so packages can be installed under network isolation."""
    container.source(
        {
            "requirements.txt": "tinylib==1.2\n",
            "wheelhouse/tinylib-1.2-py3-none-any.whl": wheel("tinylib", "1.2", {"tinylib.py": "ANSWER = 42\n"}),
            "fit.py": "import tinylib; print(tinylib.ANSWER)",
        }
    )
    ended = container.run("--entry-point", "fit.py", **site, PIP_INDEX_URL=index, PIP_TIMEOUT="2", PIP_RETRIES="0")

    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.endswith("42\n")


@pytest.mark.always
def test_a_failure_of_pip_is_the_reason(container, site):
    """If pip fails, the job fails: pip's last lines are the reason, and the script is not started."""
    container.source(
        {
            "requirements.txt": "tinylib==7\n",
            "wheelhouse/tinylib-1.2-py3-none-any.whl": wheel("tinylib", "1.2", {"tinylib.py": ""}),
            "fit.py": "print('not reached')",
        }
    )
    ended = container.run("--entry-point", "fit.py", **site)
    reason = container.reason.read_text()

    assert ended.returncode == 1
    cause = "requirements.txt could not be installed: No matching distribution found for tinylib==7"
    assert reason.splitlines()[0] == f"the bootstrap on algo-1 of 2 ended with exit code 1: {cause}"
    assert reason.splitlines()[-1] == "ERROR: No matching distribution found for tinylib==7"
    assert ended.stdout.count("ERROR: No matching distribution") == 1  # the log has pip's own lines already
    assert "not reached" not in ended.stdout


def test_a_line_that_pip_does_not_understand_is_the_cause(container, site):
    """The line in which pip says what is wrong comes first, even if pip ends with an excerpt of the file."""
    container.source({"requirements.txt": "not a requirement\n", "fit.py": "print('not reached')"})
    container.run("--entry-point", "fit.py", **site)

    assert ": Invalid requirement: 'not a requirement'" in container.reason.read_text().splitlines()[0]


def test_a_path_in_the_requirements_is_the_codes(container, site):
    """Relative paths in `requirements.txt` start at the root of the code."""
    container.source(
        {
            "requirements.txt": "./vendored/tinylib-1.2-py3-none-any.whl\n",
            "vendored/tinylib-1.2-py3-none-any.whl": wheel("tinylib", "1.2", {"tinylib.py": "ANSWER = 43\n"}),
            "fit.py": "import tinylib; print(tinylib.ANSWER)",
        }
    )

    assert container.run("--entry-point", "fit.py", **site).stdout.endswith("43\n")


def test_without_requirements_pip_is_not_started(container):
    """Only a `requirements.txt` at the root starts pip; a wheelhouse or a file in a subdirectory does not."""
    container.source({"wheelhouse/x.whl": b"", "sub/requirements.txt": "nothing-like-this\n", "fit.py": "print('ran')"})
    ended = container.run("--entry-point", "fit.py")

    assert ended.stdout == "ssm: running fit.py on algo-1 of 2\nran\n"
