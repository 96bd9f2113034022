"""Instructions of classic BPF (linux/filter.h), and a program of them with labels instead of distances.

Loads at fixed places become plain loads in the kernel's own code, those behind X become calls (convert_bpf_ld_abs()):
three nanoseconds each, for every packet at every tap. Pure. An instruction is (code, jump if true, jump if false, k).
"""

Instruction = tuple[int, int, int, int]
LDW, LDH, LDB = 0x20, 0x28, 0x30  # absolute
LDWX, LDHX, LDBX = 0x40, 0x48, 0x50  # [x + k]
LDI, LDXI, LDM, LDXM, ST, TAX, TXA = 0x00, 0x01, 0x60, 0x61, 0x02, 0x07, 0x87
AND, LSH, RSH, ADD, ADDX = 0x54, 0x64, 0x74, 0x04, 0x0C
JA, JEQ, JSET, RET, RETA = 0x05, 0x15, 0x45, 0x06, 0x16


class Program:
    """Lines with labels. Jumps on a condition reach 255 lines, so each has its own target nearby (:meth:`unless`)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, str, str, int]] = []
        self.count = 0

    def add(self, code: int, k: int = 0, *, true: str = "", false: str = "", label: str = "") -> None:
        self.lines.append((label, code, true, false, k))

    def label(self) -> str:
        self.count += 1
        return f"_{self.count}"

    def goto(self, target: str) -> None:
        self.lines.append(("", JA, target, "", 0))

    def when(self, code: int, k: int, target: str) -> None:
        """Far jump when the condition holds."""
        past = self.label()
        self.add(code, k, false=past)
        self.goto(target)
        self.mark(past)

    def unless(self, code: int, k: int, target: str) -> None:
        past = self.label()
        self.add(code, k, true=past)
        self.goto(target)
        self.mark(past)

    def mark(self, label: str) -> None:
        """The next line has this label: a line that does nothing carries it."""
        self.lines.append((label, JA, label, "", -1))

    def resolved(self) -> list[Instruction]:
        at = {label: n for n, (label, *_) in enumerate(self.lines) if label}
        out: list[Instruction] = []
        for n, (_, code, true, false, k) in enumerate(self.lines):
            if code == JA:
                out.append((JA, 0, 0, 0 if k < 0 else at[true] - n - 1))
            else:
                out.append((code, at[true] - n - 1 if true else 0, at[false] - n - 1 if false else 0, k))
        return out
