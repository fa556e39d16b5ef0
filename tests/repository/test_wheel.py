"""The wheel contains exactly the library: a stray top-level package would overwrite another project's."""

import re
from pathlib import Path
from zipfile import ZipFile

import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def wheel(wheel_file):
    """The content of the wheel."""
    with ZipFile(wheel_file) as archive:
        yield archive


def test_top_level_is_a_literal_list(wheel):
    """The wheel has four packages and the metadata, without application code, tests and documents."""
    expected = {"blocks", "local_sagemaker", "prefect_sagemaker-0.1.0.dist-info", "tasks_lib", "worker_toolkit"}

    assert expected == {name.split("/")[0] for name in wheel.namelist()}


def test_type_checkers_of_users_see_our_types(wheel):
    """Each package has the marker of PEP 561, so that users' type checkers see its types."""
    expected = {f"{package}/py.typed" for package in ("blocks", "local_sagemaker", "tasks_lib", "worker_toolkit")}

    assert expected <= set(wheel.namelist())


def test_nothing_but_source_travels(wheel):
    """The wheel has no byte code, tests or editor files; besides source only the templates of `ssm init`."""
    templates = "tasks_lib/cli/templates/"
    source = [name for name in wheel.namelist() if ".dist-info/" not in name and not name.startswith(templates)]

    assert {Path(name).suffix for name in source} <= {".py", ".typed", ".json", ".sh"}
    assert {name.removeprefix(templates) for name in wheel.namelist() if name.startswith(templates)} == {
        "README.md",
        "code/prepare.py",
        "code/train.py",
        "data/houses.csv",
        "flow.py",
        "gitignore",
        "prefect.yaml",
        "project.py",
    }


def test_prefect_finds_the_blocks(wheel):
    """The wheel has the entry point by which `Block.load` finds the blocks in a fresh process."""
    points = wheel.read("prefect_sagemaker-0.1.0.dist-info/entry_points.txt").decode()

    assert "[prefect.collections]\nprefect_sagemaker = blocks.project\n" in points


def test_the_command_is_installed(wheel):
    """The wheel installs the command `ssm`."""
    points = wheel.read("prefect_sagemaker-0.1.0.dist-info/entry_points.txt").decode()

    assert "[console_scripts]\nssm = tasks_lib.cli:main\n" in points


def test_the_licence_travels(wheel):
    """The wheel has the text of the licence, as Apache-2.0 requires."""
    assert "Apache License" in wheel.read("prefect_sagemaker-0.1.0.dist-info/licenses/LICENSE").decode()


def test_the_description_has_no_links_that_lead_nowhere(wheel):
    """In the description, relative links of the README are plain text, and all else is unchanged."""
    metadata = wheel.read("prefect_sagemaker-0.1.0.dist-info/METADATA").decode()
    targets = re.findall(r"\]\(([^)]*)\)", metadata)

    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    assert "Description-Content-Type: text/markdown\n" in metadata
    assert "[Architecture](" in README.read_text()
    assert "\nArchitecture · decisions · contributing" in metadata
    assert README.read_text().splitlines()[0] in metadata
