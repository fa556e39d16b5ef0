"""A user's own repository with the built wheel: install, `ssm init`, run, run again, deploy.

The wheel is really installed, in a clean virtual environment that does not see this checkout. Its 200 dependencies are
not installed again (80 s, 0.8 GB): a `.pth` file adds those of the environment that runs the tests. Other `.pth` files
there, such as the editable install of this checkout, have no effect: Python reads such files only in its own
site-packages. These tests cannot find a dependency that is missing in pyproject.toml. `bin/setup`, which installs by
pyproject.toml alone, does.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import urllib.request
from pathlib import Path

import pytest

PATIENCE_SECONDS = 180
FOREIGN = ("AWS_", "PREFECT_", "LOCAL_SAGEMAKER_", "QUICKSTART_", "PYTHONPATH", "VIRTUAL_ENV", "COLUMNS", "COVERAGE_")


@pytest.fixture(scope="module")
def installed(wheel_file, tmp_path_factory):
    """The folder of a clean virtual environment with the wheel."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", str(venv))
    python = str(venv / "bin" / "python")
    uv = shutil.which("uv")
    pip = [uv, "pip", "--offline", "install"] if uv else [sys.executable, "-m", "pip"]
    where = ["--python", python]
    run(*([*pip, *where] if uv else [*pip, *where, "install", "--no-index"]), "--no-deps", str(wheel_file))
    paths = sysconfig.get_paths()
    [own] = venv.glob("lib/python*/site-packages")
    (own / "dependencies.pth").write_text("\n".join(dict.fromkeys([paths["purelib"], paths["platlib"]])) + "\n")
    return venv


class Repository:
    """A folder in which a new user works, with commands of the installed wheel."""

    def __init__(self, folder, venv, backend, server):
        self.folder, self.backend, self._bin = folder, backend, venv / "bin"
        self._variables = environment(
            PREFECT_API_URL=server,
            PREFECT_HOME=str(folder.parent / "prefect"),
            LOCAL_SAGEMAKER_HOME=str(backend.home),
            PATH=f"{self._bin}{os.pathsep}{os.environ['PATH']}",
        )

    def try_out(self, *command):
        """Run a command in the folder; return the completed process."""
        return subprocess.run(
            [str(self._bin / command[0]), *command[1:]],
            cwd=self.folder,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )

    def run(self, *command):
        """Run a command in the folder, require exit code 0, and return its output."""
        done = self.try_out(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def files(self):
        """Return the paths of all files, relative to the folder."""
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}

    def jobs(self):
        """Return the names of all jobs in SageMaker."""
        sagemaker = self.backend.client("sagemaker")
        training = sagemaker.list_training_jobs()["TrainingJobSummaries"]
        processing = sagemaker.list_processing_jobs()["ProcessingJobSummaries"]
        return [job["TrainingJobName"] for job in training] + [job["ProcessingJobName"] for job in processing]


@pytest.fixture(scope="module")
def make_repository(installed, prefect_api, make_backend, tmp_path_factory):
    """Return a function that makes an empty folder to work in."""

    def make(name):
        place = tmp_path_factory.mktemp("stranger")
        (place / name).mkdir()
        return Repository(place / name, installed, make_backend(place / "sagemaker"), prefect_api)

    return make


@pytest.fixture(scope="module")
def churn(make_repository):
    """A repository made by `ssm init`, with the command's output."""
    repository = make_repository("churn")
    repository.said = repository.run("ssm", "init")
    repository.made = repository.files()  # before any command runs there
    return repository


def run(*command):
    """Run a command, and require exit code 0."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr


def environment(**variables):
    """Return this process's environment without settings that would lead the programs elsewhere."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(FOREIGN) and not name.lower().endswith("_proxy")
    }
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PREFECT_CLI_PROMPT": "false"}
    return {**kept, **quiet, **variables}


def ask(api, path, **body):
    """Send a request to a Prefect API: a POST if there is a body, otherwise a GET."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"{api}{path}", data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_the_wheel_is_what_runs(churn, installed):
    """The wheel runs, and not this checkout, which the environment of the tests has as an editable install."""
    code = "import blocks, local_sagemaker, tasks_lib, worker_toolkit as w; print(tasks_lib.__file__, w.__file__)"
    found = churn.run("python", "-I", "-c", code).split()

    assert all(Path(path).is_relative_to(installed) for path in found)


def test_init_says_what_it_made_and_what_next(churn):
    """`ssm init` names the files, the command for the policy, and the command that runs the flow at once."""
    assert {"flow.py", "code/prepare.py", "code/train.py", "project.py", "prefect.yaml"} <= churn.made
    assert all(f"\n  {path}\n" in churn.said for path in churn.made)
    assert "`ssm policy --project churn " in churn.said
    assert churn.said.rstrip().splitlines()[-1] == "Next: python flow.py"


def test_init_makes_a_block(churn, prefect_api):
    """`ssm init` saves a block for this machine on the configured server."""
    [block] = ask(prefect_api, "/block_documents/filter", block_documents={"name": {"any_": ["churn"]}})

    assert block["block_type"]["slug"] == "sagemaker-project"
    assert block["data"]["project"] == "churn"
    assert block["data"]["local_home"] == str(churn.backend.home)


def test_the_flow_runs_at_once_and_then_is_cached(churn):
    """1. Two jobs run. 2. Again: both are skipped. 3. By the name of the block: the same. 4. More epochs: one job."""
    first = churn.run("python", "flow.py")
    jobs = churn.jobs()
    again = churn.run("python", "flow.py")
    by_block = churn.run("python", "flow.py", "churn")

    assert len(jobs) == 2
    assert "metric error" in first
    assert "skipped" not in first
    assert again.count("Cached('skipped: nothing changed'") == 2
    assert by_block.count("Cached('skipped: nothing changed'") == 2
    assert churn.jobs() == jobs

    more = churn.run("python", "flow.py", "--epochs", "14")

    assert more.count("Cached('skipped: nothing changed'") == 1
    assert "epoch=12 " in more, "it goes on from its checkpoint"
    assert "epoch=11 " not in more
    assert len(churn.jobs()) == 3


def test_the_requirements_can_be_installed(churn, installed, wheel_file):
    """The requirements name the wheel from which the package was installed, since no index has this version."""
    assert (churn.folder / "requirements.txt").read_text() == f"prefect-sagemaker @ {Path(wheel_file).as_uri()}\n"
    uv = shutil.which("uv")
    pip = [uv, "pip", "--offline"] if uv else [sys.executable, "-m", "pip"]
    where = ["--python", str(installed / "bin" / "python")]
    command = [*pip, "install", *where] if uv else [*pip, *where, "install", "--no-index"]
    run(*command, "--dry-run", "--no-deps", "-r", str(churn.folder / "requirements.txt"))


def test_the_reaper_comes_with_the_wheel(churn):
    """The reaper of the wheel looks at the jobs of the repository's block, and its flow can be deployed from there."""
    said = churn.run("python", "-m", "tasks_lib.orphans.reap_orphans", "--project", "churn")
    load = "from prefect.flows import load_flow_from_entrypoint as load; print(load('{}').name)"
    name = churn.run("python", "-c", load.format("tasks_lib.orphans.reap_orphans.reap_orphans"))

    assert "Live jobs of churn: none" in said
    assert name.strip() == "reap-orphans"


def test_the_deployment_is_accepted(churn, prefect_api):
    """`prefect deploy --all` accepts the `prefect.yaml` of `ssm init`."""
    churn.run("python", "-m", "prefect", "work-pool", "create", "local", "--type", "process", "--overwrite")
    churn.run("python", "-m", "prefect", "deploy", "--all")
    found = ask(prefect_api, "/deployments/name/churn/nightly")

    assert found["entrypoint"] == "flow.pipeline"
    assert [row["schedule"]["cron"] for row in found["schedules"]] == ["0 2 * * *"]


def test_nothing_is_overwritten(churn):
    """A second `ssm init` names the existing files, and changes none."""
    before = {path: path.read_bytes() for path in churn.folder.rglob("*") if path.is_file()}
    done = churn.try_out("ssm", "init")

    assert done.returncode == 1
    assert "flow.py" in done.stderr
    assert {path: path.read_bytes() for path in churn.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("shadow", "statement"),
    [
        ("blocks", "from tasks_lib import sagemaker_tasks"),
        ("tasks_lib", "from tasks_lib import sagemaker_tasks"),
        ("worker_toolkit", "from tasks_lib import sagemaker_tasks"),
    ],
)
def test_a_folder_that_shadows_ours_is_named(make_repository, shadow, statement):
    """If Python finds a foreign package first in the user's directory, the error says where it is."""
    repository = make_repository("shadowed")
    file = repository.folder / shadow / "__init__.py"
    file.parent.mkdir()
    file.touch()
    (repository.folder / "flow.py").write_text(f"{statement}\n")
    done = repository.try_out("python", "flow.py")

    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert str(file) in done.stderr.partition("ImportError")[2]
