"""What fits into tunnels: predicted and measured on other kernels, as a page. `make bench-kernels`.

    tools/isolated .venv/bin/python bench/kernels.py [--out FILE.md] [SERIES...]    default: 6.1 6.12

Kernels are those that `tools/kernels SERIES` fetched. It is what tests/kernels/test_table.py judges, written down.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests" / x) for x in ("kernels", "unit", "engines")]

import vm  # noqa: E402
from rows import ROWS, Row  # noqa: E402
from test_model_tunnels import ending  # noqa: E402
from test_table import STATES, Told, asked, predicted  # noqa: E402

from pathfit.core.path import Fate  # noqa: E402

WORDS = {"error": "E", "lost": "lost", "pieces": "pieces", "whole": "whole"}


def said(told: Told, row: Row, state: str, family: int, found: dict[str, Any]) -> tuple[str, str]:
    """The prediction in a word or two, and whether it is what was measured."""
    size = found["whole"] + 1
    more = predicted(told, row, state, family, size)
    if more.fate is Fate.UNKNOWN and not more.limits:
        return "unknown", "–"
    then = more.limits[0].then if more.limits else "passes"
    right = more.mtu == found["whole"] and bool(more.limits)
    right = right and (more.limits[0].then, more.limits[0].told_home) in ending(found["story"])
    beyond = ", beyond unknown" if more.fate is Fate.UNKNOWN else ""
    return f"{more.mtu} {then}{beyond}", "yes" if right else "**no**"


def lines(told: dict[str, Told]) -> list[str]:
    """A row for each encapsulation, state of the device's MTU and inner family; kernels that agree stand together."""
    heads = (
        "encapsulation",
        "kernels",
        "MTU (@9000)",
        "inner",
        "measured",
        "a byte more, 3 times",
        "predicted",
        "right",
    )
    table = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in ROWS:
        for state in STATES:
            for family in row.inner:
                cells: dict[tuple[str, ...], list[str]] = {}
                for series, one in told.items():
                    result = one.results[row.name]
                    if state not in result and "failed" not in result:
                        continue
                    cells.setdefault(cell(one, row, state, family), []).append(series)
                table += [f"| {row.name} | {', '.join(which)} | {' | '.join(x)} |" for x, which in cells.items()]
    return table


def cell(told: Told, row: Row, state: str, family: int) -> tuple[str, ...]:
    result = told.results[row.name]
    if "failed" in result:
        return ("", "", "", "failed", "", "**no**")
    found = result[state][str(family)]
    mtu = str(result[state].get("mtu", "no device"))
    if state == "default" and "mtu_9000" in result:
        mtu += f" ({result['mtu_9000']})"
    story = ", ".join(WORDS.get(x, x) for x in found["story"])
    return (mtu, f"IPv{family}", str(found["whole"]), story, *said(told, row, state, family, found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("series", nargs="*", default=list(vm.SERIES))
    given = parser.parse_args()
    kernels = [found for x in given.series if (found := vm.kernel(x))]
    if len(kernels) != len(given.series):
        sys.exit(f"not fetched, or no QEMU: try: tools/kernels {' '.join(given.series)}")
    started = time.monotonic()
    with vm.several(kernels) as guests:
        told = asked(guests)
        took = time.monotonic() - started
        table = lines(told)
    right = sum(x.endswith("| yes |") for x in table)
    unknown = sum(x.endswith("| – |") for x in table)
    head = [
        f"# {time.strftime('%Y-%m-%d')}, what fits into tunnels: {', '.join(x.version for x in kernels)}",
        "",
        f"`make bench-kernels`: {len(ROWS)} encapsulations, {len(table) - 2} rows, {right} predicted as measured,",
        f"{unknown} unknown by design, {len(table) - 2 - right - unknown} wrong; all kernels at once in QEMU (tcg),",
        f"{took:.0f} s. Underlay: a cable of MTU 1500; packets with DF; the device's MTU as it is made, then raised",
        "to 1700 where the kernel allows that. E: EMSGSIZE at once; pieces: the outer packet was fragmented. Predicted",
        "from the snapshot that pathfit read in the guest before any large packet: what passes, and what then.",
        "",
    ]
    text = "\n".join([*head, *table, ""])
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
