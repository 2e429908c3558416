"""The page about testing a platform shows the test file that is run."""

from __future__ import annotations

import re
from pathlib import Path

from tests.unit.simulation import test_contract

PAGE = Path(__file__).parents[3] / "docs" / "testing-a-platform.md"


def test_the_example_of_the_page_is_the_test_that_is_run() -> None:
    shown = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert shown == [Path(test_contract.__file__).read_text()]
