"""A host's output in its log stream: immediate, complete and without repetition."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_laboratory import laboratory, one_laboratory
from waiting import wait_until

from local_sagemaker.runtime.tail import MAX_MESSAGE, Tail, cut

pytestmark = pytest.mark.sampled(4, group="all")

__all__ = ["laboratory", "one_laboratory"]


def test_a_line_is_seen_while_the_job_runs(laboratory):
    """A line is in the log while the job runs: the job waits for a file that the test makes after reading the line."""
    laboratory.train("echo before; while [ ! -e $R/opt/ml/go ]; do sleep 0.02; done; echo after >&2", wait=False)
    wait_until(lambda: laboratory.has_lines("before"), "the line")
    assert laboratory.lines() == ["before"]
    (laboratory.directory() / "hosts/algo-1/files/opt/ml/go").touch()
    laboratory.end_of()

    assert laboratory.lines() == ["before", "after"]


def test_a_python_print_is_seen_at_once(one_laboratory):
    """A Python `print` is in the log without a flush: jobs have PYTHONUNBUFFERED, as AWS's images do."""
    one_laboratory.train(
        "python3 -S -c \"import os, time; print('before'); "
        "exec('while not os.path.exists(\\'$R/opt/ml/go\\'): time.sleep(0.02)')\"",
        wait=False,
    )
    wait_until(lambda: one_laboratory.has_lines("before"), "the line")
    (one_laboratory.directory() / "hosts/algo-1/files/opt/ml/go").touch()

    assert one_laboratory.end_of().status == "Completed"


def test_each_host_has_a_stream_of_its_own(one_laboratory):
    """Each host has the stream `<job>/algo-N-<epoch>` in its kind's log group, with timestamps in milliseconds."""
    job = one_laboratory.train("hostname", hosts=2)
    streams = sorted(one_laboratory.home.glob("logs/%2Faws%2Fsagemaker%2FTrainingJobs/job/*.jsonl"))
    events = [json.loads(stream.read_text().splitlines()[-1]) for stream in streams]

    assert [stream.stem.rpartition("-")[0] for stream in streams] == ["algo-1", "algo-2"]
    assert all(set(event) == {"timestamp", "message"} for event in events)
    assert all(job.created * 1000 - 1 <= event["timestamp"] <= job.modified * 1000 + 1 for event in events)


def test_odd_output_is_kept(one_laboratory):
    """Invalid UTF-8 is replaced, a progress bar stays one line, blank lines stay, and the last needs no newline."""
    one_laboratory.train("printf 'a\\rb\\rc\\n\\n\\377x\\nwindows\\r\\nz\\342\\200\\250y\\nlast'")

    assert one_laboratory.lines() == ["a\rb\rc", "", "\ufffdx", "windows", "z\u2028y", "last"]


def test_a_very_long_line_is_split(one_laboratory):
    """A line is split at CloudWatch's limit of 256 KB per event, and nothing is lost."""
    one_laboratory.train("head -c 600000 /dev/zero | tr '\\0' x; echo; echo end")

    assert [len(line) for line in one_laboratory.lines()] == [MAX_MESSAGE, MAX_MESSAGE, 600000 - 2 * MAX_MESSAGE, 3]


def test_a_flood_of_lines_arrives_whole_and_in_order(laboratory):
    """200,000 lines at once arrive complete and in order."""
    laboratory.train("seq 1 200000")

    assert [str(number) for number in range(1, 200_001)] == laboratory.lines()


_LINES = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.integers(MAX_MESSAGE - 3, 2 * MAX_MESSAGE + 3).map(lambda size: b"\xc3\xa4" * (size // 2)),
    ),
    max_size=4,
).map(b"\n".join)


@given(data=_LINES, ends=st.lists(st.integers(0, 3 * MAX_MESSAGE), max_size=4))
def test_cutting_does_not_depend_on_how_much_was_there(data, ends):
    """Output is cut into the same pieces however it is read; the pieces are complete, and none is too long."""
    pieces = cut(data, final=True)
    portions, start = [], 0
    for end in (*sorted(end for end in ends if end < len(data)), len(data)):
        found = cut(data[start:end], final=end == len(data))
        portions += found
        start += sum(map(len, found))

    assert data == b"".join(pieces)
    assert pieces == portions
    assert all(len(piece) <= MAX_MESSAGE + 1 for piece in pieces)


@pytest.mark.always
@given(chunks=st.lists(st.binary(max_size=30), max_size=6), crash=st.integers(0, 6), torn=st.binary(max_size=5))
def test_a_successor_goes_on_where_the_killed_one_stood(tmp_path_factory, chunks, crash, torn):
    """After a kill between writing lines and position, and a torn line, the successor still writes each line once."""
    directory = tmp_path_factory.mktemp("tail")
    output, log, position = directory / "output", directory / "log", directory / "position"
    output.touch()
    for number, chunk in enumerate(chunks):
        with output.open("ab") as file:
            file.write(chunk + b"\n")
        kept = position.read_bytes() if position.exists() else None
        tail = Tail(output, log, position)
        tail.pump()
        tail.close()
        if number == crash:
            position.unlink() if kept is None else position.write_bytes(kept)
            with log.open("ab") as file:
                file.write(torn.replace(b"\n", b""))
    tail = Tail(output, log, position)
    tail.pump(final=True)
    tail.close()
    expected = (b"".join(chunk + b"\n" for chunk in chunks)).split(b"\n")[:-1]
    messages = [json.loads(line)["message"] for line in log.read_bytes().splitlines()]

    assert [line.decode("utf-8", "replace").removesuffix("\r") for line in expected] == messages
