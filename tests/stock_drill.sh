#!/usr/bin/env bash
# A restore drill with stock tools alone: restic dumps the database and the secrets of the newest
# snapshot, sqlite3 counts the sessions, age opens the secrets, and all of it is compared with the
# source. rustic-hapi only makes the snapshots.
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

report=$(cargo run -q -p rustic-hapi -- demo --keep --json)
place=$(printf '%s' "$report" | python3 -c 'import json, sys; print(json.load(sys.stdin)["kept"])')
trap 'rm -rf "$place"' EXIT
scratch=$place/scratch
mkdir -m 700 "$scratch"
export RESTIC_REPOSITORY=$place/repository RESTIC_PASSWORD_FILE=$place/password
hapi=$place/home/.hapi

restic --no-cache check --read-data > "$scratch/check.log" 2>&1 || { cat "$scratch/check.log"; exit 1; }
restic --no-cache dump --tag hapi latest "$hapi/hapi.db" > "$scratch/hapi.db"
restic --no-cache dump --tag hapi latest "$hapi/hub.env.age" > "$scratch/hub.env.age"
age -d -i "$place/identity.txt" -o "$scratch/hub.env" "$scratch/hub.env.age"

check "integrity of the restored database" ok "$(sqlite3 "$scratch/hapi.db" 'PRAGMA integrity_check')"
for table in sessions messages; do
    check "$table" "$(sqlite3 "$hapi/hapi.db" "SELECT count(*) FROM $table")" \
        "$(sqlite3 "$scratch/hapi.db" "SELECT count(*) FROM $table")"
done
check "newest message" "$(sqlite3 "$hapi/hapi.db" 'SELECT max(created_at) FROM messages')" \
    "$(sqlite3 "$scratch/hapi.db" 'SELECT max(created_at) FROM messages')"
check "hub.env" "$(sha256sum < "$hapi/hub.env")" "$(sha256sum < "$scratch/hub.env")"
check "sessions are there at all" yes \
    "$([ "$(sqlite3 "$scratch/hapi.db" 'SELECT count(*) FROM sessions')" -gt 0 ] && echo yes || echo no)"

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
