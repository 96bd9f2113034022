"""One guest of each kernel for all of this folder: what is shown in them is another kernel, not another boot.

A module finds them without namespaces, and leaves what it likes; one that ended is booted anew.
"""

from collections.abc import Iterator

import pytest
import vm


@pytest.fixture(scope="session")
def booted() -> Iterator[dict[str, vm.Guest]]:
    """By series, what runs. Ended with the session."""
    found: dict[str, vm.Guest] = {}
    yield found
    for guest in found.values():
        guest.end()


@pytest.fixture(scope="module")
def guests(booted: dict[str, vm.Guest]) -> dict[str, vm.Guest]:
    """By series. Those that boot do so meanwhile (wait=False)."""
    for series in vm.SERIES:
        if series in booted and booted[series].alive:
            booted[series].run("ip -all netns delete")
            continue
        if series in booted:
            booted.pop(series).end()
        booted[series] = vm.Guest(vm.required(series), wait=False)
    return booted
