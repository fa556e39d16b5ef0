"""The watch of a Prefect server on this machine, with a clock and a port of the test."""

import httpx
import pytest
from prefect.settings import Settings

from tasks_lib.errors import PrefectServerLost
from tasks_lib.prefect_runtime.server_watch import ServerWatch, watch_of


class Machine:
    """A machine whose server may die, with a watch that looks only when the test calls it."""

    def __init__(self):
        self.now, self.listens = 0.0, True
        self.settings = Settings()
        self.watch = ServerWatch(
            "http://127.0.0.1:1/api/", self.settings, listens=lambda: self.listens, clock=lambda: self.now, thread=None
        )

    def look(self, now):
        self.now = now
        return self.watch.look()


def test_a_server_that_died_is_reported_once_and_ends_its_tasks(caplog):
    """1. The server is up. 2. It is away for less than the limit.

    3. It is lost: tasks raise, and no request is retried.
    """
    machine = Machine()
    machine.look(100)
    machine.watch.check("a job ran")

    machine.listens = False
    machine.look(129)
    machine.watch.check("a job ran")
    assert (machine.watch.away, machine.settings.client.max_retries > 0) == (True, True)

    machine.look(130)
    machine.look(132)
    with pytest.raises(
        PrefectServerLost, match=r"The Prefect server at http://127\.0\.0\.1:1/api/ died while a job ran"
    ):
        machine.watch.check("a job ran")
    assert machine.settings.client.max_retries == 0
    assert [record.message.partition(" died")[2][:9] for record in caplog.records] == [": nothing"]


def test_a_server_that_comes_back_is_a_server():
    """A restart within the limit is not a loss, and after a loss the next flow of the process works as before."""
    machine = Machine()
    retries = machine.settings.client.max_retries
    for away, back in ((10, 30), (40, 90)):
        machine.listens = False
        machine.look(away)
        machine.look(back - 1)
        machine.listens = True
        machine.look(back)
        machine.watch.check("a job ran")

    assert machine.settings.client.max_retries == retries


def test_the_watch_ends_when_no_task_asks():
    """The watch ends two minutes after a task last checked it."""
    machine = Machine()
    machine.watch.check("a job ran")

    assert machine.look(119)
    assert not machine.look(120)


@pytest.mark.parametrize(
    ("api", "watched"),
    [
        ("http://127.0.0.1:4200/api/", True),
        ("http://localhost:4200/api/", True),
        ("http://[::1]:4200/api/", True),
        ("https://api.prefect.cloud/api/", False),
        ("http://10.0.0.3:4200/api/", False),
    ],
)
def test_only_a_server_of_this_machine_is_watched(api, watched):
    """A remote server is not watched, because its silence may be an outage, which a long job survives."""
    assert (watch_of(httpx.URL(api)) is not None) is watched
