#!/usr/bin/env bash
# Installs what the test suite needs on a Debian machine and is not there: a C compiler, Postgres and a pooler, strace, a clock
# that is wrong, a file system to break, Python's venv, npm, Go with its log.
# Does nothing where all of it is present; needs root where something is missing.
set -euo pipefail

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || missing+=(postgresql postgresql-client)
ls /usr/sbin/pgbouncer /usr/bin/pgbouncer 2>/dev/null | grep -q . || missing+=(pgbouncer)
[ -x /sbin/mkfs.ext4 ] || command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
command -v psql >/dev/null || missing+=(postgresql-client)
command -v setpriv >/dev/null || missing+=(util-linux)
command -v strace >/dev/null || missing+=(strace)
command -v faketime >/dev/null || missing+=(faketime)
command -v mount >/dev/null || missing+=(mount)
command -v make >/dev/null || missing+=(make)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
command -v npm >/dev/null || missing+=(npm)
command -v jq >/dev/null || missing+=(jq)
command -v unzip >/dev/null || missing+=(unzip)
command -v go >/dev/null || missing+=(golang-go)
[ -d /usr/share/gocode/src/golang.org/x/mod/sumdb ] || missing+=(golang-golang-x-mod-dev)
[ ${#missing[@]} -eq 0 ] && exit 0

echo "machine: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
