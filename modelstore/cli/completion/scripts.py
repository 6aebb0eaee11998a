"""The completion scripts of the shells, and their installation.

Each script asks the program for words (`modelstore.cli.completion.shell`) and takes each line of
the answer as one word. It never evaluates them, because other people choose the names of files
and models. If the program fails, the shell completes file names itself.
"""

from __future__ import annotations

import os
from enum import StrEnum

from modelstore.errors import RefusedError, UsageError
from modelstore.text import visible

COMPLETION_VARIABLE = "_MODELSTORE_COMPLETE"
"""The environment variable in which a shell that wants words gives its name."""


class Shell(StrEnum):
    """The shells that have a completion script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


_BASH = r"""# bash completion for modelstore
_modelstore() {
    local line kind=
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ -z $kind ]]; then
            kind=$line
        else
            COMPREPLY+=("$line")
        fi
    done < <(
        _MODELSTORE_COMPLETE=bash _MODELSTORE_LINE="${COMP_LINE:0:COMP_POINT}" \
            _MODELSTORE_BREAKS="$COMP_WORDBREAKS" \
            "${1/#\~\//$HOME/}" 2>/dev/null </dev/null
    )
    if [[ $kind == none ]]; then
        compopt +o default 2>/dev/null
    elif [[ $kind == files ]] && ! compopt -o filenames 2>/dev/null; then
        # bash 3 cannot switch its quoting on: quote here
        local number
        for number in "${!COMPREPLY[@]}"; do
            COMPREPLY[number]=$(printf '%q' "${COMPREPLY[number]}")
        done
    fi
}
complete -o default -F _modelstore modelstore
"""

_ZSH = r"""#compdef modelstore
_modelstore() {
    local -a found
    local program=${(Q)words[1]} kind
    program=${program/#\~\//$HOME/}
    found=("${(@f)$(
        _MODELSTORE_COMPLETE=zsh \
            _MODELSTORE_LINE="${(j: :)words[1,CURRENT-1]} $QIPREFIX$PREFIX" \
            $program 2>/dev/null </dev/null
    )}")
    kind=$found[1]
    shift found
    if [[ $kind == none ]]; then
        return 1
    elif (( ! $#found )); then
        _files
    elif [[ $kind == files ]]; then
        compadd -f -S '' -- ${(M)found:#*/}
        compadd -f -- ${found:#*/}
    else
        _describe modelstore found
    fi
}
if [[ $funcstack[1] == _modelstore ]]; then
    _modelstore "$@"
else
    compdef _modelstore modelstore
fi
"""

_FISH = r"""# fish completion for modelstore
function __modelstore_complete
    set -l program (string replace -r '^~/' "$HOME/" -- (commandline -po)[1])
    set -lx _MODELSTORE_COMPLETE fish
    set -lx _MODELSTORE_LINE (commandline -cp | string collect)
    set -l found ($program 2>/dev/null </dev/null)
    if test "$found" = none
        return
    else if test (count $found) -gt 0
        printf '%s\n' $found
    else
        complete -C "'' "(commandline -ct)
    end
end
complete --command modelstore --no-files --arguments '(__modelstore_complete)'
"""

_POWERSHELL = r"""# PowerShell completion for modelstore
Register-ArgumentCompleter -Native -CommandName modelstore -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements |
        Where-Object { $_.Extent.StartOffset -lt $cursorPosition } |
        ForEach-Object { $_.Extent.Text })
    if (-not $wordToComplete) { $words += '' }
    try {
        $Env:_MODELSTORE_COMPLETE = 'powershell'
        $Env:_MODELSTORE_LINE = $words -join "`n"
        & $commandAst.GetCommandName() 2>$null | Where-Object { $_ -ne 'none' } | ForEach-Object {
            $text, $name, $help = $_ -split "`t", 3
            [System.Management.Automation.CompletionResult]::new(
                $text, $name, 'ParameterValue', $help)
        }
    } finally {
        Remove-Item Env:_MODELSTORE_COMPLETE, Env:_MODELSTORE_LINE
    }
}
"""

SCRIPTS: dict[Shell, str] = {
    Shell.BASH: _BASH,
    Shell.ZSH: _ZSH,
    Shell.FISH: _FISH,
    Shell.POWERSHELL: _POWERSHELL,
}


def running_shell() -> Shell:
    """Return the shell that called the program, else the person's own, which SHELL names.

    Raises `UsageError` if neither has a completion script.
    """
    import shellingham

    try:
        name = shellingham.detect_shell()[0]
    except shellingham.ShellDetectionFailure:
        name = os.path.basename(os.environ.get("SHELL", ""))
    name = {"pwsh": "powershell"}.get(name, name)
    if name not in list(Shell):
        raise UsageError(
            f"no completion for the shell '{visible(name, 40)}'"
            if name
            else "which shell is this?",
            hint=f"name one: {', '.join(Shell)}",
        )
    return Shell(name)


def install(shell: Shell) -> str:
    """Write the script of `shell` below the home directory; return a message for the person.

    A start-up file gets one line at its end, once; its other lines stay as they are. Raises
    `RefusedError` if a file cannot be written.
    """
    home = os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
    path, rc, line = {
        Shell.BASH: (
            os.path.join(data, "modelstore", "completion.bash"),
            os.path.join(home, ".bashrc"),
            "source '{}'",
        ),
        Shell.ZSH: (
            os.path.join(home, ".zfunc", "_modelstore"),
            os.path.join(os.environ.get("ZDOTDIR") or home, ".zshrc"),
            "fpath+=~/.zfunc; autoload -Uz compinit; compinit",
        ),
        Shell.FISH: (os.path.join(config, "fish", "completions", "modelstore.fish"), None, ""),
        Shell.POWERSHELL: (os.path.join(data, "modelstore", "completion.ps1"), None, ". '{}'"),
    }[shell]
    line = line.format(path.replace("'", "'\\''"))
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(SCRIPTS[shell])
        if rc is not None:
            _append(rc, line)
    except OSError as error:
        raise RefusedError(
            f"{visible(error.filename or path, 200)} cannot be written: {error.strerror}",
            hint=f"put what --show-completion {shell} prints where {shell} reads it",
        ) from error
    if shell is Shell.POWERSHELL:  # its profile has no fixed place, and may be signed
        return f"written: {path}\nadd this line to the file that $PROFILE names: {line}\n"
    return f"written: {path}\n" + (f"loaded by: {rc}\n" if rc else "") + "start a new shell\n"


def _append(path: str, line: str) -> None:
    """Append `line` to a file that does not have it yet."""
    wanted = line.encode()
    with open(path, "a+b") as file:
        file.seek(0)
        before = file.read()
        if wanted not in before.splitlines():
            file.write((b"\n" if before and not before.endswith(b"\n") else b"") + wanted + b"\n")
