# The tasks of this project; `just` lists them.

_list:
    @just --list --unsorted

# All that CI runs
check:
    .ci/run

# Every test; as root it installs the programs they need on Debian
test:
    bash tests/run.sh

# The fault suite for so many rounds of each kind: kills, full disks, I/O errors, several at once; damage by the hundred
faults rounds='200':
    RUSTIC_HAPI_FAULTS_ROUNDS={{ rounds }} cargo test --workspace --all-features --test faults -- --nocapture --test-threads 1

# What others may have written, under cargo-fuzz for so many seconds a target; needs cargo-fuzz
fuzz seconds='60':
    #!/usr/bin/env bash
    set -euo pipefail
    cd fuzz
    for target in profile location manifest description; do
        # Without a sanitizer a stable compiler will do, and there is no unsafe code to look at.
        cargo fuzz run --fuzz-dir . -s none "$target" -- -max_total_time={{ seconds }}
    done

# Side by side with `sqlite3 .backup` and restic: just bench --shape plain --rounds 3
bench *options:
    cargo bench -p rustic-hapi --bench bench -- {{ options }}

# With what a profiler wants to know, in target/profiling
profiling:
    cargo build --profile profiling

# What `schedule --install` writes, under a systemd in namespaces; as root, needs mmdebstrap
systemd:
    cargo build --workspace --all-features
    tests/systemd.sh target/debug/rustic-hapi

# A throwaway hub, snapshots while it writes, and a restore
demo *options:
    cargo run --release -- demo {{ options }}

fmt:
    cargo fmt --all --check

clippy:
    cargo clippy --workspace --all-targets --all-features -- -D warnings

doc:
    RUSTDOCFLAGS='-D warnings' cargo doc --workspace --all-features --no-deps

# Licences, advisories and origins of the dependencies
deny:
    .ci/deny

# Both crates as they would be published; not that anybody publishes them
package:
    cargo package --workspace --config 'patch.crates-io.hapi-sources.path="hapi-sources"'

# Debian packages and archives of a clean checkout in target/dist, tried in fresh Debians; as root, needs mmdebstrap
dist:
    dist/build.sh
