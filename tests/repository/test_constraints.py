"""`constraints.txt`: every machine gets the same packages, whatever index it uses."""

import re
import sys
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
TEST = r"\(?[a-z_]+ (==|!=|<|>=) '[\w.*-]+'\)*"
PIN = re.compile(rf"[a-z0-9-]+==[0-9][0-9a-z.]*( ; {TEST}( (and|or) \(?{TEST})*)?")


def pins_for(python, machine):
    """Return the pins for one kind of machine: pairs of name and version."""
    environment = default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.5",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": "linux",
        "platform_machine": machine,
    }
    requirements = [Requirement(line) for line in LINES]
    return [
        (requirement.name, str(requirement.specifier).removeprefix("=="))
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate(environment)
    ]


def test_lines_are_names_with_exact_versions():
    """A line is `name==version`, perhaps with a marker, and without an address, a hash, a path or an option."""
    strange = [line for line in LINES if not PIN.fullmatch(line)]

    assert strange == []
    assert len(LINES) > 100


def test_the_project_does_not_pin_itself():
    """The project is not pinned: it is installed from its checkout, never from an index."""
    names = [Requirement(line).name for line in LINES]

    assert PROJECT["name"] not in names


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_each_requirement_has_one_pin_that_satisfies_it(python, machine):
    """On each supported Python and processor, every requirement of pyproject.toml has exactly one fitting version."""
    pins = pins_for(python, machine)
    pinned = dict(pins)
    extras = PROJECT["optional-dependencies"].values()
    declared = [Requirement(line) for line in [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]]
    foreign = [
        requirement
        for requirement in declared
        if requirement.name != PROJECT["name"]
        and (requirement.marker is None or requirement.marker.evaluate({"python_version": python}))
    ]

    assert len(pinned) == len(pins), "a name is pinned twice"
    assert [
        str(requirement)
        for requirement in foreign
        if not requirement.specifier.contains(pinned.get(canonicalize_name(requirement.name), "0"))
    ] == []


def test_promised_pythons_are_those_of_the_classifiers():
    """The Pythons of the test above are those that the package's classifiers name."""
    prefix = "Programming Language :: Python :: 3."
    claimed = [line for line in PROJECT["classifiers"] if line.startswith(prefix)]

    assert [f"{prefix}{minor}" for minor in (10, 11, 12, 13)] == claimed
