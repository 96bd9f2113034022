"""The asked command as it is typed, with one thing changed: what stands behind ``try:``.

What the world says about something it could not see (``Missing.how``) is a line to type, or a change of the command
that was asked: "--from netns:c" (that option), "run as root (sudo pathfit …)" (the same with sudo). Several ways
stand between :data:`OR`.
"""

import shlex

import msgspec

from pathfit.core.ask import Ask

OR = "   or   "
AS_ROOT = "sudo pathfit …"
PROBED = "PROBED"  # in a line: the target and the options of the asked command
PROBE = ["pathfit", "probe"]  # how `probe` is called; where it stands in a file of its own, that replaces it


def shell(*words: str) -> str:
    """Words as one line that can be typed."""
    return shlex.join(words)


def lines(how: str, ask: Ask, ref: str = "") -> list[str]:
    """Lines that can be typed. ``ref``: the request that was not answered; of "target" a place is the one asked for."""
    parts = [part for part in how.removeprefix("try: ").split(OR) if part]
    if ask.target.where is not None or not ask.target.text:  # the one file knows no place but its own
        parts = [part for part in parts if PROBED not in part]
    return [_whole(part, ask, ref) for part in parts]


def _whole(part: str, ask: Ask, ref: str) -> str:
    if AS_ROOT in part:
        return shlex.join(["sudo", *command(ask)])
    if part == "--verbose":
        return shlex.join([*command(ask), part]) + "   (and report what it prints)"
    option, _, value = part.partition(" ")
    if option in ("--from", "--to", "--timeout"):
        if option == "--from" and ref == "target":
            option, value = "--to", value + (f":{ask.target.port}" if ask.target.port else "")
        return shlex.join(command(ask, option, value))
    if PROBED in part:
        asked = msgspec.structs.replace(ask, command="probe")
        return part.replace(PROBED, shlex.join(command(asked)[len(PROBE) :]))
    return part.replace("TARGET", shlex.quote(ask.target.text))


def command(ask: Ask, option: str = "", value: str = "") -> list[str]:
    """The words of the asked command; ``option`` has another ``value``."""
    to = value if option == "--to" else ask.target.text
    if ask.command == "probe":
        words = [*PROBE, to]
    else:
        source = value if option == "--from" else ask.source
        words = ["pathfit", ask.command, *(["--from", source] if source != "host" else [])]
        words += ["--to", to] if to else []  # of state alone
    if ask.family:
        words.append(f"-{ask.family}")
    for name, address in ask.resolve:
        words += ["--resolve", f"{name}:{address}"]
    words += ["--sni", ask.sni] if ask.sni else []
    words += ["--proxy", ask.proxy] if ask.proxy else []
    words += ["--follow", f"{ask.follow:g}"] if ask.follow is not None else []
    words += ["--fast"] if ask.fast else []
    words += [w for file in ask.snapshots for w in ("--in", file)]
    return [*words, *([option, value] if option == "--timeout" else [])]


def fix(ask: Ask, code: str, *, sure: bool = True) -> list[str]:
    """The command that repairs what the asked one found. What is not ``sure`` (confirmed) is only repaired where both
    the code and the place were named, "host" too."""
    words = command(ask)
    if ask.command == "probe":
        return ["pathfit", "fix", code, "--to", *words[len(PROBE) :]]
    place = ["--from", "host"] if ask.source == "host" and not sure else []
    return ["pathfit", "fix", code, *place, *words[2:]]
