"""The job table: one winner for each name, final states, listing and tags."""

import itertools
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from local_sagemaker.job_table import JobTable
from local_sagemaker.jobs import TERMINAL, JobExists, JobFinished, JobInProgress, JobUnknown

KIND = "training-job"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        self.now += 1
        return self.now


@pytest.fixture
def table(tmp_path):
    with JobTable(tmp_path, Clock()) as made:
        yield made


def create(table, name="job", kind=KIND):
    return table.create(kind, name, f"arn:{kind}/{name}", {"Name": name}, {"team": "a"})


def test_a_created_job_is_found_by_another_table(table, tmp_path):
    """A job that one connection creates is read by another, with request, tags and first transition."""
    create(table)
    with JobTable(tmp_path) as other:
        found = other.get(KIND, "job")

    assert (found.status, found.secondary_status) == ("InProgress", "Starting")
    assert found.request == {"Name": "job"}
    assert found.tags == {"team": "a"}
    assert [one["Status"] for one in found.fields["SecondaryStatusTransitions"]] == ["Starting"]


def test_a_name_is_taken_once_per_kind(table):
    """A second job of the same kind and name is refused; another kind has its own names."""
    create(table)
    create(table, kind="processing-job")
    with pytest.raises(JobExists) as caught:
        create(table)

    assert (caught.value.kind, caught.value.name) == ("training-job", "job")


def test_threads_that_want_one_name_have_one_winner(tmp_path):
    """Of eight connections that create the same name at once, one succeeds and seven get JobExists."""
    barrier = threading.Barrier(8)
    results = []

    def compete():
        with JobTable(tmp_path) as table:
            barrier.wait()
            try:
                results.append(create(table).name)
            except JobExists:
                results.append(None)

    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(results, key=str) == [None] * 7 + ["job"]


def test_processes_that_make_the_table_and_write_to_it_lose_nothing(tmp_path):
    """Four processes that open a new home and create 25 jobs each end without error, with 100 jobs."""
    program = (
        "import pathlib, sys; from local_sagemaker.job_table import JobTable\n"
        "table = JobTable(pathlib.Path(sys.argv[1]))\n"
        "[table.create('training-job', f'{sys.argv[2]}-{i}', 'arn', {}, {}) for i in range(25)]"
    )
    home = tmp_path / "new" / "home"
    writers = [subprocess.Popen([sys.executable, "-c", program, str(home), str(number)]) for number in range(4)]

    assert [writer.wait(60) for writer in writers] == [0] * 4
    with JobTable(home) as table:
        assert len(table.list(KIND)) == 100


def test_an_unknown_job_is_an_error_everywhere(table):
    """Get, update, stop and delete of a job that does not exist raise JobUnknown."""
    for ask in (
        table.get,
        table.request_stop,
        table.delete,
        lambda kind, name: table.update(kind, name, status="Failed"),
    ):
        with pytest.raises(JobUnknown):
            ask(KIND, "none")


def test_a_new_secondary_status_closes_the_transition_before(table):
    """Transitions follow each other without a gap; the same status again only changes the message."""
    create(table)
    table.update(KIND, "job", secondary="Training", message="one")
    table.update(KIND, "job", secondary="Training", message="two", TrainingStartTime=5.0)
    job = table.update(KIND, "job", status="Completed", message="done")
    starting, training, completed = job.fields["SecondaryStatusTransitions"]

    assert starting["EndTime"] == training["StartTime"]
    assert training["EndTime"] == completed["StartTime"] == completed["EndTime"]
    assert (training["StatusMessage"], completed["StatusMessage"]) == ("two", "done")
    assert (job.secondary_status, job.fields["TrainingStartTime"]) == ("Completed", 5.0)


def test_a_late_update_does_not_undo_a_stop(table):
    """A supervisor that has not seen the stop cannot turn the job back into Training."""
    create(table)
    table.request_stop(KIND, "job")
    job = table.update(KIND, "job", status="InProgress", secondary="Training", message="x")

    assert (job.status, job.secondary_status, job.stop_requested) == ("Stopping", "Stopping", True)
    assert table.update(KIND, "job", secondary="Uploading").secondary_status == "Uploading"
    assert table.update(KIND, "job", status="Stopped").status == "Stopped"


def test_only_finished_jobs_are_deleted_and_the_name_is_free_again(table):
    """A live job cannot be deleted; a finished one is deleted with its tags, and its name is free."""
    job = create(table)
    with pytest.raises(JobInProgress):
        table.delete(KIND, "job")
    table.update(KIND, "job", status="Failed")
    table.delete(KIND, "job")

    assert table.tags(job.arn) == {}
    assert create(table).status == "InProgress"


def test_tags_are_added_overwritten_and_removed(table):
    """Tags belong to an ARN and are part of the job."""
    job = create(table)

    assert table.add_tags(job.arn, {"team": "b", "x": "1"}) == {"team": "b", "x": "1"}
    table.delete_tags(job.arn, ["x", "unknown"])
    assert table.get(KIND, "job").tags == {"team": "b"}


def test_a_list_is_filtered_sorted_and_paged(table):
    """Each filter applies, time bounds are exclusive, and both directions, offset and limit work."""
    jobs = [create(table, name) for name in ("b-1", "a-2", "b-3")]
    table.update(KIND, "a-2", status="Failed")
    created = [job.created for job in jobs]

    def names(**filters):
        return [job.name for job in table.list(KIND, **filters)]

    assert names() == ["b-3", "a-2", "b-1"]
    assert names(sort_by="Name", descending=False) == ["a-2", "b-1", "b-3"]
    assert names(sort_by="Status", descending=False) == ["a-2", "b-1", "b-3"]
    assert names(name_contains="b-") == ["b-3", "b-1"]
    assert names(status="Failed") == ["a-2"]
    assert names(created_after=created[0]) == ["b-3", "a-2"]
    assert names(created_before=created[1]) == ["b-1"]
    assert names(modified_after=created[2]) == ["a-2"]
    assert names(modified_before=created[2] + 0.5) == ["b-3", "b-1"]
    assert names(offset=1, limit=1) == ["a-2"]
    assert [job.name for job in table.list("processing-job")] == []


def test_live_jobs_are_those_that_are_not_finished(table):
    """`live` returns the unfinished jobs of both kinds, oldest first."""
    for name in ("one", "two", "three"):
        create(table, name)
    create(table, "four", "processing-job")
    table.update(KIND, "one", status="Completed")
    table.request_stop(KIND, "two")

    assert [job.name for job in table.live()] == ["two", "three", "four"]


class LifeOfJobs(RuleBasedStateMachine):
    """After any sequence of operations, a terminal status never changes, and transitions have no gap."""

    names = Bundle("names")

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.ended = {}
        self.directory = tempfile.TemporaryDirectory()
        self.table = JobTable(Path(self.directory.name), self.clock)

    def teardown(self):
        self.table.close()
        self.directory.cleanup()

    @rule(target=names, name=st.sampled_from(["a", "b", "c", "d"]))
    def create(self, name):
        try:
            create(self.table, name)
        except JobExists:
            assert self.table.get(KIND, name).name == name
        return name

    @rule(
        name=names,
        status=st.sampled_from([None, "InProgress", "Stopping", *sorted(TERMINAL)]),
        secondary=st.sampled_from([None, "Downloading", "Training", "Uploading", "MaxRuntimeExceeded"]),
    )
    def update(self, name, status, secondary):
        before = self.table.get(KIND, name)
        try:
            after = self.table.update(KIND, name, status=status, secondary=secondary, message="m")
        except JobFinished:
            assert before.finished
            return
        assert not before.finished
        assert before.status != "Stopping" or after.status != "InProgress"
        if after.finished:
            self.ended[name] = after.status

    @rule(name=names)
    def stop(self, name):
        before = self.table.get(KIND, name)
        try:
            after = self.table.request_stop(KIND, name)
        except JobFinished:
            assert before.finished
            return
        assert (after.status, after.stop_requested) == ("Stopping", True)

    @rule(name=consumes(names))
    def delete(self, name):
        if name in self.ended:
            self.table.delete(KIND, name)
            del self.ended[name]
            create(self.table, name)
        else:
            with pytest.raises(JobInProgress):
                self.table.delete(KIND, name)

    @invariant()
    def ends_are_final(self):
        for name, status in self.ended.items():
            assert status == self.table.get(KIND, name).status

    @invariant()
    def transitions_have_no_gap(self):
        for job in self.table.list(KIND):
            transitions = job.fields["SecondaryStatusTransitions"]
            assert job.secondary_status == transitions[-1]["Status"]
            assert ("EndTime" in transitions[-1]) == job.finished
            for one, following in itertools.pairwise(transitions):
                assert one["EndTime"] == following["StartTime"]
                assert one["Status"] != following["Status"]


TestLifeOfJobs = LifeOfJobs.TestCase
TestLifeOfJobs.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
