"""Runs one rule's bytecode symbolically: registers, loads, comparisons, lookups.

Statements (what does something) are in :mod:`.statements`; this is what they stand on.
"""

from collections.abc import Callable

from pathfit.core.filters import Action, Choice, Expr, Match, Opaque, Verdict
from pathfit.wire.nft import symbols as s
from pathfit.wire.nft.loads import LOADS, Context
from pathfit.wire.nft.messages import Attributes, data_of, number
from pathfit.wire.nft.sets import Resolved, SetContent, as_test, resolve

Sets = Callable[[str], SetContent | None]
EQ, NEQ, LT, LTE, GT, GTE = range(6)
_CODES = {0: "drop", 1: "accept", 2: "stolen", 3: "queue", -1: "continue", -3: "jump", -4: "goto", -5: "return"}


class Machine:
    """The registers of one rule while it is read. ``out`` collects the translated expressions."""

    def __init__(self, family: int | None, sets: Sets) -> None:
        self.context = Context(family)
        self.sets = sets
        self.registers: dict[int, tuple[s.Symbol, int, int]] = {}  # word -> symbol, byte offset in it, its size
        self.out: list[Expr] = []
        self.packets: int | None = None
        self.bytes_: int | None = None

    def put(self, register: int, symbol: s.Symbol, size: int) -> None:
        """Write a register (nft_parse_register: 1..4 are four words each, 8.. one word each)."""
        first = _word(register)
        for i in range((max(size, 1) + 3) // 4):
            self.registers[first + i] = (symbol, 4 * i, size)

    def get(self, register: int) -> s.Symbol:
        """What stands there; Unknown when it was never written or only its middle is asked for."""
        symbol, at, _ = self.registers.get(_word(register), (s.Unknown(f"register {register}"), 0, 0))
        return symbol if at == 0 else s.Unknown(s.describe(symbol))

    def part(self, register: int) -> tuple[s.Symbol, int]:
        """A symbol and the byte offset in it: for values that lie side by side in one map element."""
        symbol, at, _ = self.registers.get(_word(register), (s.Unknown(f"register {register}"), 0, 0))
        return symbol, at

    def key(self, register: int, length: int) -> list[tuple[s.Symbol, int]]:
        """The symbols of a lookup key that begins at a register and is ``length`` bytes long."""
        word, found, seen = _word(register), [], 0
        while seen < length:
            symbol, at, size = self.registers.get(word, (s.Unknown(f"register word {word}"), 0, 4))
            if at:
                symbol, size = s.Unknown(s.describe(symbol)), 4
            if seen + size > length:
                size = length - seen
            found.append((symbol, size))
            step = (max(size, 1) + 3) // 4
            word, seen = word + step, seen + 4 * step
        return found

    def test(self, found: list[s.Test]) -> None:
        """Append tests, and remember what they make sure of."""
        for one in found:
            if isinstance(one, Match) and not one.negate and len(one.values) == 1:
                self.context.learn(one.field, one.values[0])
        self.out += found

    def opaque(self, what: str, *, statement: bool = False) -> None:
        """Something without a name."""
        self.out.append(Opaque(what=what, statement=statement))


def _word(register: int) -> int:
    return (register - 1) * 4 if 1 <= register <= 4 else register - 8


def load(m: Machine, name: str, a: Attributes) -> None:
    """Any expression of LOADS."""
    register, symbol, size = LOADS[name](a, m.context)
    m.put(register, symbol, size)


def cmp(m: Machine, a: Attributes) -> None:
    """nft_cmp_eval."""
    symbol, op = m.get(number(a.get(1))), number(a.get(2))
    raw = data_of(a.get(3))[0] or b""
    sign = ("==", "!=", "<", "<=", ">", ">=")[op] if op < 6 else "?"
    what = f"{s.describe(symbol)} {sign} 0x{raw.hex()}"
    if op in (EQ, NEQ):
        if not isinstance(symbol, s.Name) and isinstance(symbol, s.Bits) and len(raw) * 8 < symbol.width:
            m.opaque(what)
            return
        m.test(s.tests(s.equals(symbol, raw), op == NEQ, what))
        return
    size = len(raw)
    value, top = int.from_bytes(raw, "big"), (1 << 8 * size) - 1
    lo, hi = {LT: (0, value - 1), LTE: (0, value), GT: (value + 1, top), GTE: (value, top)}.get(op, (1, 0))
    if lo > hi or not size:
        m.opaque(what)
        return
    atom = s.between(symbol, lo.to_bytes(size, "big"), hi.to_bytes(size, "big"))
    m.test(s.tests(None if atom is None else [atom], False, what))


def range_(m: Machine, a: Attributes) -> None:
    """nft_range_eval."""
    symbol, unequal = m.get(number(a.get(1))), number(a.get(2)) == 1
    lo, hi = data_of(a.get(3))[0] or b"", data_of(a.get(4))[0] or b""
    atom = s.between(symbol, lo, hi)
    what = f"{s.describe(symbol)} {'!= ' if unequal else ''}0x{lo.hex()}-0x{hi.hex()}"
    m.test(s.tests(None if atom is None else [atom], unequal, what))


def bitwise(m: Machine, a: Attributes) -> None:
    """nft_bitwise_eval: (x & mask) ^ xor. Shifts and register operands have no word here."""
    symbol, size = m.get(number(a.get(1))), number(a.get(3))
    dreg = number(a.get(2))
    if number(a.get(6)) != 0 or not isinstance(symbol, s.Bits):
        m.put(dreg, s.Unknown(f"{s.describe(symbol)} with bits changed"), size)
        return
    mask = symbol.number(data_of(a.get(4))[0] or b"")
    xor = symbol.number(data_of(a.get(5))[0] or b"")
    changed = s.Bits(
        symbol.layout,
        symbol.first,
        symbol.width,
        symbol.host,
        symbol.mask & mask,
        (symbol.xor & mask) ^ xor,
        symbol.what,
    )
    m.put(dreg, changed, size)


def byteorder(m: Machine, a: Attributes) -> None:
    """nft_byteorder_eval: the same number, in the other order."""
    symbol, size, unit = m.get(number(a.get(1))), number(a.get(4)), number(a.get(5))
    if isinstance(symbol, s.Share):
        symbol = s.Share(symbol.field, symbol.modulus, symbol.offset, not symbol.host)
    elif isinstance(symbol, s.Bits) and symbol.width == unit * 8 and symbol.mask == -1 and not symbol.xor:
        symbol = s.Bits(symbol.layout, symbol.first, symbol.width, not symbol.host)
    elif not (isinstance(symbol, s.Unknown) and symbol.what == "rt mtu"):
        symbol = s.Unknown(s.describe(symbol))
    m.put(number(a.get(2)), symbol, size)


def lookup(m: Machine, a: Attributes) -> None:
    """nft_lookup_eval: in a set, or the value a map has for it."""
    name = (a.get(1) or b"").rstrip(b"\0").decode("utf-8", "backslashreplace")
    content, negate = m.sets(name), bool(number(a.get(5)) & 1)
    if content is None:
        what = f"@{name}"
        if 3 in a and number(a[3]):
            m.put(number(a[3]), s.Unknown(what), 16)
        m.opaque(what, statement=3 in a and number(a[3]) == 0)
        return
    symbols = m.key(number(a.get(2)), content.raw.key_length)
    what = f"{' . '.join(s.describe(x) for x, _ in symbols)} {'!= ' if negate else ''}@{name}"
    resolved = resolve(content, symbols)
    if 3 not in a:
        if resolved.partial and not resolved.rows:
            m.opaque(what)
        else:
            m.test([as_test(resolved, negate, what)])
    elif number(a[3]) == 0:
        m.out.append(verdict_map(resolved))
    else:
        data = tuple(e.data or b"" for e in resolved.elements)
        otherwise = resolved.otherwise.data if resolved.otherwise else None
        mapped = s.Mapped(resolved.fields, resolved.rows, data, otherwise, resolved.partial)
        m.put(number(a[3]), mapped, content.raw.data_length)


def verdict(code: int, chain: str | None) -> Verdict | Opaque:
    """NFTA_VERDICT_CODE: NF_* or NFT_* (nf_tables.h). The upper half of NF_QUEUE is the queue's number."""
    if code == -2:  # NFT_BREAK: ends the rule
        return Verdict(kind="continue")
    kind = _CODES.get(code if code < 0 else code & 0xFF)
    if kind is None:
        return Opaque(what=f"verdict {code}", statement=True)
    return Verdict(kind=kind, target=chain if kind in ("jump", "goto") else None)  # type: ignore[arg-type]


def verdict_map(resolved: Resolved) -> Choice:
    """`vmap`."""

    def action(code_chain: tuple[int, str | None] | None) -> Action:
        return verdict(*code_chain) if code_chain else Opaque(what="element without verdict", statement=True)

    return Choice(
        fields=resolved.fields,
        rows=resolved.rows,
        then=tuple(action(e.verdict) for e in resolved.elements),
        otherwise=action(resolved.otherwise.verdict) if resolved.otherwise else None,
        partial=resolved.partial,
    )
