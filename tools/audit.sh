#!/bin/sh
# Looks both locks up in the public list of known vulnerabilities. pip-audit stays out of our own environment: it
# brings fifteen packages that nothing else needs. Exit 0: looked up, nothing known; 1: something is known;
# 7: could not look. --strict, because without it packages that could not be looked up count as clean.
set -u
cd "$(dirname -- "$0")/.." || exit 1
sh tools/with_env.sh dev || exit 1
report=$(mktemp)
trap 'rm -f "$report"' EXIT
for lock in requirements.lock requirements-dev.lock; do
    echo "audit: $lock"
    sh tools/with_env.sh dev -m uv tool run --quiet pip-audit==2.10.1 --strict --progress-spinner off \
        --disable-pip --require-hashes -r "$lock" >"$report" 2>&1
    status=$?
    tail -n 40 "$report"
    [ $status -eq 0 ] && continue
    grep -q "^Found [0-9]* known vulnerabilit" "$report" && exit 1
    echo "audit: could not look: the package index, or its list of vulnerabilities, is not reached from here" >&2
    exit 7
done
