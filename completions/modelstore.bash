# bash completion for modelstore
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
