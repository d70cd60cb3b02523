#!/usr/bin/env bash
# All tests: the workspace's, then the story told by the real processes, then the same processes broken again and again. Postgres is one throwaway server for the whole
# run; SAMMATI_TEST_POSTGRES points at another one.
set -euo pipefail
cd "$(dirname "$0")/.."

# Everything temporary is in one place, short enough for the path of a Unix socket, and goes with the run.
TMPDIR=$(mktemp -d /tmp/sammati.XXXXXX)
export TMPDIR
chmod 755 "$TMPDIR"
trap 'rm -rf "$TMPDIR"' EXIT

cargo build --workspace --bins --locked
cargo test --workspace --locked
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
