"""Containers as SageMaker prepares them, in temporary directories, with the bundle started in them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from played_aws import PlayedAws

import worker_toolkit

PACKAGE = Path(worker_toolkit.__file__).parent
MAIN = "from worker_toolkit.bootstrap import main\nraise SystemExit(main())\n"
PROCESSING = "/opt/ml/processing"
HANGS_AFTER_SECONDS = 120


class Container:
    """One host of a job: the files that SageMaker writes before it starts, and the files that the job leaves."""

    def __init__(self, root: Path, kind: str, host: str = "algo-1", hosts: tuple[str, ...] = ("algo-1", "algo-2")):
        self.root, self.kind = root, kind
        self.channels: dict[str, dict[str, Any]] = {}
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "LOCAL_SAGEMAKER_ROOT": str(root),
            "SSM_FINGERPRINT": "f1",
            "SSM_PROJECT": "churn",
            "SSM_TASK": "fit",
        }
        resources: dict[str, Any] = {"current_host": host, "hosts": list(hosts)}
        if kind == "training":
            self.environment["TRAINING_JOB_NAME"] = "fit-1234-a1"
            resources["network_interface_name"] = "eth0"
            self.hyperparameters({})
            self.config("inputdataconfig.json", {})
        else:
            self.config("processingjobconfig.json", {"ProcessingJobName": "fit-1234-a1", "ProcessingInputs": None})
        self.config("resourceconfig.json", resources)
        self.channel("ssm_source")
        self.source({})

    def at(self, path: str) -> Path:
        """Return the path on this machine of a path in the container."""
        return self.root / path.lstrip("/")

    @property
    def code(self) -> Path:
        return self.at("/opt/ml/code")

    @property
    def bundle(self) -> Path:
        folder = "/opt/ml/input/data" if self.kind == "training" else f"{PROCESSING}/input"
        return self.at(f"{folder}/ssm_source")

    @property
    def output(self) -> Path:
        return self.at("/opt/ml/output/data" if self.kind == "training" else f"{PROCESSING}/output")

    @property
    def reason(self) -> Path:
        """The file from which SageMaker reads the reason of a failed job."""
        return self.at("/opt/ml/output/failure" if self.kind == "training" else "/opt/ml/output/message")

    def config(self, name: str, content: Any) -> None:
        folder = self.at("/opt/ml/input/config" if self.kind == "training" else "/opt/ml/config")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))

    def hyperparameters(self, values: dict[str, str]) -> None:
        self.config("hyperparameters.json", values)

    def channel(self, name: str, files: dict[str, bytes] | None = None) -> Path:
        """Add an input channel and return its directory."""
        if self.kind == "training":
            local = f"/opt/ml/input/data/{name}"
            how = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
            self.channels[name] = how
            self.config("inputdataconfig.json", self.channels)
        else:
            local = f"{PROCESSING}/input/{name}" if name == "ssm_source" else f"{PROCESSING}/input/data/{name}"
            self.processing_input(name, local)
        return self.fill(local, files or {})

    def processing_input(self, name: str, local: str) -> None:
        self.channels[name] = {"InputName": name, "S3Input": {"S3Uri": "s3://b/x/", "LocalPath": local}}
        inputs = list(self.channels.values())
        self.config("processingjobconfig.json", {"ProcessingJobName": "fit-1234-a1", "ProcessingInputs": inputs})

    def fill(self, path: str, files: dict[str, bytes]) -> Path:
        folder = self.at(path)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    def source(self, files: dict[str, str | bytes]) -> None:
        """Put the bundle into its channel, with these files as the user's code."""
        contents = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
        (self.bundle / "source.tar.gz").write_bytes(tarball(contents))
        (self.bundle / "start.sh").write_bytes((PACKAGE / "start.sh").read_bytes())
        with zipfile.ZipFile(self.bundle / "worker_toolkit.zip", "w", zipfile.ZIP_DEFLATED) as package:
            package.writestr("__main__.py", MAIN)
            for path in PACKAGE.glob("*.py"):
                package.write(path, f"worker_toolkit/{path.name}")

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start the container with the command of `ContainerEntrypoint`, and return at once."""
        script = f'exec sh "$LOCAL_SAGEMAKER_ROOT/{self.bundle.relative_to(self.root)}/start.sh" "$@"'
        return subprocess.Popen(
            ["/bin/sh", "-c", script, "ssm", *arguments],
            env={**self.environment, **environment},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self) -> None:
        """Kill every process of this container; a correct job leaves none."""
        # Search twice: during `exec` a process shows no environment, for up to 50 ms.
        while self._kill_processes() or self._kill_processes(after=0.05):
            time.sleep(0.01)

    def _kill_processes(self, after: float = 0.0) -> bool:
        time.sleep(after)
        mark, found = f"LOCAL_SAGEMAKER_ROOT={self.root}\0".encode(), False
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # the process has just ended, or belongs to another user
                if mark in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
                    found = True
        return found

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the container to its end; its whole output is on standard output, in order."""
        with self.start(*arguments, **environment) as process:
            out, err = process.communicate()
        assert err == ""
        return subprocess.CompletedProcess(arguments, process.returncode, out)

    def run_script(self, text: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a Python script to its end."""
        self.source({"fit.py": text})
        return self.run("--entry-point", "fit.py", *arguments, **environment)


def tarball(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    """Return a gzipped tarball of regular files."""
    return tarball_of([(_member(name, tarfile.REGTYPE, mode=mode), content) for name, content in files.items()])


def tarball_of(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """Return a gzipped tarball of any members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _member(name: str, kind: bytes, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, link, mode
    return member


@pytest.fixture
def make_container(tmp_path):
    """Make containers below the test's directory; kill them and fail the test if it hangs."""
    made: list[Container] = []
    hung = threading.Event()

    def end() -> None:
        for container in made:
            container.kill()

    def make(kind: str = "training", **how: Any) -> Container:
        made.append(Container(tmp_path / f"host-{len(made)}", kind, **how))
        return made[-1]

    watchdog = threading.Timer(HANGS_AFTER_SECONDS, lambda: (hung.set(), end()))
    watchdog.start()
    yield make
    watchdog.cancel()
    end()

    assert not hung.is_set()


@pytest.fixture(params=["training", "processing"])
def container(request, make_container):
    """A container of each kind of job."""
    return make_container(request.param)


@pytest.fixture
def training(make_container):
    """A container of a training job."""
    return make_container("training")


@pytest.fixture
def processing(make_container):
    """A container of a processing job."""
    return make_container("processing")


@pytest.fixture
def aws():
    """A running fake of the AWS services that a job calls."""
    with PlayedAws().served() as played:
        yield played


@pytest.fixture
def member():
    """A function that makes a tarball member from its name, type, link target and mode."""
    return _member


@pytest.fixture(name="tarball")
def tarball_fixture():
    """A function that makes a gzipped tarball of regular files."""
    return tarball


@pytest.fixture(name="tarball_of")
def tarball_of_fixture():
    """A function that makes a gzipped tarball of members."""
    return tarball_of
