"""The list of differences between the tests' environment and a user's is complete: what it switches off is untested."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
SETTING = re.compile(r"\bPREFECT_(?!_|SAGEMAKER_)[A-Z_]+[A-Z]\b")


def test_every_setting_of_prefect_is_in_the_list():
    """Each setting of Prefect that a test names is listed in `tests/README.md`, and each listed one is used."""
    used = {name for file in TESTS.rglob("*.py") for name in SETTING.findall(file.read_text())}
    listed = set(SETTING.findall((TESTS / "README.md").read_text()))

    assert used == listed
