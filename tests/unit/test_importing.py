"""What is imported at a start is not looked through by the garbage collector, and all that comes later is."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from innkeeper.adapters.local.importing import uncollected


class Knot:
    """A cycle, which only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.freeze()  # as support/garbage.py left it


def test_nothing_is_collected_inside_and_what_was_made_there_stays():
    with uncollected():
        assert not gc.isenabled()
        made = weakref.ref(Knot())
    assert gc.isenabled()
    gc.collect()
    assert made() is not None


def test_what_is_made_later_is_collected():
    with uncollected():
        pass
    made = weakref.ref(Knot())
    gc.collect()
    assert made() is None


def test_an_import_that_fails_leaves_the_collector_on():
    with pytest.raises(ModuleNotFoundError), uncollected():
        import no_such_module  # noqa: F401 # pyright: ignore[reportMissingImports, reportUnusedImport]
    assert gc.isenabled()
