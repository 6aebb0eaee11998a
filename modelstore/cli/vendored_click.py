"""The parts of Click that Typer carries under a private name. No other module imports them."""

from __future__ import annotations

from typer import Abort
from typer._click.core import Command, Context
from typer._click.exceptions import ClickException, NoSuchOption
from typer._click.formatting import HelpFormatter
from typer._click.shell_completion import CompletionItem, ShellComplete, split_arg_string

__all__ = [
    "Abort",
    "ClickException",
    "Command",
    "CompletionItem",
    "Context",
    "HelpFormatter",
    "NoSuchOption",
    "ShellComplete",
    "split_arg_string",
]
