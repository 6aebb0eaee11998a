"""The program: a table of its commands, and its own options.

A command is a module of this package with a function ``command``, and one line in `COMMANDS`. The
module is imported when the command is called.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

from modelstore.cli.completion.scripts import SCRIPTS, Shell, install, running_shell
from modelstore.later import load

_PUT_OFF: dict[str, tuple[str, ...]] = {
    "difflib": ("get_close_matches",),
    "gettext": ("gettext",),
    "pathlib": ("Path",),
    "platform": (),
    "shutil": ("get_terminal_size",),
    "subprocess": (),
    "tokenize": (),
    "traceback": ("FrameSummary", "StackSummary"),
    "typer.completion": ("get_completion_inspect_parameters",),
    "uuid": ("UUID",),
}
"""The modules that Typer asks for and a command seldom uses, and what it takes from them."""

load("typer.core", _PUT_OFF)

import typer  # noqa: E402  # now that it is loaded
from typer.core import TyperCommand, TyperGroup, TyperOption  # noqa: E402  # as above

if TYPE_CHECKING:
    from modelstore.cli.help_text import Together
    from modelstore.cli.vendored_click import Command, CompletionItem, Context
    from modelstore.errors import UsageError

COMMANDS: dict[str, tuple[str, str]] = {
    "import": ("import_", "Read models from files, directories, stores, servers or stdin."),
    "list": ("list_", "Show the models."),
    "show": ("show", "Show everything about models."),
    "tag": ("tag", "Add your own tags to models, or remove them."),
    "forget": ("forget", "Take models out of the catalogue; their files stay."),
    "checkpoint": ("checkpoint", "Fold the WAL into the database, and say what moved."),
    "inspect-wal": ("inspect_wal", "Show what the WAL holds, and what would be lost without it."),
    "recover": ("recover", "Bring the rows of any database back, into a new file."),
    "verify": ("verify", "Check that the data really persists; for CI."),
    "help": ("help_", "Show the help of a command, or a topic of the manual."),
}
"""Name of a command -> its module in this package, and its help in one line."""


COMMON = "Every command"
"""The heading of the options that every command has."""

SECTIONS: dict[str, tuple[str, ...]] = {
    "The catalogue of models": ("import", "list", "show", "tag", "forget"),
    "Any SQLite database": ("checkpoint", "inspect-wal", "recover", "verify"),
    "The manual": ("help",),
}
"""The commands below the headings of the help."""

OTHER_NAMES: dict[str, str] = {
    **dict.fromkeys(("ls", "dir", "search", "find", "models"), "list"),
    **dict.fromkeys(("rm", "remove", "delete", "del", "prune"), "forget"),
    **dict.fromkeys(("info", "get", "cat", "describe", "view"), "show"),
    **dict.fromkeys(("add", "scan", "pull", "load", "sync"), "import"),
    **dict.fromkeys(("inspect", "wal", "watch", "status", "blockers"), "inspect-wal"),
    **dict.fromkeys(("fold", "truncate", "vacuum", "flush"), "checkpoint"),
    **dict.fromkeys(("check", "test", "fsck", "integrity"), "verify"),
    **dict.fromkeys(("restore", "rescue", "repair", "undelete"), "recover"),
    **dict.fromkeys(("man", "manual", "topics", "docs"), "help"),
}
"""Names that people try, and the commands that they mean."""

EXAMPLES = (
    "modelstore import --discover              every model on this machine",
    "modelstore list qwen 'size<20GB'          find one",
    "modelstore inspect-wal app.db             what only the log holds; who blocks it",
    "modelstore recover app.db --into new.db   the rows back",
    "modelstore verify app.db --strict         for CI",
)


class HelpOption:
    """The `--help` of a command in our own form, mixed into Typer's classes."""

    def get_help_option(self, ctx: Context) -> Any:  # noqa: ANN401  # Typer's own
        """Return Typer's option with our text behind it."""
        found = super().get_help_option(ctx)  # type: ignore[misc]  # of Typer's class
        if found is not None:
            found.callback = _show_help
            found.help = "Show this help."
        return found


def _show_help(ctx: Context, _param: object, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from modelstore.cli.output import current

        current().page()
        current().answer(help_of(ctx))
        ctx.exit()


def help_of(ctx: Context) -> str:
    """Return the help of the command of a context, or of the program."""
    from modelstore.cli.help_text import command_help, program_help

    if isinstance(ctx.command, LazyGroup):
        sections = {
            title: [(name, COMMANDS[name][1]) for name in names]
            for title, names in SECTIONS.items()
        }
        return program_help(ctx, sections, EXAMPLES)
    together = ctx.command.together if isinstance(ctx.command, LazyCommand) else {}
    return command_help(ctx, ctx.command, common=COMMON, together={**together, **_TOGETHER})


_TOGETHER: Together = {
    ("--help", "--color", "--no-pager"): "This help. Also: --color WHEN, --no-pager."
}


class LazyCommand(HelpOption, TyperCommand):
    """A command with our help."""

    together: Together = MappingProxyType({})


def load_command(name: str) -> Command:
    """Build one command from the function ``command`` of its module."""
    module = import_module(f"modelstore.cli.{COMMANDS[name][0]}")
    single = typer.Typer(
        add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    single.command(
        name,
        cls=LazyCommand,
        no_args_is_help=False,
        epilog="\n".join(getattr(module, "EXAMPLES", ())),
    )(module.command)
    built = typer.main.get_command(single)
    built.params += [_color_option(), _pager_option()]
    if isinstance(built, LazyCommand):
        built.together = getattr(module, "TOGETHER", {})
    return built


def _color_option() -> TyperOption:
    return TyperOption(
        param_decls=["--color"],
        metavar="WHEN",
        callback=_choose_color,
        expose_value=False,
        is_eager=True,
        help="auto, always or never.",
        autocompletion=_complete_color,
        rich_help_panel=COMMON,
    )


def _pager_option() -> TyperOption:
    return TyperOption(
        param_decls=["--no-pager"],
        is_flag=True,
        default=False,
        callback=_choose_pager,
        expose_value=False,
        is_eager=True,
        help="Write a long answer straight to the terminal.",
        rich_help_panel=COMMON,
    )


_WHEN = ("auto", "always", "never")


def _complete_color(
    _ctx: Context, _args: list[str], incomplete: str
) -> list[tuple[str, str] | str]:
    return [word for word in _WHEN if word.startswith(incomplete)]


def _choose_color(_ctx: Context, _param: object, value: str | None) -> None:
    from modelstore.cli.output import current
    from modelstore.errors import UsageError

    if value is None:
        return
    if value not in _WHEN:
        raise UsageError(f"--color takes {', '.join(_WHEN[:-1])} or {_WHEN[-1]}")
    current().color_mode = value


def _choose_pager(_ctx: Context, _param: object, value: bool) -> None:
    from modelstore.cli.output import current

    if value:
        current().may_page = False


class LazyGroup(HelpOption, TyperGroup):
    """The group of commands. It imports the module of a command only when that is called."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Read the program's options; a completion option without a value means the caller."""
        if args and args[-1] in ("--install-completion", "--show-completion"):
            args = [*args, running_shell().value]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Context) -> list[str]:
        """Return the names in the order of their table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Build and return one command."""
        del ctx
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: Context, args: list[str]
    ) -> tuple[str | None, Command | None, list[str]]:
        """Return the command that is called. Raises `UsageError` that names the nearest ones."""
        is_typed = bool(args) and not args[0].startswith("-") and not ctx.resilient_parsing
        if is_typed and args[0] not in COMMANDS:
            raise unknown_command(args[0])
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands without building any, and the options of the program."""
        from modelstore.cli.vendored_click import Command, CompletionItem

        commands = [
            CompletionItem(name, help=text)
            for name, (_, text) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return commands + Command.shell_complete(self, ctx, incomplete)


def unknown_command(name: str) -> UsageError:
    """Return the error for an unknown command, with the most likely ones."""
    from difflib import get_close_matches

    from modelstore.errors import UsageError
    from modelstore.text import visible

    meant = OTHER_NAMES.get(name.lower())
    near = [meant] if meant else get_close_matches(name.lower(), COMMANDS, n=2, cutoff=0.5)
    hint = (
        f"did you mean {' or '.join(f'modelstore {one}' for one in near)}?"
        if near
        else "see modelstore help"
    )
    return UsageError(f"there is no command '{visible(name, 60)}'", hint=hint)


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
            "-V",
            callback=_version,
            is_eager=True,
            help="Show the versions of modelstore and SQLite.",
            show_default=False,
        ),
    ] = False,
    install_completion: Annotated[  # noqa: ARG001  # read by its callback
        Shell | None,
        typer.Option(
            callback=_install_completion,
            is_eager=True,
            metavar="[SHELL]",
            help="Install completion for this shell, or another.",
            show_default=False,
        ),
    ] = None,
    show_completion: Annotated[  # noqa: ARG001  # read by its callback
        Shell | None,
        typer.Option(
            callback=_show_completion,
            is_eager=True,
            metavar="[SHELL]",
            help="Show the completion script of a shell.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Keep a catalogue of language models in one SQLite file, and never lose a row.

    Any SQLite database in WAL mode: say what is only in the log, who blocks it, whether the data
    persists; and bring lost rows back.
    """
    if ctx.invoked_subcommand is None:
        from modelstore.cli.output import current

        current().page()
        _answer(help_of(ctx))


def version_text() -> str:
    """Return the versions, one a line, with a warning if SQLite has the WAL-reset bug."""
    import sys

    from modelstore import __version__
    from modelstore.database.sqlite import HAS_WAL_RESET_BUG, SQLITE_ORIGIN, SQLITE_VERSION

    lines = [
        f"modelstore {__version__}",
        f"SQLite {SQLITE_VERSION} ({SQLITE_ORIGIN}), Python {sys.version.split()[0]}",
    ]
    if HAS_WAL_RESET_BUG:
        lines.append(
            "warning: this SQLite has the WAL-reset bug (sqlite.org/wal.html#walresetbug); "
            "modelstore works around it, other programs on it may lose rows"
        )
    return "\n".join(lines) + "\n"


def command_tree() -> Any:  # noqa: ANN401  # Typer's command object has no public name
    """Return the whole program as Typer's command object."""
    built = typer.main.get_command(app)
    built.params += [_color_option(), _pager_option()]
    return built
