"""What the next pathfit says about a repair that was interrupted. Costs one listdir when none was."""

import os


def state_dir() -> str:
    """As pathfit.apply.store has it, without importing it: this is asked by every command."""
    if given := os.environ.get("PATHFIT_STATE"):
        return given
    if os.geteuid() == 0:
        return "/var/lib/pathfit"
    return os.path.join(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "pathfit")


def notice() -> None:
    """Say on stderr that a repair was interrupted, and how it is undone."""
    try:
        if not os.listdir(os.path.join(state_dir(), "unfinished")):
            return
    except OSError:
        return
    _say()


def _say() -> None:
    from pathfit.apply.store import Store, Unreadable
    from pathfit.cli.repairs import overdue
    from pathfit.cli.talk import told
    from pathfit.render.layout import clean

    for one in Store().interrupted():
        if isinstance(one, Unreadable):
            said = (f"a repair was interrupted, and its journal cannot be opened: {one.why}", "--list")
        elif one.state == "waiting" and not overdue(one):
            continue
        else:
            said = (f"a repair was interrupted ({one.code}, {one.fix.id}, {one.source})", f"--undo {one.id}")
        told(f"pathfit: {clean(said[0])}\ntry: pathfit fix {clean(said[1])}")
