"""The program: a table of its commands, and its own options.

A command is a module of this package with a function ``command``, and one line in `COMMANDS`. The
module is imported when the command is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from modelstore.cli.completion.scripts import SCRIPTS, Shell, install

if TYPE_CHECKING:
    from modelstore.cli.vendored_click import Command, CompletionItem, Context, HelpFormatter

COMMANDS: dict[str, tuple[str, str]] = {
    "import": ("import_", "Read models from files, directories, stores, servers or stdin."),
    "list": ("list_", "Show the models."),
    "show": ("show", "Show everything about one model."),
    "tag": ("tag", "Add your own tags to models, or remove them."),
    "forget": ("forget", "Take models out of the catalogue; their files stay."),
    "checkpoint": ("checkpoint", "Fold the WAL into the database, and say what moved."),
    "inspect-wal": ("inspect_wal", "Show what the WAL holds, and what would be lost without it."),
    "recover": ("recover", "Bring the rows of any database back, into a new file."),
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
    """The group of commands. It imports the module of a command only when that is called."""

    def list_commands(self, ctx: Context) -> list[str]:
        """Return the names in the order of their table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Build and return one command."""
        del ctx
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def shell_complete(self, ctx: Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands without building any, and the options of the program."""
        from modelstore.cli.vendored_click import Command, CompletionItem

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


app = typer.Typer(
    name="modelstore",
    cls=LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,  # Typer's own scripts evaluate the words that they receive
    invoke_without_command=True,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)


def _answer(text: str) -> None:
    """Write `text` to stdout and end the program."""
    from modelstore.cli.output import current

    current().answer(text)
    raise typer.Exit


def _version(value: bool) -> None:
    if value:
        _answer(version_text())


def _show_completion(shell: Shell | None) -> None:
    if shell is not None:
        _answer(SCRIPTS[shell])


def _install_completion(shell: Shell | None) -> None:
    if shell is not None:
        _answer(install(shell))


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
            help="Install completion for bash, zsh, fish or powershell, and exit.",
            show_default=False,
        ),
    ] = None,
    show_completion: Annotated[  # noqa: ARG001  # read by its callback
        Shell | None,
        typer.Option(
            callback=_show_completion,
            is_eager=True,
            metavar="SHELL",
            help="Show the completion script of a shell, and exit.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Keep a catalogue of language models in one SQLite file, and never lose a row.

    checkpoint, inspect-wal and verify tell the truth about any SQLite database in WAL mode.
    """
    if ctx.invoked_subcommand is None:
        _answer(ctx.get_help() + "\n")


def version_text() -> str:
    """Return the versions, one a line, with a warning if SQLite has the WAL-reset bug."""
    import platform

    from modelstore import __version__
    from modelstore.database.sqlite import HAS_WAL_RESET_BUG, IS_BUNDLED, SQLITE_VERSION

    origin = "bundled with pysqlite3" if IS_BUNDLED else "Python's own"
    lines = [
        f"modelstore {__version__}",
        f"SQLite {SQLITE_VERSION} ({origin}), Python {platform.python_version()}",
    ]
    if HAS_WAL_RESET_BUG:
        lines.append(
            "warning: this SQLite has the WAL-reset bug (sqlite.org/wal.html#walresetbug); "
            "modelstore works around it, other programs on it may lose rows"
        )
    return "\n".join(lines) + "\n"


def command_tree() -> Any:  # noqa: ANN401  # Typer's command object has no public name
    """Return the whole program as Typer's command object."""
    return typer.main.get_command(app)
