"""Docker keeps its networks apart on purpose: who wants to cross asks Docker, and leaves its rules alone."""

from pathfit.core.finding import Finding, Fix
from pathfit.remedies.moby import client
from pathfit.rules.engines import on_host
from pathfit.rules.view import View

CHAINS = "DOCKER-ISOLATION"  # -STAGE-1, -STAGE-2 (libnetwork, drivers/bridge/setup_ip_tables.go)


def is_docker_s(finding: Finding) -> bool:
    """Is the rule that drops one of those that keep Docker's networks apart?"""
    return str(finding.facts.get("chain", "")).startswith(CHAINS)


def join(finding: Finding, view: View) -> tuple[Fix, ...]:
    """The asking container into the network of the one it wants to reach. Nothing when either is not known."""
    source, wanted = view.source, view.arrives_at
    for engine in view.state.engines if view.state and source else ():
        inside = (c for c in engine.containers if source and c.netns == source.id)
        asking = next((c for c in inside if c.endpoints), None)  # not one that lives in another's namespace
        ends = ((c, e) for c in engine.containers for e in c.endpoints)
        there = next((e for _, e in ends if wanted in (a.partition("/")[0] for a in e.addresses)), None)
        if asking is None or there is None or any(e.network == there.network for e in asking.endpoints):
            continue
        words = (*client(engine), "network")
        return (
            Fix(
                id="docker-network-connect",
                title="fix.docker-network-connect",
                platform="docker",
                applicability="manual",
                lasts="recreate",
                commands=((*words, "connect", there.name, asking.name),),
                undo=((*words, "disconnect", there.name, asking.name),),
                where=on_host(view, engine),
                facts={"network": there.name, "container": asking.name},
            ),
        )
    return ()
