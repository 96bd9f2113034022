"""What of click we use, without what that costs before the first packet.

click takes every help text to inspect.cleandoc(), and inspect, with ast, dis and tokenize behind it, takes 4 ms to
import; pathlib takes 2. Help texts of options are one line here, so that nothing is left to clean, and both modules are
imported when they are wanted: inspect for ``--help`` (:class:`pathfit.cli.entry.Later`).
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pathlib import Path

    PathType = click.ParamType[Path]  # generic since click 8.4
else:
    PathType = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])
HELP = "Show this message and exit."


class Option(click.Option):
    """An option with one line of help."""

    def __init__(self, *words: Any, **more: Any) -> None:
        line = more.pop("help", None)
        super().__init__(*words, **more)
        self.help = line


def option(*names: str, **more: Any) -> Callable[[F], F]:
    """click.option() with our :class:`Option`."""
    return click.option(*names, cls=Option, **more)


def version_option(text: str) -> Callable[[F], F]:
    """``--version`` says ``text``. click's own looks for a translation of its help, and imports locale for it."""

    def show(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            click.echo(text, color=ctx.color)
            ctx.exit()

    say = "Show the version and exit."
    return option("--version", is_flag=True, is_eager=True, expose_value=False, callback=show, help=say)


class File(PathType):
    """A path, as a pathlib.Path; one of a ``folder`` may not be a file. (click.Path translates its own name.)"""

    def __init__(self, *, folder: bool = False) -> None:
        self.folder = folder
        self.name = "directory" if folder else "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Path":
        from pathlib import Path

        path = Path(value)
        if self.folder and os.path.isfile(os.fsencode(path).replace(b"\0", b"?")):
            self.fail(f"Directory '{click.format_filename(path)}' is a file.", param, ctx)
        return path


def _show(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


class Command(click.Command):
    """A command whose ``--help`` is such an option."""

    _shown: Option | None = None

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """The same object every time: click compares options by identity."""
        if self._shown is None and (names := list(self.get_help_option_names(ctx))):
            self._shown = Option(names, is_flag=True, is_eager=True, expose_value=False, callback=_show, help=HELP)
        return self._shown


class Group(Command, click.Group):
    """A group of them."""

    command_class = Command
