#!/bin/sh
# Find a Python >= 3.12, build .venv with it and install the pinned versions there.
# PYTHON=/path/to/python chooses the interpreter; remove .venv to build it anew.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }

# runs COMMAND OLDEST NEWEST MODULES: the command really runs (a pyenv shim may not), is Python
# 3.OLDEST to 3.NEWEST and has the modules (Debian ships a python3 without ensurepip).
runs() {
    "$1" -c "import sys, $4
sys.exit(not (3, $2) <= sys.version_info[:2] <= (3, $3))" </dev/null >/dev/null 2>&1
}

# pyenv's versions are not always under HOME, and `pyenv root` believes HOME: look also where the
# command and its shims lie.
pyenv_roots() {
    pyenv root 2>/dev/null || true
    printf '%s\n' "${PYENV_ROOT:-}"
    command_path=$(command -v pyenv) && dirname "$(dirname "$(readlink -f "$command_path")")"
    printf '%s\n' "$PATH" | tr ':' '\n' | sed -n 's|/shims/*$||p'
    printf '%s\n' "${HOME:-}/.pyenv"
}

# Commands on the PATH, then pyenv's versions, newest first; one per line.
candidates() {
    printf '%s\n' python3.14 python3.13 python3.12 python3
    pyenv_roots | while read -r root; do
        ls -d "$root"/versions/3.*[0-9]/bin/python 2>/dev/null || true
    done | sort -rVu
}

# 3.12 and 3.13 are tested: anything newer comes after them.
installed_python() {
    for newest in 13 99; do
        for python in $(candidates); do
            if runs "$python" 12 "$newest" "ensurepip, venv"; then
                echo "$python"
                return
            fi
        done
    done
    return 1
}

# uv downloads a Python; uv itself may come from an older one.
downloaded_python() {
    say "no Python >= 3.12 found, trying to download one with uv"
    if ! uv=$(command -v uv); then
        python3 -m venv "$scratch" &&
            "$scratch/bin/python" -m pip install --quiet --timeout 20 --retries 1 uv || return 1
        uv=$scratch/bin/uv
    fi >&2
    "$uv" python install 3.13 >&2 || return 1
    UV_PYTHON_PREFERENCE=only-managed "$uv" python find 3.13
}

give_up() {
    say "no usable Python >= 3.12 found or downloaded. Install one, then run make again:"
    say "  Debian, Ubuntu:  apt install python3.13 python3.13-venv   (or python3.12)"
    say "  Fedora:          dnf install python3.13"
    say "  macOS:           brew install python@3.13"
    say "  anywhere:        pyenv install 3.13   or   uv python install 3.13"
    say "One that is already here but not found: make ... PYTHON=/path/to/python3.13"
    for name in python3.14 python3.13 python3.12 python3; do
        if runs "$name" 12 99 sys; then say "$name is new enough, but lacks venv or ensurepip"; fi
    done
    exit 2
}

find_python() {
    if [ -z "${PYTHON:-}" ]; then
        installed_python || downloaded_python || give_up
    elif runs "$PYTHON" 12 99 "ensurepip, venv"; then
        echo "$PYTHON"
    else
        say "PYTHON=$PYTHON does not run, is older than 3.12 or lacks venv: name another, or none"
        exit 2
    fi
}

if ! runs .venv/bin/python 12 99 pip; then
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    python=$(find_python)
    say "making .venv with $("$python" --version) ($python)"
    "$python" -m venv --clear .venv
fi
say "installing (a few minutes the first time)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --editable ".[plots,cases,dev]"
