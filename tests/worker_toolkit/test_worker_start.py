"""How the toolkit starts in any image, which Python versions it supports, and what its files may import."""

import ast
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import worker_toolkit

pytestmark = pytest.mark.sampled(12, group="all")

FILES = sorted(Path(worker_toolkit.__file__).parent.glob("*.py"))


@pytest.fixture
def tools(tmp_path):
    """A directory for `PATH` that has only a shell."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "sh").symlink_to(os.path.realpath("/bin/sh"))
    return folder


def put_python(tools, name, executable):
    """Put a Python into a directory under a name. It is a script, since a link would hide its virtual environment."""
    (tools / name).write_text(f'#!/bin/sh\nexec "{executable}" "$@"\n')
    (tools / name).chmod(0o755)


@pytest.mark.parametrize("name", ["python3", "python"])
def test_either_name_of_python_will_do(container, tools, name):
    """An image that has only `python`, or only `python3`, works."""
    put_python(tools, name, sys.executable)
    ended = container.run("--command", "echo ran", PATH=str(tools))

    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.endswith("ran\n")


def test_an_image_without_python(container, tools):
    """Without Python the container ends with 127, and the log and the reason say what is missing."""
    container.reason.parent.mkdir(parents=True)
    ended = container.run("--command", "true", PATH=str(tools))

    assert ended.returncode == 127
    assert "this image has neither python3 nor python" in ended.stdout
    assert container.reason.read_text() == ended.stdout


def in_own_mounts(script):
    """Run a shell script in its own user and mount namespaces, in which it may mount."""
    return subprocess.run(["unshare", "-rm", "sh", "-ec", script], capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("namespaces")
def test_cuda_compatibility_is_sourced(training):
    """AWS's script for newer CUDA libraries is sourced in bash, and the variables that it sets reach the job."""
    training.source({"show.sh": 'echo "$LD_LIBRARY_PATH $BY_BASH"\n'})
    variables = " ".join(f"{name}='{value}'" for name, value in training.environment.items())
    ended = in_own_mounts(
        "mount -t tmpfs none /usr/local/bin\n"
        "echo 'export LD_LIBRARY_PATH=/usr/local/cuda/compat BY_BASH=\"${BASH_VERSION:+yes}\"' "
        "> /usr/local/bin/start_cuda_compat.sh\n"
        f"exec env -i {variables} sh {training.bundle}/start.sh --entry-point show.sh\n"
    )

    assert ended.stdout.endswith("/usr/local/cuda/compat yes\n"), ended.stdout


@pytest.mark.usefixtures("namespaces")
@pytest.mark.skipif(
    os.path.realpath(sys.base_prefix).startswith("/opt/"), reason="/opt is replaced, and our Python is in it"
)
def test_real_paths(container):
    """Without `LOCAL_SAGEMAKER_ROOT` the paths are those that AWS documents."""
    container.channel("data", {"rows.csv": b"1,2"})
    shown = "$SM_CHANNEL_DATA $SM_MODEL_DIR $SM_OUTPUT_DATA_DIR $SSM_STATE $PWD"
    # The state is below /opt/ml here: as root, this test must not make a `/state` on the machine.
    variables = f"PATH='{container.environment['PATH']}' TRAINING_JOB_NAME=fit SSM_STATE=/opt/ml/checkpoints"
    start = f"/{container.bundle.relative_to(container.root)}/start.sh"
    ended = in_own_mounts(
        f"mount -t tmpfs none /opt\nmkdir /opt/ml\nmount --bind {container.at('/opt/ml')} /opt/ml\n"
        f'exec env -i {variables} sh {start} --command \'echo "{shown}"; cat "$SM_CHANNEL_DATA/rows.csv"\'\n'
    )
    expected = {
        "training": "/opt/ml/input/data/data /opt/ml/model /opt/ml/output/data",
        "processing": "/opt/ml/processing/input/data/data /opt/ml/processing/output/model /opt/ml/processing/output",
    }[container.kind]

    assert ended.stdout.splitlines()[1:] == [f"{expected} /opt/ml/checkpoints /opt/ml/code", "1,2"], ended.stdout


def python_of(version, folder):
    """Return a directory for `PATH` whose `python3` is the given version; skip if this machine lacks it."""
    name = f"python{version}"
    asked = ["-c", "import sys; print(sys.executable)"]
    found = shutil.which(name) and subprocess.run([name, *asked], capture_output=True, text=True, check=False)
    if not found or found.returncode != 0:
        pytest.skip(f"{name} is not on this machine")
    folder.mkdir()
    put_python(folder, "python3", found.stdout.strip())
    return folder


@pytest.mark.parametrize("version", [f"3.{minor}" for minor in range(8, 15)])
def test_every_python_from_3_8_on(training, tarball, tmp_path, version):
    """All steps from unpacking to `WorkerConfig` work on each Python version that is installed here."""
    tools = python_of(version, tmp_path / "tools")
    training.channel("model", {"model.tar.gz": tarball({"w": b"7"})})
    training.hyperparameters({"lr": "0.1"})
    training.source(
        {
            "fit.py": "import sys\nfrom pathlib import Path\nfrom worker_toolkit import worker_lib\n"
            "config = worker_lib.WorkerConfig()\n"
            "print('%d.%d' % sys.version_info[:2], config.hps, Path(config.channel_model, 'w').read_text())\n"
            "raise ValueError('on purpose')"
        }
    )
    ended = training.run("--entry-point", "fit.py", "--extract", "model", PATH=f"{tools}:/usr/bin:/bin")

    assert ended.returncode == 1
    assert ended.stdout.splitlines()[1] == f"{version} {{'lr': 0.1}} 7"
    assert training.reason.read_text().startswith(
        "fit.py on algo-1 of 2 ended with exit code 1: ValueError: on purpose"
    )


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7"])
def test_an_old_python_is_an_error(training, tmp_path, version):
    """On an older Python the error names the version that is needed, and is not a syntax error."""
    ended = training.run("--command", "true", PATH=f"{python_of(version, tmp_path / 'tools')}:/usr/bin:/bin")

    assert ended.returncode == 1
    assert "ImportError: worker_toolkit needs Python 3.8 or newer" in ended.stdout.splitlines()[-1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_are_python_3_8_and_stand_alone(path):
    """Each file parses as Python 3.8, and imports only the standard library or, relatively, the package."""
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    absolute = {
        alias.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    absolute |= {
        (node.module or "").partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 0
    }

    assert absolute <= sys.stdlib_module_names


def test_it_works_under_another_name(tmp_path):
    """The package works under another name, because its files do not name it."""
    shutil.copytree(FILES[0].parent, tmp_path / "lifted", ignore=shutil.ignore_patterns("__pycache__"))
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "import lifted.bootstrap, lifted.worker_lib; print(lifted.worker_lib.WorkerConfig(False))",
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "LOCAL_SAGEMAKER_ROOT": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.stdout == "WorkerConfig(job_name='', host='', channels=[])\n", ended.stdout


def in_container(container, *arguments):
    """Return the command that starts a job as the first process of a PID namespace, as in a container."""
    start = ["sh", str(container.bundle / "start.sh"), *arguments]
    return ["unshare", "-rpf", "--mount-proc", *start]


@pytest.fixture
def namespaces():
    """Skip the test if this machine has no namespaces."""
    if shutil.which("unshare") is None:
        pytest.skip("util-linux is missing")
    tried = subprocess.run(["unshare", "-rpf", "--mount-proc", "true"], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip("this machine gives no user namespaces")


@pytest.mark.usefixtures("namespaces")
def test_as_first_process_it_still_gets_signals(training):
    """As a container's first process the bootstrap forwards SIGTERM.

    The kernel would drop the signal if the bootstrap had no handler.
    """
    training.source(
        {
            "fit.py": "import os, signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
            "print('parent', os.getppid(), flush=True)\nsignal.pause()\n"
        }
    )
    command = in_container(training, "--entry-point", "fit.py")
    with subprocess.Popen(command, env=training.environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("ssm: running")
        assert process.stdout.readline() == "parent 1\n"

        first = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
        os.kill(int(first), signal.SIGTERM)

        assert process.wait() == 3


@pytest.mark.usefixtures("namespaces")
def test_as_first_process_it_reaps_orphans(training):
    """As the first process the bootstrap reaps orphans, which would otherwise stay zombies until the training ends."""
    training.source(
        {
            "fit.py": "import os, sys, time\nreader, writer = os.pipe()\n"
            "if os.fork() == 0:\n    if os.fork() == 0:\n"
            "        while os.getppid() != 1:\n            time.sleep(0.001)\n"
            "        os.write(writer, str(os.getpid()).encode())\n"
            "    os._exit(0)\n"
            "os.wait()\norphan = os.read(reader, 20).decode()\ngive_up = time.monotonic() + 20\n"
            "while os.path.exists(f'/proc/{orphan}'):\n"
            "    if time.monotonic() > give_up:\n        sys.exit('still a zombie')\n"
            "    time.sleep(0.01)\n"
        }
    )
    command = in_container(training, "--entry-point", "fit.py")
    ended = subprocess.run(command, env=training.environment, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout
