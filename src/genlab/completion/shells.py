"""The scripts that teach bash, zsh and fish to ask genlab for completions: ``eval "$(genlab -sc install=bash)"``."""

BASH = r"""_genlab_complete()
{
    local program=${COMP_WORDS[0]/#\~/$HOME} current=${COMP_WORDS[COMP_CWORD]} found
    COMPREPLY=()
    while IFS= read -r found; do
        COMPREPLY+=("$found")
    done < <(COMP_LINE=$COMP_LINE COMP_POINT=$COMP_POINT COMP_CURRENT=$current "$program" -sc query=bash 2>/dev/null)
}
complete -o nospace -o default -F _genlab_complete {name}
"""

ZSH = r"""_genlab_complete()
{
    local found line="${(j: :)words[1,CURRENT-1]} $PREFIX"
    local -a whole begun
    for found in "${(@f)$(COMP_LINE=$line COMP_POINT= ${(Q)words[1]} -sc query=zsh 2>/dev/null)}"; do
        case $found in
            "") ;;
            *" ") whole+=("${found% }") ;;
            *) begun+=("$found") ;;
        esac
    done
    if (( ${#whole} + ${#begun} )); then
        (( ${#whole} )) && compadd -Q -- "${whole[@]}"
        (( ${#begun} )) && compadd -Q -S '' -- "${begun[@]}"
    else
        [[ $PREFIX == *=* ]] && compset -P '*='
        _files
    fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -u; }
compdef _genlab_complete {name}
"""

FISH = r"""function __genlab_complete
    set -l line (commandline -cp)
    set -l program (commandline -opc)[1]
    set -l found (env COMP_LINE="$line" COMP_POINT= $program -sc query=fish 2>/dev/null | string trim --right)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c {name} -f -a '(__genlab_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
REMOVED = {
    "bash": "complete -r {name}; unset -f _genlab_complete\n",
    "zsh": "compdef -d {name}; unfunction _genlab_complete\n",
    "fish": "complete -c {name} -e; functions -e __genlab_complete\n",
}


def escaped(word: str, shell: str) -> str:
    """Write a word as the shell reads it, with backslashes; the space at its end, if it is whole, stays.

    Args:
        word: candidate, as it is meant.
        shell: ``bash``, ``zsh`` or ``fish``, which escapes candidates itself.
    """
    if shell == "fish":
        return word
    text = word.removesuffix(" ")
    return "".join(f"\\{c}" if c in " \t\"'\\$&;()<>|*?`!{}" else c for c in text) + word[len(text) :]


def replacing(word: str, typed: str, current: str) -> str | None:
    """Give the part of a candidate that bash puts in the place of a word's last part; None if it does not fit.

    bash splits a word at ``=`` and ``:``, unless ``COMP_WORDBREAKS`` says otherwise, and replaces what follows.

    Args:
        word: candidate, as the shell reads it.
        typed: what was typed of the word.
        current: what bash takes for the word at the cursor.
    """
    kept = typed.removesuffix("" if current in ("=", ":") else current)
    return word.removeprefix(kept) if word.startswith(kept) else None
