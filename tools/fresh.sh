#!/bin/bash
# The newcomer's two commands in a Debian that has only python3, git and make. Needs root and debootstrap; run by
# hand: `make fresh`, or with the suite as well: `make fresh ARGS=--test`.
#
# The bare Debian is made once and kept (QUANTUM_FRESH_CACHE, /var/cache/quantum-fresh). Each run works on a copy, in
# a mount namespace of its own, so that whatever ends this script, the kernel takes the mounts away with it.
# Neither pip nor ensurepip is in there. What this machine sets for pip (PIP_*, its certificates, a proxy) goes along.
set -euo pipefail
cd "$(dirname -- "$0")/.."

suite=debian-bookworm
packages="python3,git,make"
cache=${QUANTUM_FRESH_CACHE:-/var/cache/quantum-fresh}

[ "$(id -u)" = 0 ] || { echo "fresh: needs root (debootstrap and chroot); run: sudo make fresh" >&2; exit 1; }
debootstrap=$(command -v debootstrap || ls /usr/sbin/debootstrap 2>/dev/null || true)
[ -n "$debootstrap" ] || { echo "fresh: no debootstrap; run: apt-get install debootstrap" >&2; exit 1; }
if [ "${QUANTUM_FRESH_NAMESPACE:-}" != yes ]; then
    QUANTUM_FRESH_NAMESPACE=yes exec unshare --mount --propagation private -- bash tools/fresh.sh "$@"
fi

started=$(date +%s)
stage() { echo "fresh: [$(($(date +%s) - started)) s] $*"; }

base=$cache/$suite
if [ ! -e "$base.complete" ]; then
    stage "making a bare Debian with $packages (once)"
    rm -rf "$base"
    mkdir -p "$cache"
    "$debootstrap" --variant=minbase --include="$packages" "${suite#debian-}" "$base" >"$cache/debootstrap.log" 2>&1 ||
        { tail -n 5 "$cache/debootstrap.log" >&2; echo "fresh: debootstrap failed, see $cache/debootstrap.log" >&2; exit 1; }
    touch "$base.complete"
fi

root=$(mktemp -d "${TMPDIR:-/tmp}/quantum-fresh.XXXXXX")

# Every process whose root is the chroot, by the kernel's own word.
inside() {
    local process
    for process in /proc/[0-9]*; do
        [ "$(readlink "$process/root" 2>/dev/null)" = "$root" ] && echo "${process#/proc/}"
    done
    return 0
}

finish() {
    local left
    left=$(inside)
    # shellcheck disable=SC2086  # one pid per word
    [ -z "$left" ] || kill -KILL $left 2>/dev/null || true
    umount "$root/dev/shm" "$root/dev/pts" "$root/proc" 2>/dev/null || true
    # Something still mounted is a reason to leave the copy lying, never to delete through a mount.
    grep -q " $root/" /proc/self/mounts || rm -rf --one-file-system "$root"
}
trap finish EXIT
trap 'exit 130' INT TERM

stage "copying the bare Debian and a clone of $(git rev-parse --short HEAD)"
cp -a "$base/." "$root/"
git clone --quiet --no-hardlinks . "$root/root/quantum"
mount -t proc proc "$root/proc"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -sf pts/ptmx "$root/dev/ptmx"

environment=(HOME=/root LANG=C.UTF-8 TERM=xterm PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
# Only what says how to reach a package index; local folders of wheels do not exist in there.
# And whether what fails in company is asked again alone (docs/decisions/036).
for name in SECOND_LOOK PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_DEFAULT_TIMEOUT PIP_RETRIES PIP_PROXY \
    HTTPS_PROXY HTTP_PROXY NO_PROXY https_proxy http_proxy no_proxy; do
    case ${!name:-} in '' | *file://*) ;; *) environment+=("$name=${!name}") ;; esac
done
for file in /etc/resolv.conf /etc/hosts; do [ -e "$file" ] && cp -L "$file" "$root/etc/"; done
[ ! -e /etc/pip.conf ] || grep -vE '^ *(find-links|extra-index-url *= *file)' /etc/pip.conf >"$root/etc/pip.conf" || true
# A bare Debian knows no certificate authority; a newcomer's has ca-certificates, since git needed it to clone.
certificates=${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}
if [ -e "$certificates" ]; then
    mkdir -p "$root/etc/ssl/certs"
    cp -L "$certificates" "$root/etc/ssl/certs/ca-certificates.crt"
    environment+=(PIP_CERT=/etc/ssl/certs/ca-certificates.crt)
    stage "carried over: this machine's certificates (in place of the package ca-certificates)"
fi
run() { env -i "${environment[@]}" chroot "$root" "$@"; }
stage "in there: $(run python3 --version), $(run git --version), $(run make --version | sed -n 1p);" \
    "ensurepip: $(run python3 -c 'import importlib.util as u; print("yes" if u.find_spec("ensurepip") else "no")')"

nothing_left() {
    local left
    left=$(inside)
    [ -z "$left" ] && { stage "nothing is left running"; return; }
    for process in $left; do tr '\0' ' ' <"/proc/$process/cmdline" >&2; echo >&2; done
    echo "fresh: FAILED: these processes outlived Ctrl-C" >&2
    exit 1
}

for turn in first second; do
    stage "make run, $turn start"
    run python3 /root/quantum/tools/fresh_inside.py "$turn"
    nothing_left
done

if [ "${1:-}" = --test ]; then
    stage "make test"
    run make -C /root/quantum test
    nothing_left
fi
stage "all passed"
