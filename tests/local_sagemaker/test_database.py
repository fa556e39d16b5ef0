"""The database of a home: the first process that opens an older one migrates it in place."""

from __future__ import annotations

import json
import sqlite3
import threading

import pytest

from local_sagemaker.database import Database
from local_sagemaker.faults.rules import Faults, JobRule
from local_sagemaker.faults.table import FaultTable
from local_sagemaker.job_table import JobTable

# The schema of the homes that version 0.1.0 made.
FIRST = """
CREATE TABLE jobs (
    kind TEXT NOT NULL, name TEXT NOT NULL, arn TEXT NOT NULL, request TEXT NOT NULL, created REAL NOT NULL,
    status TEXT NOT NULL, secondary TEXT, fields TEXT NOT NULL, modified REAL NOT NULL,
    stop_requested INTEGER NOT NULL, PRIMARY KEY (kind, name));
CREATE INDEX jobs_by_status ON jobs (status);
CREATE INDEX jobs_by_creation ON jobs (kind, created);
CREATE TABLE tags (arn TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (arn, key));
PRAGMA user_version=1;
"""


@pytest.fixture
def old_home(tmp_path):
    """Return a home with one job, as version 0.1.0 left it."""
    db = sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.executescript(FIRST)
    job = ("training-job", "old", "arn:old", json.dumps({"A": 1}), 5.0, "InProgress", "Training", "{}", 6.0, 0)
    db.execute("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", job)
    db.close()
    return tmp_path


def test_an_older_home_keeps_its_jobs(old_home):
    """Jobs of the previous version are kept, with the `process` runner; new jobs and faults can be added."""
    with JobTable(old_home) as table:
        old = table.get("training-job", "old")
        table.create("training-job", "new", "arn:new", {}, runner="simulated")

        assert (old.request, old.runner) == ({"A": 1}, "process")
        assert [job.name for job in table.live("process")] == ["old"]
        assert [job.name for job in table.live("simulated")] == ["new"]
        assert FaultTable(table.database).all() == []


def test_an_older_home_is_brought_up_to_date_once(old_home):
    """Eight connections that open an older home at the same moment can all use it."""
    barrier = threading.Barrier(8)
    seen = []

    def work():
        barrier.wait()
        with JobTable(old_home) as table:
            seen.append(table.get("training-job", "old").runner)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == ["process"] * 8


def test_a_rule_fires_as_often_as_it_may_over_all_processes(tmp_path):
    """Eight connections want the one allowed interruption at once: one gets it, and the count is one."""
    database = Database(tmp_path)
    others = [Database(tmp_path) for _ in range(8)]
    FaultTable(database).replace(Faults(jobs=(JobRule("interrupt", times=1),)))
    barrier = threading.Barrier(8)
    got = []

    def want(other):
        barrier.wait()
        got.append(FaultTable(other).fire("interrupt", "job", "ml.m5.large"))

    threads = [threading.Thread(target=want, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    fired = FaultTable(database).all()[0].count.fired
    for one in (database, *others):
        one.close()

    assert (sum(rule is not None for rule in got), fired) == (1, 1)
