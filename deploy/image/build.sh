#!/usr/bin/env bash
# Builds the image: a static release binary, then FROM scratch around it. Called by `make image`.
#   deploy/image/build.sh           binary and image
#   deploy/image/build.sh binary    the binary alone, checked to be static
# IMAGE names the result (default sammati:<version of the workspace>); BUILDER is buildah or docker (default: whichever
# is there).
set -euo pipefail
cd "$(dirname "$0")/../.."

TARGET=x86_64-unknown-linux-gnu
version=$(sed -n '/^\[workspace\.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
IMAGE=${IMAGE:-sammati:$version}

die() {
    echo "image: $*" >&2
    exit 1
}

[ "$(uname -sm)" = "Linux x86_64" ] || die "this builds for Linux on x86_64, on Linux on x86_64; this is $(uname -sm)"
# The same sources and toolchain give the same bytes wherever they lie: paths are cut off, times come from the commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
# crt-static: the C library is in the binary. getrandom by its system call: an image from scratch has no /dev that the
# fallback could read.
flags=(
    -C target-feature=+crt-static
    --cfg 'getrandom_backend="linux_getrandom"'
    --remap-path-prefix "$PWD=/sammati"
    --remap-path-prefix "${CARGO_HOME:-$HOME/.cargo}=/cargo"
)
# Encoded, so that a path may hold spaces.
CARGO_ENCODED_RUSTFLAGS=$(printf '%s\x1f' "${flags[@]}")
export CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS%$'\x1f'}
cargo build --release --locked --target "$TARGET" -p sammati --bin sammati
binary=${CARGO_TARGET_DIR:-target}/$TARGET/release/sammati

deploy/image/check.sh "$binary"
[ "${1:-image}" = binary ] && exit 0

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
install -m 755 "$binary" "$context/sammati"
touch -d "@$SOURCE_DATE_EPOCH" "$context/sammati"

builder=${BUILDER:-}
if [ -z "$builder" ]; then
    if command -v buildah >/dev/null; then
        builder=buildah
    elif command -v docker >/dev/null; then
        builder=docker
    else
        die "the binary $binary is built, but there is neither buildah nor docker to make an image of it;" \
            "on Debian: apt-get install buildah"
    fi
fi
labels=(
    --label "org.opencontainers.image.title=sammati"
    --label "org.opencontainers.image.version=$version"
    --label "org.opencontainers.image.revision=$(git describe --always --abbrev=40 --exclude "*" --dirty 2>/dev/null || echo unknown)"
    --label "org.opencontainers.image.licenses=Apache-2.0"
)
case $builder in
buildah)
    # vfs and chroot: works in a container and without a daemon; there is one layer and nothing to run.
    buildah --storage-driver "${STORAGE_DRIVER:-vfs}" build --isolation chroot --timestamp "$SOURCE_DATE_EPOCH" \
        "${labels[@]}" --file deploy/image/Containerfile --tag "$IMAGE" "$context"
    ;;
docker)
    DOCKER_BUILDKIT=1 docker build --network none --build-arg "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH" "${labels[@]}" \
        --file deploy/image/Containerfile --tag "$IMAGE" "$context"
    ;;
*) die "BUILDER=$builder is neither buildah nor docker" ;;
esac
echo "image: $IMAGE, $(stat -c %s "$binary") bytes of binary"
