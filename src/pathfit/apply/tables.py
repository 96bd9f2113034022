"""An nft table of our own: one transaction (`nft -f -`) adds it whole or not at all, one deletes it."""

from pathfit.apply import places
from pathfit.apply.step import Impossible
from pathfit.core.change import AddNftTable
from pathfit.core.journal import Place, TableBefore
from pathfit.host.run import Done, run

NONE = 127  # exit status: no such program


class NftTable:
    """Step of :class:`~pathfit.core.change.AddNftTable`."""

    lasting = False

    def late(self, prepared: object) -> bool:
        return False

    def prepare(self, change: AddNftTable, tag: str) -> TableBefore:
        place = places.place(change.netns, change.where)
        if _exists(place, change.family, change.name):
            name = f"{change.family} {change.name}"
            raise Impossible(f"there is a table {name} already", f"nft list table {name}")
        check = _nft(place, "-c", "-f", "-", stdin=change.script)
        if check.status:
            raise Impossible(f"nft does not take the table: {_first(check)}", "nft --version")
        return TableBefore(place=place, family=change.family, name=change.name)

    def perform(self, change: AddNftTable, prepared: TableBefore, tag: str) -> None:
        if not _exists(prepared.place, change.family, change.name):
            _must(_nft(prepared.place, "-f", "-", stdin=change.script))

    def undo(self, change: AddNftTable, prepared: TableBefore, tag: str) -> None:
        if _exists(prepared.place, change.family, change.name):
            _must(_nft(prepared.place, "delete", "table", change.family, change.name))

    def holds(self, change: AddNftTable, prepared: TableBefore) -> bool:
        return _exists(prepared.place, change.family, change.name)


def _exists(place: Place, family: str, name: str) -> bool:
    listed = _nft(place, "list", "tables")
    _must(listed)
    return f"table {family} {name}" in listed.out.splitlines()


def _nft(place: Place, *words: str, stdin: str = "") -> Done:
    with places.entered(place):
        done = run(("nft", *words), stdin)
    if done.status == NONE:
        raise Impossible("nft is not installed", "apt-get install nftables")
    return done


def _must(done: Done) -> None:
    if done.status:
        raise OSError(0, f"nft: {_first(done)}")


def _first(done: Done) -> str:
    lines = [x for x in done.said.splitlines() if x.strip()]
    return lines[0] if lines else f"exit status {done.status}"
