"""`requirements.txt` of the user's code: installed before it runs, from a wheelhouse where there is one."""

import socket

import pytest
from wheels import wheel

pytestmark = pytest.mark.sampled(3, group="all")


@pytest.fixture
def site(tmp_path):
    """A directory for pip to install into, so that the Python of the tests stays as it is: pip's own variables."""
    return {"PIP_TARGET": str(tmp_path / "site"), "PYTHONPATH": str(tmp_path / "site"), "PIP_NO_CACHE_DIR": "1"}


@pytest.fixture
def index():
    """An index of packages that nobody may ask: whoever calls it is seen."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/simple"
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_wheelhouse_needs_no_network(container, site, index):
    """With `wheelhouse/` no index is asked, as under network isolation, and the script imports what was installed."""
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
def test_what_cannot_be_installed_is_told(container, site):
    """A failure of pip is the job's: pip's last lines are the reason, and the script is not started."""
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
    """Where pip's errors end in an excerpt of the file, the line that says what is wrong is told first."""
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
    """Only a `requirements.txt` at the root starts pip: not a wheelhouse, not one further down."""
    container.source({"wheelhouse/x.whl": b"", "sub/requirements.txt": "nothing-like-this\n", "fit.py": "print('ran')"})
    ended = container.run("--entry-point", "fit.py")

    assert ended.stdout == "ssm: running fit.py on algo-1 of 2\nran\n"
