#!/usr/bin/env bash
# The contracts: lint, format, and no breaking change against the last landed state.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/tools.sh buf
PATH="$PWD/.tools/bin:$PATH"

(cd proto && buf lint && buf format --diff --exit-code)

# proto/landed.binpb holds the contracts as they last landed; `scripts/proto.sh land` takes over the present ones.
if [ "${1:-}" = land ]; then
    (cd proto && buf build --exclude-source-info -o landed.binpb)
    echo "proto: proto/landed.binpb is what later changes are held against"
elif [ -f proto/landed.binpb ]; then
    (cd proto && buf breaking --against landed.binpb)
    echo "proto: clean, and nothing breaks against the last landed state"
else
    echo "proto: proto/landed.binpb is missing; run: scripts/proto.sh land" >&2
    exit 1
fi
