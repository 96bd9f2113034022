"""kill -9 at every point of every kind of repair, then recovery: all is as it was before, byte for byte.

The points are counted by the run itself, not written down here: before the first mark, around every write of the
journal, before and after every step, and the same on the way back. `make test-all` takes each of them, `make test`
every sixth, beginning elsewhere in each recipe.
"""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import kit
import pytest
from netlab import Net, nets

from pathfit.apply import sequence
from pathfit.apply.store import Store
from pathfit.core.change import Change
from pathfit.core.journal import Journal

pytestmark = pytest.mark.lab
Changes = tuple[Change, ...]


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with nets() as made:
        kit.build(made)
        yield made


RECIPES: dict[str, Callable[[Net, Path], Changes]] = {
    "route": lambda net, etc: (kit.route(net, 4, 1400),),
    "route-ipv6": lambda net, etc: (kit.route(net, 6, 1300),),
    "links": lambda net, etc: kit.links(net, 1400),
    "links-below-1280": lambda net, etc: kit.links(net, 1200),
    "forwarding": lambda net, etc: (kit.forwarding(net),),
    "table": lambda net, etc: (kit.table(net),),
    "ovs": lambda net, etc: kit.ovs(etc),
    "files": lambda net, etc: kit.files(etc),
    "all-at-once": lambda net, etc: (*kit.files(etc), kit.cache(net), kit.route(net, 6, 1290), kit.table(net)),
}
FEWEST = 30  # points over all recipes that even `make test` is killed at
SOME = 6


def recover(store: Store) -> None:
    """What the user does: the next pathfit names it, `--undo last` takes it back."""
    left = store.interrupted()
    assert all(isinstance(j, Journal) for j in left)
    last = store.all()[-1:]
    for found in left or last:
        assert isinstance(found, Journal)
        with store.locked("recovery"):
            assert sequence.undo(store, found).state == "undone"
    assert store.interrupted() == []


EACH = pytest.mark.parametrize("every", [SOME, pytest.param(1, marks=pytest.mark.slow)])


def chosen(recipe: str, passed: list[str], every: int) -> list[tuple[int, str]]:
    """(number, name) of the points to be killed at."""
    first = 1 + list(RECIPES).index(recipe) % every
    return list(enumerate(passed, 1))[first - 1 :: every]


@EACH
@pytest.mark.parametrize("recipe", RECIPES)
def test_killed_on_the_way(recipe: str, every: int, net: Net, tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    changes = RECIPES[recipe](net, etc)
    before = (kit.state(net), kit.tree(etc))
    passed = kit.points(tmp_path / "s0", lambda store: kit.repair(store, changes))
    assert kit.state(net) != before[0] or kit.tree(etc) != before[1], "a repair that changes nothing proves nothing"
    recover(Store(tmp_path / "s0"))
    assert (kit.state(net), kit.tree(etc)) == before
    for n, point in chosen(recipe, passed, every):
        folder = tmp_path / f"s{n}"
        assert kit.killed(lambda f=folder, n=n: kit.repair(Store(f, kit.Killer(n)), changes))  # type: ignore[misc]
        recover(Store(folder))
        assert kit.tree(etc) == before[1], f"killed at point {n}, {point}"
        assert kit.state(net) == before[0], f"killed at point {n}, {point}"


@EACH
@pytest.mark.parametrize("recipe", ["links-below-1280", "all-at-once"])
def test_killed_on_the_way_back(recipe: str, every: int, net: Net, tmp_path: Path) -> None:
    """Undo that is itself ended half way is taken up again by the next one."""
    etc = tmp_path / "etc"
    etc.mkdir()
    changes = RECIPES[recipe](net, etc)
    before = (kit.state(net), kit.tree(etc))

    def back(store: Store) -> None:
        recover(store)

    kit.repair(Store(tmp_path / "s0"), changes)
    passed = kit.points(tmp_path / "s0", back)
    for n, point in chosen(recipe, passed, every):
        folder = tmp_path / f"s{n}"
        kit.repair(Store(folder), changes)
        assert kit.killed(lambda f=folder, n=n: back(Store(f, kit.Killer(n))))  # type: ignore[misc]
        recover(Store(folder))
        assert (kit.state(net), kit.tree(etc)) == before, f"killed at point {n}, {point}"


def test_there_are_enough_points(net: Net, tmp_path: Path) -> None:
    total = 0
    for recipe, changes in RECIPES.items():
        etc = tmp_path / recipe
        etc.mkdir()
        store = tmp_path / f"{recipe}.state"
        here = len(kit.points(store, lambda s, c=changes, e=etc: kit.repair(s, c(net, e))))  # type: ignore[misc]
        total += here
        recover(Store(store))
    assert total >= FEWEST * SOME


@pytest.mark.parametrize("recipe", ["links-below-1280", "all-at-once"])
def test_a_journal_that_cannot_be_written_any_more(recipe: str, net: Net, tmp_path: Path) -> None:
    """The disk is full from some write on: what was done is undone all the same, at once or by the next one."""
    etc = tmp_path / "etc"
    etc.mkdir()
    changes = RECIPES[recipe](net, etc)
    before = (kit.state(net), kit.tree(etc))
    writes = kit.points(tmp_path / "s0", lambda store: kit.repair(store, changes)).count("written")
    recover(Store(tmp_path / "s0"))
    for n in range(1, writes + 1, 3):
        left = [n]

        def full(point: str, left: list[int] = left) -> None:
            left[0] -= point == "written"
            if point == "written" and left[0] <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")

        store = Store(tmp_path / f"s{n}", full)
        with pytest.raises(OSError, match="No space"):
            kit.repair(store, changes)
        journals = [j for j in store.all() if isinstance(j, Journal)]
        if journals:
            with pytest.raises(OSError, match="No space"):
                sequence.undo(store, journals[0])
        assert (kit.state(net), kit.tree(etc)) == before, f"no room from write {n} on"
        if journals:
            recover(Store(tmp_path / f"s{n}"))
            assert (kit.state(net), kit.tree(etc)) == before
