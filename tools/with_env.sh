#!/bin/sh
# with_env.sh runtime|dev [ARGUMENTS...]: makes sure of the environment, then becomes its Python with ARGUMENTS.
# It execs, so that Ctrl-C and SIGTERM reach the program itself and its exit status is the one that make sees.
set -eu
here=$(dirname -- "$0")
kind=$1
shift
PYTHON=$(sh "$here/find_python.sh")
venv=$("$PYTHON" "$here/environment.py" "$kind")
[ $# -eq 0 ] && exit 0
PATH="$venv/bin:$PATH" exec "$venv/bin/python" "$@"
