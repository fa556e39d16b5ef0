"""The process of the user's program: what is run, its exit code, its live output and its signals."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.sampled(20, group="all")

READY_THEN_WAIT = """
import os, signal, sys
def stop(number, frame):
    os.write(1, b"saved the state\\n")  # a handler may come in the middle of a print
    sys.exit(3)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
print("ready", flush=True)
signal.pause()
"""


def read_until(stream, line):
    """Read a stream up to a line; fail if the stream ends first."""
    for found in stream:
        if found.rstrip("\n") == line:
            return
    pytest.fail(f"the stream ended without {line!r}")


@pytest.mark.always
@pytest.mark.sampled(4)
@pytest.mark.parametrize("code", [0, 1, 7, 255])
@pytest.mark.parametrize("how", ["python", "shell script", "shell command"])
def test_the_exit_code_is_the_programs(container, how, code):
    """The container ends with the exit code of the program that ran in it."""
    container.source({"fit.py": f"raise SystemExit({code})", "fit.sh": f"exit {code}"})
    arguments = {
        "python": ["--entry-point", "fit.py"],
        "shell script": ["--entry-point", "fit.sh"],
        "shell command": ["--command", f"exit {code}"],
    }

    assert container.run(*arguments[how]).returncode == code


def test_a_command_in_pieces(container):
    """The pieces of a long command are joined, whatever they begin with; a multi-line command is sent as JSON."""
    lines = json.dumps("printf '%s' '--'\nprintf '%s' 'x ö'")
    whole = container.run("--command", "printf '%s' '", "--command", "--command -- x", "--command", "'")
    wrapped = container.run("--command-json", lines[:20], "--command-json", lines[20:])

    assert whole.stdout.endswith("of 2\n--command -- x")
    assert wrapped.stdout.endswith("of 2\n--x ö")


@pytest.mark.parametrize(
    "arguments",
    [["--command", "true", "--command-json", '"true"'], ["--entry-point", "a.py", "--command", "true"], []],
)
def test_only_one_thing_is_run(container, arguments):
    """A file, a command and a JSON command exclude each other, and one of them is required."""
    ended = container.run(*arguments)

    assert ended.returncode == 2
    assert "exactly one of --entry-point, --command, --command-json" in ended.stdout


def test_a_command_that_is_no_json(container):
    """The error for a truncated JSON command does not show the command, which may hold a secret."""
    ended = container.run("--command-json", '"echo s3cret')

    assert ended.returncode == 2
    assert "--command-json is not valid JSON" in ended.stdout
    assert "s3cret" not in ended.stdout


@pytest.mark.always
def test_a_program_that_a_signal_ended(training):
    """If signal n kills the program, the container ends with 128+n, as in a shell."""
    assert training.run_script("import os; os.kill(os.getpid(), 9)").returncode == 137


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_script(training, number):
    """The script receives SageMaker's SIGTERM, or SIGINT of a terminal, in time to save its state.

    The container then ends with the script's exit code.
    """
    training.source({"fit.py": READY_THEN_WAIT})
    with training.start("--entry-point", "fit.py") as process:
        read_until(process.stdout, "ready")
        process.send_signal(number)

        assert process.stdout.readline() == "saved the state\n"
        assert process.wait() == 3


def test_a_script_that_ignores_signals_by_default(training):
    """Without a handler the signal ends the script, and the reason names the signal."""
    training.source({"fit.py": "import signal; print('ready', flush=True); signal.pause()"})
    with training.start("--entry-point", "fit.py") as process:
        read_until(process.stdout, "ready")
        process.terminate()

        assert process.wait() == 143
        assert "was ended by SIGTERM" in training.reason.read_text()


def test_a_shell_dies_but_its_program_may_finish(training):
    """A signal ends the shell that runs the training, but the training also gets it and can save its state."""
    training.source(
        {
            "fit.py": "import os, signal, sys\ndef save(*_):\n    for part in range(300):\n"
            "        os.write(1, b'part %d\\n' % part)\n        sys.stdin.readline()\n    sys.exit()\n"
            "signal.signal(signal.SIGTERM, save)\nprint('ready', flush=True)\nsignal.pause()\n"
        }
    )
    with training.start("--command", "python3 fit.py; echo not reached") as process:
        read_until(process.stdout, "ready")
        process.terminate()
        for part in range(300):  # many exchanges, during which a premature kill would show
            assert process.stdout.readline() == f"part {part}\n"

            process.stdin.write("go on\n")
            process.stdin.flush()

        assert "not reached" not in process.stdout.read()
        assert process.wait() == 143


def test_a_signal_before_the_script_has_started(training, tmp_path):
    """A signal during `pip install` ends pip and the job, and the script is not started."""
    pipe = tmp_path / "more-requirements"
    os.mkfifo(pipe)
    training.source({"requirements.txt": f"-r {pipe}", "fit.py": "print('not reached')"})
    with training.start("--entry-point", "fit.py") as process:
        with pipe.open("w"):  # returns when pip opens the file
            process.terminate()

            assert process.wait() == 143
        assert "not reached" not in process.stdout.read()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_is_live(container, stream):
    """A line is shown while the script still runs, even if the script does not flush."""
    container.source({"fit.py": f"import sys\nprint('epoch 1', file=sys.{stream})\nsys.stdin.readline()\n"})
    with container.start("--entry-point", "fit.py") as process:
        read_until(process.stdout, "epoch 1")

        assert process.poll() is None

        process.communicate("end\n")

    assert process.returncode == 0


@pytest.mark.parametrize("descriptor", [1, 2])
def test_output_is_passed_on_byte_by_byte(training, descriptor):
    """All output arrives unchanged, however long, including a last line without a newline."""
    written = f"os.write({descriptor}, b'x' * 99_999 + b'\\n')"
    script = f"import os\nfor _ in range(40): {written}\nos.write({descriptor}, b'end')"
    ended = training.run_script(script)

    assert ended.stdout.partition("\n")[2] == ("x" * 99_999 + "\n") * 40 + "end"


def test_what_is_left_running_ends_with_the_job(container):
    """A background process neither keeps the job alive nor outlives it."""
    ended = container.run("--command", "sleep 1000 & echo done")  # returns only when no process holds its output open

    assert ended.returncode == 0
    assert ended.stdout.endswith("done\n")


def test_a_shell_script_needs_no_executable_bit(container):
    """A `.sh` file from the archive runs without the executable bit, with its arguments."""
    container.source({"sub/fit.sh": 'echo "$BASH_VERSION" "$@"\n'})
    ended = container.run("--entry-point", "sub/fit.sh", "--", "a b", "*")

    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.endswith("a b *\n")


def test_a_shell_scripts_first_line_decides(container):
    """The first line `#!/bin/sh -e` is used with its options: the first failing command fails the job."""
    container.source({"fit.sh": "#!/bin/sh -e\n(exit 3)\necho not reached\n"})
    ended = container.run("--entry-point", "fit.sh")

    assert ended.returncode == 3
    assert "not reached" not in ended.stdout


def test_a_script_whose_interpreter_is_missing(training):
    """The reason says that the interpreter is missing, not the script."""
    training.source({"fit.sh": "#!/usr/bin/no-such-shell\n"})

    assert training.run("--entry-point", "fit.sh").returncode == 1
    assert "fit.sh could not be started" in training.reason.read_text()
    assert "is the interpreter that its first line names?" in training.reason.read_text()


def test_a_shell_command_has_a_shell_and_arguments(container):
    """Pipes, variables and the user's arguments work in a command."""
    ended = container.run("--command", 'echo "$SM_CURRENT_HOST $1 $#" | tr a-z A-Z', "--", "x y", "z")

    assert ended.stdout.endswith("ALGO-1 X Y 2\n")


def test_a_command_may_begin_with_a_dash(container):
    """The bootstrap does not take a command for one of its own options."""
    assert container.run("--command", "-x 2>/dev/null || echo ran").stdout.endswith("ran\n")


def test_a_script_in_a_directory_finds_its_neighbours_and_the_root(container):
    """The script's own directory and /opt/ml/code are importable."""
    container.source(
        {
            "pkg/fit.py": "import beside, below\nprint(beside.X + below.X)",
            "pkg/beside.py": "X = 'a'",
            "below.py": "X = 'b'",
        }
    )

    assert container.run("--entry-point", "pkg/fit.py").stdout.endswith("ab\n")


PAPERMILL = """
sub/nb.ipynb {output}/nb.ipynb --cwd {code}/sub --log-output --no-progress-bar -y {"C": 0.1} --more
"""
JUPYTER = """
nbconvert --to=notebook --execute --ExecutePreprocessor.timeout=-1 --output-dir={output} sub/nb.ipynb --more
"""


@pytest.fixture
def tools(tmp_path):
    """A directory for `PATH` that has Python, but no program that runs notebooks."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "python3").symlink_to(sys.executable)
    return folder


def without_notebooks(path):
    """Return the search path without directories that have a program that runs notebooks."""
    runners = ("papermill", "jupyter")
    return ":".join(each for each in path.split(":") if not any(Path(each, runner).exists() for runner in runners))


@pytest.mark.parametrize(("tool", "expected"), [("papermill", PAPERMILL), ("jupyter", JUPYTER)])
def test_a_notebook_runs_with_what_the_image_has(training, tools, tool, expected):
    """A notebook is executed into the output without a time limit; papermill gets the hyperparameters as parameters."""
    program = tools / tool
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    training.hyperparameters({"C": "0.1"})
    training.source({"sub/nb.ipynb": "{}"})
    path = f"{tools}:{without_notebooks(training.environment['PATH'])}"
    ended = training.run("--entry-point", "sub/nb.ipynb", "--", "--more", PATH=path)
    expected = expected.replace("{output}", str(training.output)).replace("{code}", str(training.code))

    assert ended.stdout.splitlines()[1:] == expected.strip().splitlines()


def test_a_notebook_in_an_image_without_either(training, tools):
    """The reason says which programs are missing and how to install one."""
    training.source({"nb.ipynb": "{}"})
    path = f"{tools}:{without_notebooks(training.environment['PATH'])}"
    ended = training.run("--entry-point", "nb.ipynb", PATH=path)

    assert ended.returncode == 1
    assert "needs papermill or jupyter nbconvert" in training.reason.read_text()


@pytest.mark.parametrize(
    ("files", "entry_point", "said"),
    [
        (
            {"fit.py": "", "data.csv": ""},
            "fti.py",
            "'fti.py' is not in the code, which holds: data.csv, fit.py, worker_toolkit",
        ),
        ({"fit.R": ""}, "fit.R", "fit.R cannot be run"),
    ],
)
def test_an_entry_point_that_cannot_run(container, files, entry_point, said):
    """The reason and the log explain why an entry point cannot run."""
    container.source(files)
    ended = container.run("--entry-point", entry_point)

    assert ended.returncode == 1
    assert said in ended.stdout
    assert said in container.reason.read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--entry-point",),
        ("--entry-point", "fit.py", "--command", "true"),
        ("--entry-point", "../fit.py"),
        ("--entry-point", "/etc/fit.py"),
        ("--extract", "model=../..", "--command", "true"),
        ("--nonsense", "x"),
        ("fit.py",),
    ],
)
def test_wrong_arguments_are_an_error(training, arguments):
    """An invalid command line ends the bootstrap with exit code 2 before it writes anything."""
    ended = training.run(*arguments)

    assert ended.returncode == 2
    assert "Expected: --entry-point FILE" in ended.stdout
    assert not training.code.exists()
