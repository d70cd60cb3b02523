#!/usr/bin/env bash
# Checks that a binary can live in an image from scratch: static, and it runs where there is nothing else.
# deploy/image/check.sh path/to/sammati
set -euo pipefail
binary=${1:?say which binary}

die() {
    echo "image: $*" >&2
    exit 1
}

[ -x "$binary" ] || die "there is no program $binary"
# The ELF header's word for it, without binutils: a dynamic program names its interpreter in a PT_INTERP segment.
python3 - "$binary" <<'PYTHON' || die "$binary is not static"
import struct, sys

elf = open(sys.argv[1], "rb").read()
if elf[:6] != b"\x7fELF\x02\x01":
    sys.exit("not a 64-bit little-endian ELF file")
table, = struct.unpack_from("<Q", elf, 32)
size, count = struct.unpack_from("<HH", elf, 54)
kinds = [struct.unpack_from("<I", elf, table + i * size)[0] for i in range(count)]
PT_INTERP = 3
if PT_INTERP in kinds:
    sys.exit("it asks for a dynamic loader")
PYTHON
# An empty root needs privileges; where they lack, the header has to do.
if [ "$(id -u)" = 0 ]; then
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    cp "$binary" "$root/sammati"
    for argument in --version --help; do
        chroot "$root" "/sammati" "$argument" >"$root/said" || die "$binary $argument does not run in an empty root"
        [ -s "$root/said" ] || die "$binary $argument says nothing"
    done
fi
echo "image: $binary is static"
