"""docs/rules.md is what the rules say of themselves. After changing a docstring:

.venv/bin/python tests/unit/test_rules_docs.py > docs/rules.md
"""

from pathlib import Path

from pathfit.rules import NAMES, manual

PAGE = Path(__file__).parents[2] / "docs" / "rules.md"

HEAD = """# Fault codes: what is said, how sure, and why

This page is made from the docstrings of the rules (`pathfit explain CODE` prints the whole page of one). A code names
the fault, never the repair, and does not change its meaning.

## How sure

* **confirmed** - measured, or certain from state *and* in agreement with what the asked traffic met.
* **likely** - the pattern fits and nothing contradicts it.
* **possible** - worth a look.

State alone gives no error unless every hop of the failing path is seen and the drop is certain. Beyond what we can
see, measurement alone decides, and the place is given as "beyond".

## The verdict

Asked traffic is TCP to the target's port, with any segment size the two ends promise each other, both ways.

| verdict | when | exit |
|---|---|---|
| broken | a finding of severity error | 1 |
| unknown | no error, but a direction was not measurable, a gap could not be proven, or nothing was said at all | 3 |
| degraded | a warning among MTU106, 109, 110, 118-120, NET151, 153, DNS252: slow, late, or fragile | 0 |
| healthy | both directions carry what the ends promise each other | 0 |

Decisions that may surprise:

* The same limit both ways is one fault: MTU101 is the error, MTU102 a warning. Different limits are two errors.
* A closed port (RST201) is an error: what was asked for does fail, and the report says that the target does it.
* Answers kept smaller than promised with nothing missing (a clamp, the server's own MTU, SYN cookies) are healthy.
* A limit for ICMP or UDP above what TCP uses is no fault of TCP (MTU120, info). Between two ends of ours without a port
  any traffic is asked: there it is a warning, as are fragments that do not arrive (MTU109), and the verdict "degraded".
* A certificate that is not trusted (APP802) and an HTTP error (APP803) are warnings, the verdict is of the path.
* A closed UDP port is an error as well; a silent one is "unknown": it may be open and not know the questions asked.
* What UDP answers is mostly small: the way in stays null with a note, and the verdict is "unknown" unless large DNS
  answers arrive, or all of the way is visible.
* A service that never sends a full packet leaves `measured.reverse` null with a note. The verdict is then "unknown",
  unless all of the way is visible and carries the promised size: a hole inwards looks the same from here, and an echo
  of that size proves nothing (its reply has no DF and may have come in fragments).
* A ClientHello that is too large for the way out (MTU115) is a warning beside MTU102, which is the error; one that is
  not borne although packets of its size pass is an error by itself.
* Outbound not measured: "unknown", unless all of the way is visible and carries the promised size.
* Silence at every size (APP801) without a view of the target's own socket is "unknown": it may be slow, stuck, or
  another machine.
* The way back, where its far part is out of sight, is walked inward from the edge of what we see. Only a filter
  found there counts, and never more than likely.
* A cause (MTU103, 104, 107, 111) is a warning with `explains`; what fails is the error, with `because`.
"""


def page() -> str:
    """The whole document."""
    parts = [HEAD, "\n## The codes\n"]
    for code in NAMES:
        m = manual(code)
        assert m is not None
        parts.append(f"\n### {code} {m.name}\n\n{m.title}\n\n")
        parts += [f"* **{name}**: {text}\n" for name, text in m.fields.items()]
    return "".join(parts)


def test_the_document_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), __doc__


if __name__ == "__main__":
    print(page(), end="")
