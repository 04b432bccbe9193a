#!/usr/bin/env bash
# Makes the packages of a clean checkout, and tries the Debian one in fresh Debians: `just dist`, or
# `dist/build.sh TARGET…`. They are in target/dist: a .deb and a .tar.gz of each architecture, and their SHA-256 sums.
# `dist/build.sh quick` packs the release that cargo has built for this machine, and tries it in its own Debian: for CI.
#
# zig is the linker and the C compiler, since it knows the symbols of an older glibc (2.31 is Debian 11's) and of
# another architecture.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

glibc=2.31
[ $# -gt 0 ] || set -- x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu
cargo_deb=3.8.0 cargo_zigbuild=0.24.1 ziglang=0.17.1

say() { printf '\n==> %s\n' "$*"; }
fail() { printf 'error: %s\n' "$1" >&2; [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2; exit 1; }

if [ "$1" = quick ]; then
    not_tried() { say "the package was not tried: $1"; exit 0; }
    [ "$(id -u)" -eq 0 ] || not_tried "making a Debian needs root"
    command -v mmdebstrap >/dev/null || apt-get install -q -y --no-install-recommends mmdebstrap ||
        not_tried "\`mmdebstrap\` is missing"
fi

changed=$(git status --porcelain 2>/dev/null || true)
[ -z "$changed" ] || [ "$1" = quick ] || fail "the checkout has changes, and \`--version\` would name its commit" "commit them: $changed"

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
# Times in packages are the commit's, so that they do not differ from one build to the next.
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH

tools="${XDG_CACHE_HOME:-$HOME/.cache}/rustic-hapi/dist"
export PATH="$tools/python/bin:$tools/bin:$PATH"
if [ "$1" != quick ] && [ ! -x "$tools/python/bin/cargo-zigbuild" ]; then
    say "zig and cargo-zigbuild, from PyPI"
    python3 -m venv "$tools/python"
    "$tools/python/bin/pip" install -q "ziglang==$ziglang" "cargo-zigbuild==$cargo_zigbuild"
fi
command -v cargo-deb >/dev/null || {
    say "cargo-deb"
    cargo install -q --locked --root "$tools" --target-dir "$tools/build" "cargo-deb@$cargo_deb"
}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
out=target/dist
rm -rf "$out"
mkdir -p "$out/completions"

say "licences of what is linked"
python3 dist/copyright.py >"$out/copyright"
printf 'rustic-hapi (%s-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' "$version" \
    "$(sed -n 's/^maintainer = "\(.*\)"/\1/p' rustic-hapi/Cargo.toml)" \
    "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" >"$out/debian-changelog"

# The first program is this machine's; what it prints is the same everywhere.
pages() {
    "$1" man "$out/man"
    "$1" completions bash >"$out/completions/rustic-hapi"
    "$1" completions zsh >"$out/completions/_rustic-hapi"
    "$1" completions fish >"$out/completions/rustic-hapi.fish"
}

if [ "$1" = quick ]; then
    pages "$CARGO_TARGET_DIR/release/rustic-hapi"
    cargo deb -q -p rustic-hapi --no-build --no-strip --output "$out"
    exec dist/try.sh "$out"/*.deb "$(. /etc/os-release && echo "$VERSION_CODENAME")"
fi

for target; do
    if command -v rustup >/dev/null && ! rustup target add "$target" >/dev/null 2>&1; then
        say "$target: left out, since Rust's standard library for it cannot be had (rustup target add $target)"
        continue
    fi
    say "$target"
    cargo zigbuild --release --locked --target "$target.$glibc"
    binary="$CARGO_TARGET_DIR/$target/release/rustic-hapi"
    newest=$(grep -aoE 'GLIBC_[0-9]+\.[0-9]+' "$binary" | sort -uV | tail -1)
    printf 'GLIBC_%s\n' "$glibc" "${newest#GLIBC_}" | sort -VC -r || fail "$target needs $newest"
    [ -d "$out/man" ] || pages "$binary"
    cargo deb -q -p rustic-hapi --no-build --no-strip --target "$target" --output "$out"

    # The archive has what the package has, without its outermost folder.
    case $target in x86_64*) arch=amd64 ;; *) arch=arm64 ;; esac
    name="rustic-hapi-$version-${target%%-*}-linux-glibc$glibc"
    mkdir -p "$out/$name"
    data=$(ar t "$out"/*_"$arch".deb | grep '^data')
    ar p "$out"/*_"$arch".deb "$data" | tar x -J --strip-components 2 -C "$out/$name"
    tar c -C "$out" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" "$name" |
        gzip -9n >"$out/$name.tar.gz"
    rm -r "${out:?}/$name"
done

(cd "$out" && sha256sum -- *.deb *.tar.gz >SHA256SUMS)
say "$out"
(cd "$out" && ls -l -- *.deb *.tar.gz SHA256SUMS)

# Not the other architecture's Debian, which would be emulated as a whole.
arm="$CARGO_TARGET_DIR/aarch64-unknown-linux-gnu/release/rustic-hapi" libraries=/usr/aarch64-linux-gnu
if [ ! -x "$arm" ] || ! command -v qemu-aarch64 >/dev/null || [ ! -d "$libraries" ]; then
    say "aarch64 was not tried: that needs qemu-user, libc6-arm64-cross and libgcc-s1-arm64-cross"
else
    say "aarch64, emulated"
    qemu-aarch64 -L "$libraries" "$arm" --version
    qemu-aarch64 -L "$libraries" "$arm" demo
fi
for deb in "$out"/*_amd64.deb; do dist/try.sh "$deb"; done
