#!/usr/bin/env bash
# Tries tests/drill.sh, the drill with stock tools alone, on what the demo leaves: it must agree with
# the source it was taken from, and must not agree with anything that was tampered with.
set -euo pipefail
cd "$(dirname "$0")/.."

passed=0
failed=0
check() { # what, wanted, got
    if [ "$2" = "$3" ]; then
        passed=$((passed + 1))
        printf 'ok      %s: %s\n' "$1" "$3"
    else
        failed=$((failed + 1))
        printf 'FAILED  %s: wanted %s, got %s\n' "$1" "$2" "$3"
    fi
}
# The exit code of a drill; what it says goes to $scratch/said.
drill() {
    local code=0
    bash tests/drill.sh "$@" >"$scratch/said" 2>&1 || code=$?
    printf %s "$code"
}

# `tests/run.sh` names the program that the tests ran; on its own this builds one.
demo=(cargo run -q -p rustic-hapi --)
[ -z "${RUSTIC_HAPI:-}" ] || demo=("$RUSTIC_HAPI")
report=$("${demo[@]}" demo --keep --json)
place=$(printf '%s' "$report" | python3 -c 'import json, sys; print(json.load(sys.stdin)["kept"])')
trap 'rm -rf "$place"' EXIT
scratch=$place/scratch
mkdir -m 700 "$scratch"
export RESTIC_REPOSITORY=$place/repository RESTIC_PASSWORD_FILE=$place/password TMPDIR=$scratch
hapi=$place/home/.hapi

restic --no-cache check --read-data > "$scratch/check.log" 2>&1 || { cat "$scratch/check.log"; exit 1; }

check "drill with an identity" 0 "$(drill --identity "$place/identity.txt" --max-age 24)"
cat "$scratch/said"
for table in sessions messages; do
    rows=$(sqlite3 "$hapi/hapi.db" "SELECT count(*) FROM $table")
    check "$table as in the source" yes "$(grep -q ", $rows $table" "$scratch/said" && echo yes || echo no)"
    check "there are $table at all" yes "$([ "$rows" -gt 0 ] && echo yes || echo no)"
done
check "nothing is left behind" "" "$(ls -d "$scratch"/hapi-drill-* 2>/dev/null || true)"
check "a series without a snapshot" 1 "$(drill --tag nobody)"
check "another host" 1 "$(drill --host nobody)"
check "a snapshot that is too old" 1 "$(drill --max-age 0)"
check "another identity" 1 "$(age-keygen -o "$scratch/other" 2>/dev/null; drill --identity "$scratch/other")"
check "no repository" 2 "$(RESTIC_REPOSITORY=$place/none drill)"
check "not an option" 2 "$(drill --bogus)"
check "not an id" 2 "$(drill --snapshot xyz)"
check "latest" 0 "$(drill --snapshot latest)"

# The database comes back as it was in the source, byte for byte as sqlite3 sees it.
restic --no-cache dump --tag hapi latest "$hapi/hapi.db" > "$scratch/hapi.db"
check "newest message" "$(sqlite3 "$hapi/hapi.db" 'SELECT max(created_at) FROM messages')" \
    "$(sqlite3 "$scratch/hapi.db" 'SELECT max(created_at) FROM messages')"
restic --no-cache dump --tag hapi latest "$hapi/hub.env.age" |
    age -d -i "$place/identity.txt" -o "$scratch/hub.env"
check "hub.env" "$(sha256sum < "$hapi/hub.env")" "$(sha256sum < "$scratch/hub.env")"

# Three bytes changed in each pack: a drill must notice.
first=$(restic --no-cache snapshots --json --tag hapi | python3 -c 'import json, sys; print(min(json.load(sys.stdin), key=lambda s: s["time"])["id"])')
check "the first snapshot" 0 "$(drill --snapshot "$first")"
for pack in "$place"/repository/data/*/*; do
    size=$(stat -c %s "$pack")
    printf '\377\376\375' | dd of="$pack" bs=1 seek=$((size / 3)) conv=notrunc status=none
done
check "packs tampered with" 1 "$(drill --snapshot "$first")"

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
