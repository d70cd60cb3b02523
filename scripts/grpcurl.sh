#!/usr/bin/env bash
# The services as an operator meets them, with real processes and grpcurl 1.8.6: list, describe, health, a refusal that can
# be read, and by hand the README's ten minutes and the documents that go on from there. The story is not written down here
# a second time: its commands are taken out of these files and run as they stand, with other ports and another folder. Needs
# `cargo build --workspace --bins`.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=${CARGO_TARGET_DIR:-$PWD/target}/debug
scripts/tools.sh grpcurl
PATH="$PWD/.tools/bin:$bin:$PATH"
work=$(mktemp -d)
dev=$work/dev
tour=

die() {
    echo "grpcurl.sh: $*" >&2
    exit 1
}

ok() { echo "grpcurl.sh: $*"; }

exec 3>&2 # where a failure is told, whatever is redirected then

finish() {
    local status=$?
    if [ $status -ne 0 ] && [ -e "$work/story.log" ]; then
        sed 's/^/    /' "$work/story.log" >&3
        echo "grpcurl.sh: stopped with status $status" >&3
    fi
    # The tour leads a group of its own: the services end with it.
    if [ -n "$tour" ]; then
        kill -TERM -- "-$tour" 2>/dev/null || true
        wait "$tour" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT

start() {
    for program in tour sammati sammati-verify; do
        [ -x "$bin/$program" ] || die "$bin/$program is not built; run: cargo build --workspace --bins"
    done
    setsid "$bin/tour" --keep --folder "$dev" >"$work/tour.log" 2>&1 &
    tour=$!
    for _ in $(seq 600); do
        grep -q '^Look around' "$work/tour.log" && return
        kill -0 "$tour" 2>/dev/null || break
        sleep 0.2
    done
    cat "$work/tour.log" >&2
    die "the services did not come up"
}

port() { # of a service, as the tour tells it
    sed -n "s/^ *$1 *127\.0\.0\.1:\([0-9]*\)$/\1/p" "$work/tour.log"
}

admin() { # admin port of a service, as its configuration says it
    sed -n 's/^admin_listen = "\(.*\)"$/\1/p' "$dev/$1.toml"
}

rpc() { # service, more…: anybody's call
    grpcurl -cacert "$dev/ca.pem" "${@:2}"
}

# The services that a server must serve, from the contracts.
contracts() {
    local packages=$1
    [ "$1" != sandbox ] || packages="provider sandbox"
    for package in $packages; do
        sed -n "s/^service \([A-Za-z]*\) {/sammati.$package.v1.\1/p" proto/sammati/"$package"/v1/*.proto
    done | sort
}

describe() { # service
    local at name listed
    at=127.0.0.1:$(port "$1")
    listed=$(rpc "$1" "$at" list | grep '^sammati\.' | sort)
    [ "$listed" = "$(contracts "$1")" ] || die "$1 lists: $listed"
    for name in $listed; do
        rpc "$1" "$at" describe "$name" >"$work/described"
        grep -q "^$name is a service:" "$work/described" || die "$name is not described"
        # The comments are what an operator learns from.
        grep -q '// *Callers: ' "$work/described" || die "$name is described without its comments"
        for method in $(rpc "$1" "$at" list "$name"); do
            rpc "$1" "$at" describe "$method" | grep -q '// *Callers: ' || die "$method does not say who may call it"
        done
    done
    ok "$1 lists and describes $(wc -w <<<"$listed") services"
}

health() { # service
    cat >"$work/health.proto" <<'PROTO'
syntax = "proto3";
package grpc.health.v1;
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse { enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; } ServingStatus status = 1; }
service Health { rpc Check(HealthCheckRequest) returns (HealthCheckResponse); }
PROTO
    grpcurl -plaintext -import-path "$work" -proto health.proto "$(admin "$1")" grpc.health.v1.Health/Check |
        grep -q '"status": "SERVING"' || die "$1 is not healthy"
    ok "$1 is SERVING on its admin port"
}

refusal() {
    local said
    said=$(rpc consent "127.0.0.1:$(port consent)" sammati.consent.v1.ConsentService/ListConsents 2>&1) &&
        die "a call without a credential was answered: $said"
    grep -q 'Code: Unauthenticated' <<<"$said" || die "another refusal: $said"
    grep -q TOKEN_MISSING <<<"$said" || die "the refusal does not tell its reason: $said"
    ok "a refusal tells its reason"
}

# The commands of the README's ten minutes and of the documents that go on from there, for these ports and this folder; a
# line that ends in "# OUTCOME_…" or another such word must print just that.
story() {
    chapter 40 'Ten minutes with grpcurl' README.md
    chapter 50 '' docs/ABDM.md
    chapter 30 '' docs/DECISIONS.md
    chapter 18 'By hand' docs/RESEARCH.md
    chapter 15 'By hand' docs/REPRESENTATION.md
    chapter 20 'By hand' docs/BREAK_GLASS.md
    chapter 12 'By hand' docs/STEP_UP.md
    chapter 12 'By hand' docs/NOTICES.md
    # The last but one: it is about what remains of her.
    chapter 20 'By hand' docs/ERASURE.md
    # The last: the log ends in it.
    chapter 15 'By hand' docs/ARCHIVE.md
}

# Whatever consent can be asked has its example in the story.
complete() {
    local method
    for method in $(sed -n 's/^  rpc \([A-Za-z]*\)(.*/\1/p' proto/sammati/consent/v1/*.proto); do
        grep -qw "$method" "$work/story.sh" || die "no document has an example of $method"
    done
    ok "every method of consent has an example in the documents"
}

chapter() { # how many commands at least, heading (none: all), document
    local text commands
    text=$(blocks "$2" "$3")
    commands=$(grep -c '^[^ ]' <<<"$text") || true
    [ "$commands" -ge "$1" ] || die "$3 has only $commands commands${2:+ under \"$2\"}, not $1"
    echo "$text"
}

blocks() { # heading (none: all), document
    awk -v heading="$1" '/^## /{inside = heading == "" || $0 == "## " heading} inside && /^```sh/{block = 1; next} /^```/{block = 0} inside && block' "$2" |
        sed -e "s|/tmp/|$work/|g" -e "s|^D=var/dev|D=$dev|" -e "s|target/release/||g" \
            -e "s/\b7101\b/$(port identity)/g" -e "s/\b7102\b/$(port consent)/g" \
            -e "s/\b7103\b/$(port audit)/g" -e "s/\b7104\b/$(port sandbox)/g" \
            -e 's/^\(.*[^ ]\)  *# \([A-Z][A-Z]*_[A-Z_ ]*\)$/expect "\2" \1/' \
            -e 's/^\(.*[^ ]\)  *# => \(.*\)$/expect "\2" \1/'
}

expect() { # what, command…
    local said
    said=$("${@:2}")
    [ "$said" = "$1" ] || die "${*:2}: $said, not $1"
    ok "${*:2}: $said"
}

by_hand() {
    story >"$work/story.sh"
    complete
    # The checks of the steps that only set a variable; CONSENT and VKEY are checked by their use.
    cat >>"$work/story.sh" <<'CHECKS'
[ "$(jq -r .account.state <<<"$ENROLLED")" = STATE_ACTIVE ] || die "she is not enrolled: $ENROLLED"
[ "$(jq -r .state <<<"$REQUEST")" = STATE_REQUESTED ] || die "the clinic has not asked: $REQUEST"
[[ "$CONSENT" == consents/* && "$EVENT" != null ]] || die "no consent or no event: $CONSENT, $EVENT"
CHECKS
    # As in a terminal: a stream ends when its reader has seen enough.
    set +o pipefail
    # shellcheck source=/dev/null
    source "$work/story.sh" >"$work/story.log" 2>&1
    set -o pipefail
    grep '^grpcurl.sh: ' "$work/story.log" || die "no outcome was checked"
    ok "the README's story and the documents that go on from it work by hand"
}

# One byte of the proof that the story saved.
bent() {
    sed 's/^index .*/index 0/' "$work/event.tlog-proof" >"$work/event.bent"
    if sammati-verify inclusion --vkey "$VKEY" --leaf "$work/event.leaf" "$work/event.bent" >/dev/null 2>&1; then
        die "the verifier takes a changed proof"
    fi
    ok "the verifier refuses a changed proof"
}

# The list that the story saved, without one event.
hole() {
    jq 'del(.events[1])' "$work/all.json" >"$work/hole.json"
    sammati-verify subject --vkey "$VKEY" "$work/all.json" >/dev/null || die "the verifier refuses her whole list"
    if sammati-verify subject --vkey "$VKEY" "$work/hole.json" >/dev/null 2>&1; then
        die "the verifier takes a list with a hole"
    fi
    ok "the verifier refuses a list that is not complete"
}

start
for service in identity consent audit sandbox; do
    describe "$service"
    health "$service"
done
refusal
by_hand
bent
hole
