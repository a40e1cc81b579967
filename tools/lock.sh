#!/bin/sh
# Makes both locks again: one file for Python 3.11-3.13 and every platform, with hashes, naming no index.
# The pins in place are kept where they still fit; --upgrade takes the newest that the ranges allow.
set -eu
cd "$(dirname -- "$0")/.."

compile() {
    sh tools/with_env.sh dev -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" "$@"
}

compile requirements.txt -o requirements.lock "$@"
# The constraint makes the development lock a superset: what is tested is what runs.
compile -c requirements.lock requirements-dev.txt -o requirements-dev.lock "$@"
sh tools/with_env.sh dev tools/locks.py
