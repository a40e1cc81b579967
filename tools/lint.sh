#!/bin/sh
# Every check that reads the source without running it. All of them run, so that one call shows all that is wrong.
set -u
here=$(dirname -- "$0")
cd "$here/.." || exit 1
sh tools/with_env.sh dev || exit 1
failed=""

check() {
    name=$1
    shift
    echo "lint: $name"
    sh tools/with_env.sh dev "$@" || failed="$failed $name"
}

check ruff -m ruff check .
check format -m ruff format --check .
check mypy -m mypy
check imports -c 'from importlinter.cli import lint_imports_command; lint_imports_command(["--no-logo"])'
check locks tools/locks.py
check secrets tools/secret_scan.py

if [ -n "$failed" ]; then
    echo "lint: FAILED:$failed" >&2
    exit 1
fi
echo "lint: all passed"
