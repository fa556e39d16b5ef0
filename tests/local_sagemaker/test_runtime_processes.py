"""The limit of a job's processes and threads: a fork bomb ends the job, not the machine."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_laboratory import laboratory, one_laboratory, processes

from local_sagemaker.runtime.processes import Processes, allowed
from local_sagemaker.runtime.settings import read_settings

__all__ = ["laboratory", "one_laboratory"]

MOST = 200
# At most 2,000 waiting processes, so that a broken limit does not exhaust the machine.
FORK = """
import os, sys, time
reading, writing = os.pipe()
children = []
for _ in range(int(sys.argv[1])):
    try:
        child = os.fork()
    except OSError:
        break
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    children.append(child)
if sys.argv[2] == "stay":
    time.sleep(300)
os.close(writing)
for child in children:
    os.waitpid(child, 0)
"""
THREADS = """
import sys, threading, time
over = threading.Event()
threads = [threading.Thread(target=over.wait, daemon=True) for _ in range(int(sys.argv[1]))]
for thread in threads:
    thread.start()
if sys.argv[2] == "stay":
    time.sleep(300)
over.set()
for thread in threads:
    thread.join()
"""


def script(code, count, then):
    """Return a shell command that starts processes or threads, and then stays or ends."""
    return f"exec python -c '{code}' {count} {then}"


@pytest.mark.sampled(2)
@pytest.mark.parametrize("code", [FORK, THREADS], ids=["processes", "threads"])
def test_a_job_with_too_many_processes_fails(laboratory, code):
    """A job over its limit fails with the count, the limit and the setting, and leaves no process."""
    laboratory.settle(isolation=laboratory.isolation, max_processes=MOST)
    job = laboratory.train(script(code, 2000, "stay"))
    reason = job.fields["FailureReason"]

    assert job.status == "Failed"
    assert reason.startswith("ClientError: algo-1 had ")
    assert f"processes and threads, and a host may have {MOST}: start fewer, or raise max_processes" in reason
    assert not processes("sys.argv[2] ==")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("code", [FORK, THREADS], ids=["processes", "threads"])
def test_a_job_with_many_processes_completes(laboratory, code):
    """A job may have half its limit at a time, and exceed it in total; each host has its own limit."""
    laboratory.settle(isolation=laboratory.isolation, max_processes=MOST)
    job = laboratory.train(f"for _ in 1 2 3; do (exec python -c '{code}' 100 end); done", hosts=2)

    assert job.status == "Completed", job.fields


@pytest.mark.skipif(
    os.geteuid() == 0 and [int(part) for part in os.uname().release.split("-")[0].split(".")[:2]] < [6, 14],
    reason="before Linux 6.14 the kernel bounds no processes of root",
)
def test_the_kernel_bounds_a_host(one_laboratory):
    """The kernel limits a host slightly above the limit, in the host's namespaces; the machine's limit is unchanged."""
    before = Path("/proc/sys/kernel/pid_max").read_text()
    one_laboratory.settle(max_processes=MOST)
    job = one_laboratory.train("cat /proc/sys/kernel/pid_max; grep 'Max processes' /proc/self/limits")
    bound, nproc = one_laboratory.lines()

    assert job.status == "Completed"
    assert int(bound) == MOST + 1300 or os.geteuid() != 0
    assert nproc.split()[2:4] == [str(MOST + 1000)] * 2
    assert Path("/proc/sys/kernel/pid_max").read_text() == before


# -- the limit, and when it is checked -----------------------------------------------------------------------------


def test_the_limit_leaves_the_machine_its_half():
    """A host may have the configured number of processes, but at most half of the kernel's pids."""
    most = int(Path("/proc/sys/kernel/pid_max").read_text())

    assert allowed(10) == 10
    assert allowed(most) <= most // 2


@pytest.mark.parametrize("value", ["0", "-1", "1.5", '"many"', "true", "null"])
def test_a_limit_is_a_whole_number(tmp_path, value):
    """A value that is not a positive whole number is an error that names the setting."""
    (tmp_path / "settings.json").write_text(f'{{"max_processes": {value}}}')
    with pytest.raises((ValueError, TypeError), match="max_processes"):
        read_settings(tmp_path)

    (tmp_path / "settings.json").write_text('{"max_processes": 7}')
    assert read_settings(tmp_path).max_processes == 7


class Machine:
    """A machine with pids up to 1,000, and one host."""

    def __init__(self, running):
        self.running, self.pid, self.now, self.counted = running, 500, 0.0, 0
        self.host = SimpleNamespace(name="algo-1", count=self._count)

    def _count(self):
        self.counted += 1
        return self.running

    def start(self, count, *, ours):
        """Start processes of the host or of others. After pid 1,000, pids continue at 301."""
        self.pid += count
        self.pid -= 700 if self.pid > 1000 else 0
        self.running += count if ours else 0


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=40), st.integers(0, 150))
def test_limit_is_detected_across_pid_wraparound(story, running):
    """A host that exceeds its limit by a sixteenth is reported at once, even if pids wrap around; others are not."""
    machine, most = Machine(running), 100
    watch = Processes([machine.host], most, lambda: machine.pid, lambda: machine.now)
    for count, ours in story:
        machine.start(count, ours=ours)
        told = watch.violation()

        assert told or machine.running <= most + most // 16
        assert not told or machine.running > most
        if told:
            return  # the job ends


def test_idle_jobs_are_not_counted():
    """While the machine starts few processes, a host is counted only every 5 s."""
    machine = Machine(3)
    watch = Processes([machine.host], 100, lambda: machine.pid, lambda: machine.now)
    for _ in range(1000):
        assert watch.violation() is None
        machine.now += 0.01

    assert machine.counted <= 3
