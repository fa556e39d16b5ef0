"""Where the tests' world differs from a user's stands in a list; what is switched off there is what nobody tests."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
SETTING = re.compile(r"\bPREFECT_(?!_|SAGEMAKER_)[A-Z_]+[A-Z]\b")


def test_every_setting_of_prefect_is_in_the_list():
    """Each setting of Prefect that a test names stands in `tests/README.md`, and each of the list is used."""
    used = {name for file in TESTS.rglob("*.py") for name in SETTING.findall(file.read_text())}
    listed = set(SETTING.findall((TESTS / "README.md").read_text()))

    assert used == listed
