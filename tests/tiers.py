"""The tiers of the suite: `--tier=fast`, `--tier=sample` (`make test`), or `--tier=all` (`make test-all`).

- `fast`: tests that start no server and no process. An audit hook makes a test fail that starts one. Only `git` may be
  started, since the tags of every job name the commit.
- `sample`: a journey for each promise. Tests marked `exhaustive` are left out. `sampled(count)` draws that many of a
  test's cases. `sampled(count, group=NAME)` draws that many of all cases in a file with the same group. It may be the
  mark of the whole file (`pytestmark`); tests marked `always` then run in any case. A test that draws by itself takes
  the fixture `sample`. The seed of all draws is that of pytest-randomly, which is printed. A failure prints the command
  that repeats the run.
- `all`: everything. This is the default, so that a test selected by its name always runs.
"""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from xdist.scheduler import LoadScopeScheduling

TIERS = ("fast", "sample", "all")
WITH_PROCESSES = (
    "application",
    "clients",
    "docs",
    "exactly_once",
    "repository",
    "journeys",
    "local_sagemaker",
    "worker_toolkit",
)
"""Folders that `fast` does not collect. In the other folders, a mark or a fixture marks the tests with processes."""
PROCESS_FIXTURES = {"backend", "make_backend", "own_backend", "prefect_api"}
GROUPED = ("application", "clients", "exactly_once", "docs", "repository", "journeys", "local_sagemaker")
"""Folders whose modules share slow fixtures, the slowest first: xdist gives each of their modules to one worker."""
SHARE_A_QUICKSTART = ("application/test_quickstart.py", "application/test_ui.py")
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"}

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """Draws from what would take too long in full.

    Attributes:
        tier: The tier of this run.
        seed: The seed of all draws.
    """

    tier: str
    seed: int

    def of(self, things: Iterable[T], count: int, name: str = "") -> list[T]:
        """Return `count` of some things in their order; all of them in the tier `all`.

        Args:
            things: The things; the same in each process.
            count: How many to draw.
            name: Draws with different names are independent of each other.
        """
        given = list(things)
        if self.tier == "all" or count >= len(given):
            return given
        chosen = random.Random(f"{self.seed} {name}").sample(range(len(given)), count)
        return [given[number] for number in sorted(chosen)]

    def count(self, few: int, many: int) -> int:
        """Return how often to try something random: `many` in the tier `all`, `few` in the others."""
        return many if self.tier == "all" else few


def sample_of(config: pytest.Config) -> Sample:
    """Return the sample of this run."""
    return Sample(config.getoption("tier"), config.getoption("randomly_seed", 0))


def select(items: Sequence[pytest.Item], sample: Sample) -> set[pytest.Item]:
    """Return the tests of a tier."""
    if sample.tier == "all":
        return set(items)
    kept = [item for item in items if not item.get_closest_marker("exhaustive")]
    if sample.tier == "fast":
        kept = [item for item in kept if not starts_processes(item)]
    groups: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in sorted(kept, key=lambda item: item.nodeid):  # the order is random, and the sample must not be
        groups[_group(item)].append(item)
    return {item for name, group in groups.items() for item in _drawn(name, group, sample)}


def _mark(item: pytest.Item) -> pytest.Mark | None:
    """Return the mark that says how many of a test's group are drawn: its own mark, otherwise its file's."""
    own = [mark for mark in item.own_markers if mark.name == "sampled"]
    if own or item.get_closest_marker("always"):
        return own[0] if own else None
    return item.get_closest_marker("sampled")


def _group(item: pytest.Item) -> str:
    mark = _mark(item)
    if mark and "group" in mark.kwargs:
        return f"{item.path}: {mark.kwargs['group']}"
    return item.nodeid.partition("[")[0]


def _drawn(name: str, group: list[pytest.Item], sample: Sample) -> list[pytest.Item]:
    mark = _mark(group[0])
    return sample.of(group, mark.args[0], name) if mark else group


def folder(item: pytest.Item) -> str:
    """Return the folder that contains a test's module."""
    return item.path.parent.name


def starts_processes(item: Any) -> bool:
    """Return whether a test needs a server or a process."""
    return bool(PROCESS_FIXTURES & set(item.fixturenames) or item.get_closest_marker("processes"))


class SlowModulesTogether(LoadScopeScheduling):
    """Gives each module of a folder in `GROUPED` to one worker of xdist, and all other tests one by one.

    `--dist=loadgroup` would do this with a mark, but xdist 3.8 cannot set it with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if path.split("/")[-2] not in GROUPED:
            return nodeid
        return "quickstart" if path.endswith(SHARE_A_QUICKSTART) else path


def slow_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Sort modules that go to one worker to the front: the short tests at the end fill the idle workers."""
    places = {name: place for place, name in enumerate(GROUPED)}
    return sorted(items, key=lambda item: places.get(folder(item), len(places)))


def forbid_processes() -> None:
    """Make each later start of a process in this process fail, except of `git`."""

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in STARTS and arguments[:1] != ("git",):
            raise AssertionError(
                f"{event} {arguments[:2]}: a test of `make test-fast` starts a process. Mark it: "
                "@pytest.mark.processes, or `pytestmark` for the module."
            )

    sys.addaudithook(refuse)
