#!/usr/bin/env bash
# What `schedule --install` writes, under a systemd that is PID 1 of a Debian in namespaces: system and user units, the
# sandbox with the hub stopped, lingering, a timer that fires.
#   tests/systemd.sh PROGRAM [SUITE]      (`just systemd`); a .deb is installed there
#
# As root; needs mmdebstrap, and takes about two minutes: a timer waits for its slot.
set -euo pipefail

program=$(realpath "$1")
suite=${2:-bookworm}
fail() { printf 'error: %s\n' "$1" >&2; [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || fail "systemd needs root" "sudo tests/systemd.sh $program"
command -v mmdebstrap >/dev/null || fail "\`mmdebstrap\` is missing" "apt-get install mmdebstrap"

work=$(mktemp -d)
root=$work/root
init=
trap '[ -z "$init" ] || kill -KILL "$init" 2>/dev/null || true; sleep 1; rm -rf --one-file-system "$work"' EXIT

mmdebstrap -q --variant=minbase --include=systemd,systemd-sysv,dbus,dbus-user-session,sqlite3,age,procps,ca-certificates "$suite" "$root"
case $program in
    *.deb) cp "$program" "$root/root/" && chroot "$root" dpkg -i "/root/${program##*/}" >/dev/null ;;
    *) cp "$program" "$root/usr/local/bin/rustic-hapi" ;;
esac

# systemd wants a root that is a mount, and devices with what PrivateDevices= looks for.
cat >"$work/init" <<'INIT'
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for folder in run tmp dev; do mount -t tmpfs tmpfs $folder; done
for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
mkdir -p dev/pts dev/shm dev/mqueue dev/hugepages old
mount -t devpts devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
pivot_root . old
umount -l /old
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=null
INIT
unshare --pid --fork --kill-child --mount --cgroup --ipc --uts bash "$work/init" "$root" </dev/null >/dev/null 2>&1 &
init=$!

cat >"$root/root/story" <<'STORY'
set -eux
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin
until systemctl is-system-running | grep -E 'running|degraded'; do sleep 0.2; done
useradd -m -s /bin/bash op
install -d -o op /srv/backup
user=$(id -u op)
as_op() { su - op -c "export XDG_RUNTIME_DIR=/run/user/$user; $1"; }
# A hub that is stopped: its database was closed cleanly, so that a run makes `-wal` and `-shm`.
as_op 'mkdir .hapi && sqlite3 .hapi/hapi.db "PRAGMA journal_mode=wal; CREATE TABLE sessions(id); CREATE TABLE messages(id, created_at INT); INSERT INTO sessions VALUES(1); INSERT INTO messages VALUES(1, 1795000000000)"'
as_op 'age-keygen -o id.txt; rustic-hapi init --extends hapi-stock --repository /srv/backup/hapi --allow-same-disk --recipient $(age-keygen -y id.txt)'
profile=/home/op/.config/rustic-hapi/hapi.toml
sed -i "s/^\[secrets\]/[schedule]\nat = [\"$(date -d '+1 minute' +%H:%M)\"]\n\n[secrets]/" $profile

rustic-hapi --home /home/op schedule --system --install
systemctl start rustic-hapi-hapi.service
systemctl show -p Result rustic-hapi-hapi.service | grep success
as_op 'rustic-hapi status' | grep 'a timer of the system'
as_op 'rustic-hapi snapshots --latest 1' | grep complete
# The timer fires: the delay of some minutes is systemd's, and can be told to it.
mkdir -p /etc/systemd/system/rustic-hapi-hapi.timer.d
printf '[Timer]\nRandomizedDelaySec=0\n' >/etc/systemd/system/rustic-hapi-hapi.timer.d/now.conf
systemctl daemon-reload
systemctl restart rustic-hapi-hapi.timer
runs() { wc -l </home/op/.local/state/rustic-hapi/hapi/runs.jsonl; }
before=$(runs)
for second in $(seq 150); do [ "$(runs)" -gt "$before" ] && break; sleep 1; done
[ "$(runs)" -gt "$before" ]
rustic-hapi --home /home/op schedule --system --remove
! systemctl list-timers --all --no-pager | grep rustic-hapi

# A user's: without lingering it ends with the session, and that is said.
loginctl enable-linger op
until [ -S /run/user/$user/bus ]; do sleep 0.2; done
as_op 'rustic-hapi schedule --install'
as_op 'systemctl --user start rustic-hapi-hapi && systemctl --user show -p Result rustic-hapi-hapi' | grep success
as_op 'rustic-hapi status' | grep "a timer of the user"

# A hub that a unit of any name starts: with its drop-in, and what both name, it is found by what runs.
printf '#!/bin/sh\nexec 9<"$HOME/.hapi/hapi.db"\nexec sleep infinity\n' >/usr/local/bin/work
chmod 755 /usr/local/bin/work
as_op 'mkdir -p .config/systemd/user/work@.service.d .config/work
printf "[Service]\nExecStart=/usr/local/bin/work\nEnvironmentFile=%%h/old.env\n" >.config/systemd/user/work@.service
printf "[Service]\nEnvironmentFile=\nEnvironmentFile=-%%E/%%p/%%i-*.env\n" >.config/systemd/user/work@.service.d/keys.conf
echo KEY=1 >.config/work/one-a.env; echo KEY=2 >old.env; echo KEY=3 >.config/work/two-a.env
systemctl --user daemon-reload; systemctl --user start work@one'
# And one of the system, whose keys are root's alone.
install -d /etc/hapi
printf '[Service]\nUser=op\nExecStart=/usr/bin/hapi hub\nEnvironmentFile=/etc/hapi/%%N.env\n' >/etc/systemd/system/hapi-hub.service
(umask 077; echo KEY=4 >/etc/hapi/hapi-hub.env)
as_op 'systemctl --user show -p MainPID work@one'
as_op 'rustic-hapi doctor' | grep -A1 'service' | grep 'work@.service'
as_op 'rustic-hapi --profile second init --repository /srv/backup/second --allow-same-disk --recipient $(age-keygen -y id.txt)' >/root/said 2>&1
grep 'may not read `/etc/hapi/hapi-hub.env` (the environment of unit hapi-hub.service)' /root/said
second=${profile%hapi.toml}second.toml
for path in .config/systemd/user/work@.service .config/systemd/user/work@.service.d/keys.conf .config/work/one-a.env; do grep "path = \"/home/op/$path\"" $second; done
grep 'path = "/etc/systemd/system/hapi-hub.service"' $second
! grep -E 'old.env|two-a' $second
# A run as root has them all.
rustic-hapi --home /home/op doctor --json | grep -o '/etc/hapi/hapi-hub.env' | head -1 | grep hapi
as_op 'systemctl --user stop work@one'

loginctl disable-linger op
as_op 'rustic-hapi schedule --install' 2>&1 | grep 'enable-linger op'
STORY
# The shell of `unshare` has one child, which is PID 1 there.
until inside=$(pgrep -P "$init" | head -1) && [ -n "$inside" ]; do sleep 0.1; done
sleep 2
nsenter -t "$inside" --pid --mount --cgroup --ipc --uts bash /root/story
printf 'systemd %s: all as it should be\n' "$suite"
