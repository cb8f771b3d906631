"""The page in docs says what the table says."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_generated_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("lifecycle_page", ROOT / "tools" / "lifecycle_page.py")
    assert spec is not None
    assert spec.loader is not None
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    assert page.PAGE.read_text() == page.render(), "run python tools/lifecycle_page.py"
