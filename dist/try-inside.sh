#!/usr/bin/env bash
# What dist/try.sh does inside a clean Debian, as root there: install, use as somebody, remove.
set -euo pipefail
export LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive

step() { printf '  %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
# Prints what a command says only where it fails.
quietly() { "$@" >/tmp/said 2>&1 || { cat /tmp/said >&2; fail "$* ($?)"; }; }

step install
# What it depends on is there; what it recommends is not, and is not needed for any of this.
quietly dpkg -i /tmp/rustic-hapi.deb
useradd -m somebody
as() { su somebody -s /bin/bash -c "cd && set -e; $1"; }

step version
version=$(as 'rustic-hapi --version')
case $version in *"commit: "[0-9a-f]*"engine: rustic_core "*"SQLite: 3."*) ;; *) fail "$version" ;; esac

step demo
as 'rustic-hapi demo --keep' >/tmp/demo 2>&1 || fail "$(cat /tmp/demo)"
kept=$(sed -n 's/^kept: //p' /tmp/demo)
# Its hub, stopped, is from now on somebody's own.
mv "$kept/home/.hapi" ~somebody/.hapi

step init
as 'rustic-hapi init -q --repository ~/repository --allow-same-disk --extends hapi-stock \
    --recipient "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN" \
    --recovery-key ~/recovery-key' >/tmp/said 2>&1 || fail "$(cat /tmp/said)"
step snapshot
quietly as 'rustic-hapi snapshot'
step drill
quietly as 'rustic-hapi drill'
quietly as 'rustic-hapi status'

step documentation
# Licences and changes are where Debian has them: copyright, changelog.gz.
(cd /usr/share/doc/rustic-hapi && grep -roE --include='*.md' '\]\([^)#: ]+[)#]' . | sed 's/:](/ /; s/.$//') | while read -r page link; do
    case $link in *CHANGELOG.md | *LICENSE-*) continue ;; esac
    [ -e "/usr/share/doc/rustic-hapi/$(dirname "$page")/$link" ] || fail "$page names $link, which is not in the package"
done

step man
for page in rustic-hapi rustic-hapi-snapshot rustic-hapi.toml; do
    quietly as "man $page | grep -q 'SEE ALSO'"
done
# groff's own opinion of each page.
for page in /usr/share/man/man[15]/rustic-hapi*; do
    said=$(man --warnings -l "$page" 2>&1 >/dev/null)
    [ -z "$said" ] || fail "$page: $said"
done

step completion
bash=$(as '. /usr/share/bash-completion/bash_completion; _completion_loader rustic-hapi || [ $? = 124 ]
    complete -p rustic-hapi >/dev/null; COMP_WORDS=(rustic-hapi sn) COMP_CWORD=1
    _rustic__hapi rustic-hapi sn rustic-hapi; echo "${COMPREPLY[@]}"
    COMP_WORDS=(rustic-hapi status --profile "") COMP_CWORD=3
    _rustic__hapi rustic-hapi "" --profile; echo "${COMPREPLY[@]}"')
case $bash in *snapshot*snapshots*hapi*) ;; *) fail "bash: $bash" ;; esac
fish=$(as 'fish -c "complete -C\"rustic-hapi sn\"; complete -C\"rustic-hapi status --profile h\""')
case $fish in *snapshot*hapi*) ;; *) fail "fish: $fish" ;; esac
# zsh completes in its line editor only, so it gets a terminal.
cat >/tmp/terminal.zsh <<'ZSH'
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'autoload -U compinit; compinit -u -D; echo rea""dy'
zpty -r -m shell said '*ready*'
zpty -w -n shell $'rustic-hapi sn\t\t'
for tenth in {1..200}; do
    zpty -r -t shell part && said+=$part || sleep 0.1
    [[ $said == *'snapshots  -- '* ]] && break
done
print -r -- "$said"
ZSH
zsh=$(as 'TERM=dumb timeout 60 zsh -f /tmp/terminal.zsh' </dev/null)
case $zsh in *'snapshots  -- '*) ;; *) fail "zsh: $zsh" ;; esac

step "what 0.1.0 left"
# A profile, its state and its repository, as tests/fixtures made them; there is no package of 0.1.0.
tar x -C /tmp -f /tmp/two-hubs-0.1.0.tar.gz
old=/tmp/rustic-hapi-0.1.0-fixture state=home/.local/state/rustic-hapi/a
chown -R somebody "$old"
cp "$old/a.toml" "$old/$state/runs.jsonl" /tmp/
old() { as "cd $old && HOME=\$PWD/home rustic-hapi --profile \$PWD/a.toml $1"; }
(cd "$old/repository" && find config keys snapshots data -type f | sort) >/tmp/files
quietly old 'snapshot'
quietly old 'drill'
quietly old 'status'
# That months are missing, check says, and nothing else.
old 'check' >/tmp/said 2>&1 && fail "check finds no gap"
[ "$(grep -c '^error' /tmp/said)" = 1 ] && grep -q '^error: .* distinct days only' /tmp/said ||
    fail "$(cat /tmp/said)"
# The series goes on after its older snapshots, and so do the records; nothing is gone (but what prune joins: the index).
old 'snapshots' >/tmp/said
grep -E '  hapi +complete' /tmp/said >/tmp/series || true
grep -q '^3f0795f5 ' /tmp/series && grep -q '^b739f314 ' /tmp/series && [ "$(wc -l </tmp/series)" = 3 ] ||
    fail "$(cat /tmp/said)"
(cd "$old/repository" && find config keys snapshots data -type f | sort) | comm -23 /tmp/files - >/tmp/gone
[ ! -s /tmp/gone ] || fail "$(cat /tmp/gone)"
cmp "$old/a.toml" /tmp/a.toml
head -n "$(wc -l </tmp/runs.jsonl)" "$old/$state/runs.jsonl" | cmp - /tmp/runs.jsonl

step "remove and purge"
quietly dpkg -r rustic-hapi
quietly dpkg -P rustic-hapi
[ ! -e /usr/bin/rustic-hapi ] || fail "the program is still there"
# What is somebody's stays somebody's.
for path in .config/rustic-hapi/hapi.toml repository/config .local/state/rustic-hapi; do
    [ -e ~somebody/"$path" ] || fail "\`$path\` is gone"
done
