#!/usr/bin/env bash
# A restore drill with restic, sqlite3 and age alone: rustic-hapi itself is not needed. For a storage
# host, or anyone's CI:
#
#   RESTIC_REPOSITORY=… RESTIC_PASSWORD_FILE=… bash drill.sh [--tag hapi] [--host NAME]
#       [--snapshot ID] [--identity FILE] [--max-age HOURS]
#
# The newest snapshot that is whole (no tag partial, damaged, shrunk or only), or the one named, is looked
# into: each database is restored to a scratch folder, compared with the manifest by SHA-256, opened
# with sqlite3, and its rows counted; each secret is compared, and opened where an identity is given.
# Exit 0 proven, 1 something is different, 2 it could not be run.
set -euo pipefail

tag=hapi host='' snapshot='' identity='' max_age=''
stop() { # exit code, reason
    printf 'drill: %s\n' "$2" >&2
    exit "$1"
}
while [ $# -gt 0 ]; do
    case "$1" in
        --tag | --host | --snapshot | --identity | --max-age)
            [ $# -ge 2 ] || stop 2 "$1 needs a value"
            name=${1#--}
            printf -v "${name//-/_}" %s "$2"
            shift 2
            ;;
        -h | --help)
            sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0"
            exit 0
            ;;
        *) stop 2 "\`$1\` is not an option" ;;
    esac
done
for program in restic sqlite3 sha256sum ${identity:+age}; do
    command -v "$program" >/dev/null || stop 2 "\`$program\` is not installed"
done
[ -n "${RESTIC_REPOSITORY:-}" ] || stop 2 "RESTIC_REPOSITORY is not set"
case "$snapshot" in
    latest) snapshot='' ;;
    *[!0-9a-f]*) stop 2 "\`$snapshot\` is not the beginning of a snapshot's id" ;;
esac
[[ "$max_age" =~ ^[0-9]*$ ]] || stop 2 "--max-age takes hours"
[ "$(sqlite3 :memory: "SELECT '{\"a\":1}'->>'a'" 2>/dev/null)" = 1 ] ||
    stop 2 "\`sqlite3\` is too old: 3.38 or later reads JSON"
[ -z "$identity" ] || [ -r "$identity" ] || stop 2 "the identity \`$identity\` cannot be read"

umask 077
scratch=$(mktemp -d "${TMPDIR:-/tmp}/hapi-drill-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
started=$(date +%s)

restic() { command restic --no-cache --quiet "$@"; }
# One value of a query; JSON is read by sqlite3, whose readfile() takes a name.
ask() { (cd "$scratch" && sqlite3 -batch -noheader -separator $'\t' :memory: "$1"); }

restic snapshots --json --tag "$tag" ${host:+--host "$host"} >"$scratch/snapshots.json" ||
    stop 2 "the snapshots of \`$RESTIC_REPOSITORY\` cannot be listed"
# restic prints `null` where there is none.
IFS=$'\t' read -r id time home < <(ask "
    SELECT s.value->>'id', s.value->>'time', s.value->>'\$.paths[0]'
    FROM json_each(coalesce(nullif(trim(readfile('snapshots.json'), char(10)), 'null'), '[]')) AS s
    WHERE CASE '$snapshot' WHEN '' THEN NOT EXISTS (
              SELECT 1 FROM json_each(s.value, '\$.tags') AS t
              WHERE t.value IN ('partial', 'damaged', 'shrunk', 'only'))
          ELSE s.value->>'id' LIKE '$snapshot%' END
    ORDER BY julianday(s.value->>'time') DESC LIMIT 1") || true
[ -n "${id:-}" ] || stop 1 "no whole snapshot with the tag \`$tag\`${host:+ of the host \`$host\`}${snapshot:+ named \`$snapshot\`} is there"
printf 'snapshot %s of %s\n' "${id:0:8}" "$time"
if [ -n "$max_age" ]; then
    hours=$(ask "SELECT CAST((julianday('now') - julianday('$time')) * 24 AS INTEGER)")
    [ "$hours" -lt "$max_age" ] || stop 1 "the snapshot is $hours hours old"
fi

restic dump "$id" "$home/.hapi-manifest.json" >"$scratch/manifest.json" ||
    stop 1 "the manifest cannot be restored"
ask "SELECT json_valid(readfile('manifest.json'))" | grep -qx 1 || stop 1 "the manifest is not JSON"
# What is to be looked at: kind, path, size, SHA-256 and the place in the manifest, a line each.
ask "
    SELECT s.value->>'kind', e.value->>'path', e.value->>'size', e.value->>'sha256', s.key, e.key
    FROM json_each(readfile('manifest.json'), '\$.sources') AS s,
         json_each(s.value, '\$.entries') AS e
    WHERE s.value->>'kind' IN ('sqlite', 'secret') AND e.value->>'type' = 'file'" >"$scratch/entries"
grep -q '^sqlite' "$scratch/entries" || stop 1 "the snapshot holds no database"

while IFS=$'\t' read -r kind path size sha256 source entry; do
    restic dump "$id" "$path" >"$scratch/file" || stop 1 "\`$path\` cannot be restored"
    [ "$(wc -c <"$scratch/file")" = "$size" ] || stop 1 "\`$path\` has $(wc -c <"$scratch/file") bytes, the manifest says $size"
    [ "$(sha256sum <"$scratch/file" | cut -d' ' -f1)" = "$sha256" ] || stop 1 "the SHA-256 of \`$path\` is not the manifest's"
    if [ "$kind" = secret ]; then
        if [ -n "$identity" ]; then
            age -d -i "$identity" "$scratch/file" >/dev/null || stop 1 "\`$path\` cannot be decrypted"
            printf 'ok  %s: %s bytes, opens\n' "$path" "$size"
        else
            printf 'ok  %s: %s bytes, not opened (--identity FILE)\n' "$path" "$size"
        fi
        continue
    fi
    verdict=$(sqlite3 -batch -readonly "$scratch/file" 'PRAGMA integrity_check' 2>&1) || true
    [ "$verdict" = ok ] || stop 1 "\`$path\` is damaged: ${verdict%%$'\n'*}"
    counts=''
    ask "
        SELECT key, value FROM json_each(readfile('manifest.json'),
            '\$.sources[$source].entries[$entry].database.rows')" >"$scratch/rows" ||
        stop 1 "the manifest's counts of \`$path\` cannot be read"
    while IFS=$'\t' read -r table rows; do
        [ -n "$rows" ] || continue # the table was not there
        found=$(sqlite3 -batch -readonly "$scratch/file" "SELECT count(*) FROM \"${table//\"/\"\"}\"" 2>&1) || true
        [ "$found" = "$rows" ] || stop 1 "\`$path\`: $table has $found rows, the manifest says $rows"
        counts+=", $rows $table"
    done <"$scratch/rows"
    printf 'ok  %s: %s bytes, integrity ok%s\n' "$path" "$size" "$counts"
done <"$scratch/entries"
printf 'proven in %s s\n' "$(($(date +%s) - started))"
