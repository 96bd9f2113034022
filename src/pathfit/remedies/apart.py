"""Docker keeps its networks apart on purpose: who wants to cross asks Docker, and leaves its rules alone."""

from pathfit.core.finding import Finding, Fix
from pathfit.core.net import Point
from pathfit.remedies.base import Argv
from pathfit.rules.view import View

CHAINS = "DOCKER-ISOLATION"  # -STAGE-1, -STAGE-2 (libnetwork, drivers/bridge/setup_ip_tables.go)
SOCKETS = ("", "/var/run/docker.sock", "/run/docker.sock")  # where the client looks by itself


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
        client: Argv = ("docker",) if engine.socket in SOCKETS else ("docker", "-H", f"unix://{engine.socket}")
        ns = next((n for n in view.namespaces if n.id == engine.netns), None)
        return (
            Fix(
                id="docker-network-connect",
                title="fix.docker-network-connect",
                platform="docker",
                applicability="manual",
                lasts="recreate",
                commands=((*client, "network", "connect", there.name, asking.name),),
                undo=((*client, "network", "disconnect", there.name, asking.name),),
                where=Point(host=view.host, netns=ns.where if ns else "host"),
                facts={"network": there.name, "container": asking.name},
            ),
        )
    return ()
