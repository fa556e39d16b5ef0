"""Secrets in what a job prints: masked on both streams, whole or in pieces, and in the reason of a failure."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from played_aws import variables

from worker_toolkit.masked_output import Mask

VALUE = 'p"ä ss/wo\\rd'


@pytest.fixture
def secret(aws):
    """The variables of a job with the secret `TOK`."""
    aws.parameters = {"/t": VALUE}
    return variables(aws, {"TOK": "ssm:/t"})


def test_both_streams(container, secret):
    """Printed as it is, as JSON, as a URL or as Python has it: the log has `****`, and all else as it was."""
    script = (
        "import os, sys, json, urllib.parse as u\n"
        "t = os.environ['TOK']\n"
        "print('one', t, 'two', json.dumps({'k': t}), u.quote(t, safe=''), repr(t), 'end')\n"
        "print('three', t, file=sys.stderr)\n"
    )
    ended = container.run_script(script, **secret)

    assert ended.returncode == 0
    assert ended.stdout.splitlines()[1] == 'one **** two {"k": "****"} **** \'****\' end'
    assert ended.stdout.splitlines()[2:] == ["three ****"]


@pytest.mark.parametrize("masked", [False, True])
def test_both_streams_keep_their_order(training, secret, masked):
    """Lines of standard output and standard error stand in the log in the order in which they were written."""
    script = "import os\nfor n in range(500): os.write(1 + n % 2, b'line %d\\n' % n)\n"
    ended = training.run_script(script, **(secret if masked else {}))

    assert ended.stdout.splitlines()[1:] == [f"line {number}" for number in range(500)]


def test_the_reason_of_a_failure(container, secret):
    """A program that dies with a secret in its exception leaves a reason without it."""
    ended = container.run_script("import os; raise ValueError('login with ' + os.environ['TOK'])", **secret)

    assert ended.returncode == 1
    assert "ValueError: login with ****" in container.reason.read_text().splitlines()[0]
    assert "ValueError: login with ****" in ended.stdout
    assert VALUE not in container.reason.read_text() + ended.stdout


def test_a_reason_of_the_codes_own(container, secret):
    """What the code wrote to SageMaker's file of reasons is masked too, and otherwise left as it is."""
    script = f"import os; open({str(container.reason)!r}, 'w').write('bad: ' + os.environ['TOK']); raise SystemExit(3)"
    container.reason.parent.mkdir(parents=True, exist_ok=True)
    ended = container.run_script(script, **secret)

    assert ended.returncode == 3
    assert container.reason.read_text() == "bad: ****"


def test_a_secret_on_the_edge_of_the_reason(container, secret):
    """What is cut off for SageMaker's 1,024 characters is cut after it was masked: no half of a secret is left."""
    script = "import os, sys\nfor n in range(60): print('x' * n, os.environ['TOK'], file=sys.stderr)\nsys.exit(1)\n"
    container.run_script(script, **secret)
    reason = container.reason.read_text()

    assert "****" in reason
    assert all(part not in reason for part in (VALUE[:5], VALUE[-5:]))


def test_output_is_seen_at_once(training, secret):
    """Masking keeps no line back: what the program prints can be read while it waits."""
    training.source({"fit.py": "import os, sys; print('TOK', os.environ['TOK'], flush=True); sys.stdin.readline()"})
    with training.start("--entry-point", "fit.py", **secret) as process:
        assert process.stdout.readline().startswith("ssm: running")
        assert process.stdout.readline() == "TOK ****\n"

        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.wait() == 0


def test_what_is_left_running_does_not_hold_the_job(training, secret):
    """A process that the program left behind in a session of its own keeps the pipes, and the job ends all the same."""
    script = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "print('done')\n"
    )
    training.source({"fit.py": script})
    with training.start("--entry-point", "fit.py", **secret) as process:
        assert process.wait() == 0

        training.kill()
        assert process.stdout.read().endswith("done\n")


def test_a_shell_command(container, secret):
    """A shell command has the variable, and its trace is masked."""
    ended = container.run("--command", 'set -x; test "${#TOK}" -gt 3 && echo "$TOK"', **secret)

    assert ended.returncode == 0
    assert ended.stdout.endswith("\n****\n")
    assert VALUE not in ended.stdout


# -- the mask itself -----------------------------------------------------------------------------------------------

letters = st.text("abc\n", min_size=0, max_size=9)
secrets = st.lists(st.text("abc", min_size=4, max_size=7), min_size=1, max_size=4)


@given(values=secrets, pieces=st.lists(letters.map(str.encode)))
def test_pieces_make_no_difference(values, pieces):
    """However a program's output is cut into pieces, it is masked as the whole would be; none is kept for ever."""
    mask, shown, kept = Mask(values), b"", b""
    for piece in pieces:
        part, kept = mask.split(kept + piece)
        shown += part
    shown += mask(kept)

    assert mask(b"".join(pieces)) == shown
    assert not any(value.encode() in shown for value in values)


@pytest.mark.parametrize("before", ["", "a", "the word is "])
@pytest.mark.parametrize("value", ["abcd", "hunter22", "aaaaab"])
def test_a_secret_that_is_cut_anywhere_is_kept(value, before):
    """No beginning of a secret is shown before the rest has come, nor after it."""
    mask = Mask([value])
    for cut in range(1, len(value)):
        shown, kept = mask.split((before + value[:cut]).encode())
        more, rest = mask.split(kept + value[cut:].encode() + b"\n")

        assert (shown + more, rest) == (before.encode() + b"****\n", b"")
        assert len(kept) >= cut


@given(values=secrets, line=letters)
def test_a_finished_line_is_not_kept(values, line):
    """What ends with a line's end is shown at once."""
    assert Mask(values).split(f"{line}\n".encode())[1] == b""


@given(value=st.text(min_size=4).filter(lambda text: len(text.strip()) >= 4 and text.strip().strip("*")))
def test_every_way_to_write_a_value(value):
    """A value of whatever letters, as URLs and JSON write it."""
    bare = value.strip()
    if bare.lower() in {"auto", "false", "none", "null", "true"}:
        return
    mask = Mask([value])

    for written in (quote(bare, safe=""), json.dumps(bare)[1:-1]):
        assert mask.text(f"\n{written}\n") == "\n****\n"  # no value has a line's end in it when it is written so


def test_a_key_of_many_lines():
    """Each line of a private key is a secret: programs print it line by line."""
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQ==\n-----END KEY-----\n"

    assert Mask([key]).text(f"key:\n{key}.") == "key:\n****\n****\n****\n****\n."
    assert Mask([key]).text(json.dumps({"k": key.strip()})) == '{"k": "****"}'


@pytest.mark.parametrize("value", ["", "abc", "true", "None", "****"])
def test_what_is_no_secret(value):
    """Values so short or so common would make a log unreadable."""
    assert not Mask([value])
    assert Mask([value]).text(f"a {value} b") == f"a {value} b"
