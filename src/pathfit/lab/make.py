"""From a scenario to everything the builder needs: layout, then routes, then filters. Pure."""

from urllib.parse import urlsplit

from pathfit.core.net import bracketed
from pathfit.lab.filters import add_filters
from pathfit.lab.layout import Layout, layout
from pathfit.lab.routing import add_routes
from pathfit.lab.scenario import Family, Scenario


def make(scenario: Scenario) -> Layout:
    """Raises ValueError or KeyError with a sentence when something cannot be worked out."""
    plan = layout(scenario)
    add_routes(plan)
    add_filters(plan)
    target(plan, scenario.ask.to, scenario.ask.family)
    for truth in (*scenario.truth, *(scenario.truth_after or ()), *scenario.busy):
        target(plan, truth.get)
    return plan


def target(plan: Layout, text: str, family: Family | None = None) -> str:
    """A URL or H:P with the host of the lab in it replaced by its address; other names are left alone."""
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "", text
    authority, slash, path = rest.partition("/")
    host = urlsplit(f"//{authority}").hostname or ""
    if authority.startswith("[") or host.partition(".")[0] not in plan.hosts:
        return text
    place = authority.rpartition(":")[0] if ":" in authority else authority
    try:
        address = plan.address(place, family)
    except KeyError:
        if "." in place:  # a DNS name that begins like a host of ours
            return text
        raise
    port = authority[len(place) :]
    shown = bracketed(address) if port or mark else address
    return f"{scheme}{mark}{shown}{port}{slash}{path}"
