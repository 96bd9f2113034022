"""Which step performs which change: one explicit table."""

from pathfit.apply.containers import ContainersAgain
from pathfit.apply.files import File
from pathfit.apply.forwarding import ForwardingEntry
from pathfit.apply.links import LinkMtu
from pathfit.apply.networks import NetworkAgain
from pathfit.apply.ovs import OvsMtu
from pathfit.apply.restart import EngineRestart
from pathfit.apply.routes import RouteCache, RouteMtu
from pathfit.apply.step import Impossible, Step
from pathfit.apply.tables import NftTable
from pathfit.core.change import (
    AddNftTable,
    Change,
    FlushRouteCache,
    RecreateNetwork,
    RestartContainers,
    RestartEngine,
    SetForwarding,
    SetLinkMtu,
    SetOvsMtu,
    SetRouteMtu,
    WriteFile,
)

STEPS: dict[type, Step] = {
    SetRouteMtu: RouteMtu(),
    SetLinkMtu: LinkMtu(),
    AddNftTable: NftTable(),
    FlushRouteCache: RouteCache(),
    WriteFile: File(),
    RestartEngine: EngineRestart(),
    RecreateNetwork: NetworkAgain(),
    RestartContainers: ContainersAgain(),
    SetOvsMtu: OvsMtu(),
    SetForwarding: ForwardingEntry(),
}


def step_of(change: Change) -> Step:
    """Raises Impossible for a change this version cannot make."""
    found = STEPS.get(type(change))
    if found is None:
        raise Impossible(f"this version cannot make a change of the kind {type(change).__name__}", "pathfit --version")
    return found
