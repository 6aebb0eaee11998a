"""The commands: a table that names each one's module, loaded only when it is called for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from modelstore.cli.completion.scripts import SCRIPTS, Shell, install

if TYPE_CHECKING:
    from typer._click.core import Command, Context
    from typer._click.formatting import HelpFormatter
    from typer._click.shell_completion import CompletionItem

COMMANDS: dict[str, tuple[str, str]] = {
    "import": ("import_", "Read models from files, directories, stores, servers or stdin."),
    "list": ("list_", "Show the models."),
    "show": ("show", "Show everything about one model."),
    "tag": ("tag", "Add marks of your own to models, or remove them."),
    "forget": ("forget", "Take models out of the catalogue; their files stay."),
    "checkpoint": ("checkpoint", "Fold the WAL into the database, and say what moved."),
    "inspect-wal": ("inspect_wal", "Show what the WAL holds, and what would be lost without it."),
    "verify": ("verify", "Check that the data really persists; for CI."),
}
"""Name of a command -> its module in this package, and its help in one line."""


def load_command(name: str) -> Command:
    """Build one command from the function ``command`` of its module."""
    module = import_module(f"modelstore.cli.{COMMANDS[name][0]}")
    single = typer.Typer(
        add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    single.command(name, no_args_is_help=False)(module.command)
    return typer.main.get_command(single)


class LazyGroup(TyperGroup):
    """The command group; a module of a command that is not called is never imported."""

    def list_commands(self, ctx: Context) -> list[str]:
        """Return the names in the order of their table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Return one command, built now."""
        del ctx
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def shell_complete(self, ctx: Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands without building any, and the options of the program."""
        from typer._click.core import Command
        from typer._click.shell_completion import CompletionItem

        commands = [
            CompletionItem(name, help=text)
            for name, (_, text) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return commands + Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the list of commands without building any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _version(value: bool) -> None:
    if not value:
        return
    from modelstore.cli.output import current
    from modelstore.cli.version import version_text

    current().answer(version_text())
    raise typer.Exit


def _show_completion(shell: Shell | None) -> None:
    if shell is None:
        return
    from modelstore.cli.output import current

    current().answer(SCRIPTS[shell])
    raise typer.Exit


def _install_completion(shell: Shell | None) -> None:
    if shell is None:
        return
    from modelstore.cli.output import current

    current().answer(install(shell))
    raise typer.Exit


app = typer.Typer(
    name="modelstore",
    cls=LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,  # Typer's scripts evaluate what they are told
    invoke_without_command=True,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)


@app.callback()
def root(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001  # read by its callback
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Show the versions of modelstore and of SQLite, and exit.",
            show_default=False,
        ),
    ] = False,
    install_completion: Annotated[  # noqa: ARG001  # read by its callback
        Shell | None,
        typer.Option(
            callback=_install_completion,
            is_eager=True,
            metavar="SHELL",
            help="Let bash, zsh, fish or powershell complete this program, and exit.",
            show_default=False,
        ),
    ] = None,
    show_completion: Annotated[  # noqa: ARG001  # read by its callback
        Shell | None,
        typer.Option(
            callback=_show_completion,
            is_eager=True,
            metavar="SHELL",
            help="Show the script that does it, and exit.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Keep a catalogue of language models in one SQLite file, and never lose a row.

    checkpoint, inspect-wal and verify tell the truth about any SQLite database in WAL mode.
    """
    if ctx.invoked_subcommand is None:
        from modelstore.cli.output import current

        current().answer(ctx.get_help() + "\n")


def command_tree() -> Any:  # noqa: ANN401  # Typer's vendored Click type has no public name
    """Return the whole program as Typer's command object."""
    return typer.main.get_command(app)
