#!/usr/bin/env bash
# Installs a .deb in clean Debians and works with it there, as a user who has nothing else:
#   dist/try.sh target/dist/rustic-hapi_0.2.0-1_amd64.deb [SUITE…|systemd]
#
# As root; needs mmdebstrap. The systems are made by this machine's mirror, and kept in the cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

deb=$(realpath "$1")
shift
[ $# -gt 0 ] || set -- bullseye bookworm trixie systemd

say() { printf '\n==> %s\n' "$*"; }
fail() { printf 'error: %s\n' "$1" >&2; [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || fail "making a Debian needs root" "sudo dist/try.sh $deb"
command -v mmdebstrap >/dev/null || fail "\`mmdebstrap\` is missing" "apt-get install mmdebstrap"

cache="${XDG_CACHE_HOME:-$HOME/.cache}/rustic-hapi/debian"
mkdir -p "$cache"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if command -v lintian >/dev/null; then
    say "lintian"
    lintian --fail-on error "$deb"
else
    say "lintian is missing: not run"
fi

for suite; do
    if [ "$suite" = systemd ]; then
        say "the timer, under a systemd that is PID 1"
        tests/systemd.sh "$deb"
        continue
    fi
    system="$cache/$suite.tar"
    if [ ! -f "$system" ]; then
        say "a clean $suite, with shells and man"
        mmdebstrap -q --format=tar --variant=minbase --include=man-db,bash-completion,zsh,fish,ca-certificates \
            "$suite" "$system.part" || {
            say "$suite: left out, since this machine's mirror does not have it"
            continue
        }
        mv "$system.part" "$system"
    fi
    say "$suite"
    root="$work/$suite"
    mkdir "$root"
    tar x -C "$root" -f "$system"
    cp "$deb" "$root/tmp/rustic-hapi.deb"
    cp dist/try-inside.sh tests/fixtures/two-hubs-0.1.0.tar.gz "$root/tmp/"
    # In namespaces of its own: what is mounted is mounted for it, and nothing that it starts outlives it.
    unshare --mount --pid --fork --kill-child sh -c '
        mount -t proc proc "$1/proc" && mount -t devpts -o newinstance,ptmxmode=0666 devpts "$1/dev/pts" &&
            mount --bind "$1/dev/pts/ptmx" "$1/dev/ptmx" && exec chroot "$1" bash /tmp/try-inside.sh' sh "$root"
    rm -rf "$root"
done
say "installed and used in $*"
