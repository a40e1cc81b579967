#!/bin/sh
# Prints the Python that everything runs on: $PYTHON if given, else the newest of 3.13, 3.12, 3.11 that really runs.
# Each candidate is started, not only looked up: version managers leave commands behind that exist and fail.
# With --oldest the search goes the other way round.
set -eu

works() {
    "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    works "$PYTHON" && { echo "$PYTHON"; exit 0; }
    echo "set-up: PYTHON=$PYTHON does not run, or is older than Python 3.11; name one that is 3.11 or newer" >&2
    exit 1
fi

# A version manager's own folder is looked at too: its commands often work only inside chosen projects.
managed() {
    for home in "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions"/"$1".*; do
        [ -x "$home/bin/python" ] && echo "$home/bin/python"
    done
    return 0
}

versions="3.13 3.12 3.11"
[ "${1:-}" = "--oldest" ] && versions="3.11 3.12 3.13"
for version in $versions; do
    for candidate in "python$version" "/usr/bin/python$version" $(managed "$version"); do
        works "$candidate" && { echo "$candidate"; exit 0; }
    done
done
works python3 && { echo python3; exit 0; }
echo "set-up: no Python 3.11 or newer found; install one (Debian, Ubuntu: apt-get install python3)" \
    "or name it: make PYTHON=/path/to/python3" >&2
exit 1
