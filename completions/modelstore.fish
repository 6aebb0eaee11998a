# fish completion for modelstore
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
