"""The table of values in the chart's README says what values.yaml says."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chart_readme", ROOT / "tools" / "chart_readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_up_to_date(tool: ModuleType):
    assert (tool.CHART / "README.md").read_text() == tool.render(), "run python tools/chart_readme.py"


def test_a_value_without_a_comment_is_named(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "values.yaml").write_text("# Said\none: 1\ntwo:\n  # Also said\n  three: []\n  four: 4\n")
    monkeypatch.setattr(tool, "CHART", tmp_path)
    with pytest.raises(SystemExit, match=r"two\.four"):
        tool.table()
