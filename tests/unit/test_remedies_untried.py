"""What was never tried says so, everywhere a repair is shown."""

import msgspec
import pytest

from pathfit.core.finding import Fix
from pathfit.core.net import Point
from pathfit.remedies.untried import documented
from pathfit.render.json import fix_document

AT = Point(host="h", netns="host", link="eth0")


def shown() -> Fix:
    return documented(
        "flush-cache", "fix.flush-cache", "somewhere", source="its manual, 2.1", value=1400, effective=1350, where=AT
    )


def test_it_is_left_to_people_and_says_where_it_was_read() -> None:
    fix = shown()
    assert (fix.applicability, fix.untried, fix.changes) == ("manual", True, ())
    document = fix_document(fix)
    assert document["untried"] is True
    assert document["source"] == "its manual, 2.1"
    assert (document["value"], document["effective"]) == (1400, 1350)


@pytest.mark.parametrize("wrong", [{"source": ""}, {"applicability": "safe"}])
def test_nothing_untried_is_applied_or_comes_from_nowhere(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="never tried"):
        msgspec.structs.replace(shown(), **wrong)
