"""Masking of secrets: in both output streams, whole or in pieces, and in the reason of a failure."""

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
    """The environment variables of a job with the secret `TOK`."""
    aws.parameters = {"/t": VALUE}
    return variables(aws, {"TOK": "ssm:/t"})


def test_both_streams(container, secret):
    """The log has `****` for a secret printed as is, as JSON, in a URL or by `repr`; other text is unchanged."""
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
    """Lines of standard output and standard error are in the log in the order in which they were written."""
    script = "import os\nfor n in range(500): os.write(1 + n % 2, b'line %d\\n' % n)\n"
    ended = training.run_script(script, **(secret if masked else {}))

    assert ended.stdout.splitlines()[1:] == [f"line {number}" for number in range(500)]


def test_the_reason_of_a_failure(container, secret):
    """The reason of a failed program masks a secret in the exception's message."""
    ended = container.run_script("import os; raise ValueError('login with ' + os.environ['TOK'])", **secret)

    assert ended.returncode == 1
    assert "ValueError: login with ****" in container.reason.read_text().splitlines()[0]
    assert "ValueError: login with ****" in ended.stdout
    assert VALUE not in container.reason.read_text() + ended.stdout


def test_a_reason_of_the_codes_own(container, secret):
    """A reason that the user's code wrote is masked, and otherwise unchanged."""
    script = f"import os; open({str(container.reason)!r}, 'w').write('bad: ' + os.environ['TOK']); raise SystemExit(3)"
    container.reason.parent.mkdir(parents=True, exist_ok=True)
    ended = container.run_script(script, **secret)

    assert ended.returncode == 3
    assert container.reason.read_text() == "bad: ****"


def test_a_secret_on_the_edge_of_the_reason(container, secret):
    """The reason is masked before it is cut to SageMaker's 1,024 characters, so no part of a secret is left."""
    script = "import os, sys\nfor n in range(60): print('x' * n, os.environ['TOK'], file=sys.stderr)\nsys.exit(1)\n"
    container.run_script(script, **secret)
    reason = container.reason.read_text()

    assert "****" in reason
    assert all(part not in reason for part in (VALUE[:5], VALUE[-5:]))


def test_output_is_seen_at_once(training, secret):
    """Masking does not delay a finished line: it can be read while the program waits."""
    training.source({"fit.py": "import os, sys; print('TOK', os.environ['TOK'], flush=True); sys.stdin.readline()"})
    with training.start("--entry-point", "fit.py", **secret) as process:
        assert process.stdout.readline().startswith("ssm: running")
        assert process.stdout.readline() == "TOK ****\n"

        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.wait() == 0


def test_what_is_left_running_does_not_hold_the_job(training, secret):
    """A process left behind in its own session keeps the pipes open, but the job still ends."""
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
    """A shell command gets the variable, and the output of `set -x` is masked."""
    ended = container.run("--command", 'set -x; test "${#TOK}" -gt 3 && echo "$TOK"', **secret)

    assert ended.returncode == 0
    assert ended.stdout.endswith("\n****\n")
    assert VALUE not in ended.stdout


# -- the mask itself -----------------------------------------------------------------------------------------------

letters = st.text("abc\n", min_size=0, max_size=9)
secrets = st.lists(st.text("abc", min_size=4, max_size=7), min_size=1, max_size=4)


@given(values=secrets, pieces=st.lists(letters.map(str.encode)))
def test_pieces_make_no_difference(values, pieces):
    """Output in pieces is masked like the whole output, and contains no secret."""
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
    """If a secret is cut at any position, its first part is held back until the rest arrives, and never shown."""
    mask = Mask([value])
    for cut in range(1, len(value)):
        shown, kept = mask.split((before + value[:cut]).encode())
        more, rest = mask.split(kept + value[cut:].encode() + b"\n")

        assert (shown + more, rest) == (before.encode() + b"****\n", b"")
        assert len(kept) >= cut


@given(values=secrets, line=letters)
def test_a_finished_line_is_not_kept(values, line):
    """Text that ends with a newline is shown at once."""
    assert Mask(values).split(f"{line}\n".encode())[1] == b""


@given(value=st.text(min_size=4).filter(lambda text: len(text.strip()) >= 4 and text.strip().strip("*")))
def test_every_way_to_write_a_value(value):
    """A value of any characters is masked in the forms that URLs and JSON give it."""
    bare = value.strip()
    if bare.lower() in {"auto", "false", "none", "null", "true"}:
        return
    mask = Mask([value])

    for written in (quote(bare, safe=""), json.dumps(bare)[1:-1]):
        assert mask.text(f"\n{written}\n") == "\n****\n"  # in these forms no value contains a newline


def test_a_key_of_many_lines():
    """Each line of a private key is a secret, because programs print it line by line."""
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQ==\n-----END KEY-----\n"

    assert Mask([key]).text(f"key:\n{key}.") == "key:\n****\n****\n****\n****\n."
    assert Mask([key]).text(json.dumps({"k": key.strip()})) == '{"k": "****"}'


@pytest.mark.parametrize("value", ["", "abc", "true", "None", "****"])
def test_what_is_no_secret(value):
    """Values that are very short or very common are not masked: they would make a log unreadable."""
    assert not Mask([value])
    assert Mask([value]).text(f"a {value} b") == f"a {value} b"
