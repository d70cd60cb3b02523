//! What is weak in the open consent manager that there is, one by one, and the test that holds it against this one.

use std::path::Path;

/// What is wrong there; the file and the test here.
const TABLE: [(&str, &str, &[&str]); 15] = [
    (
        "approve looks, then acts: two approvals make two sets, and a denied request is granted",
        "services/consent/tests/consent/races.rs",
        &[
            "c1_of_64_racing_decisions_exactly_one_wins",
            "c1_at_the_end_of_the_window_nobody_wins_but_the_clock",
        ],
    ),
    (
        "create selects, then inserts: one request id makes two requests",
        "tests/tests/conformance/mutations.rs",
        &["every_mutation_keeps_its_promises"],
    ),
    (
        "artefacts are signed over a serialised object with SHA-1, the HIP's row with the HIU's signature, without a key id",
        "services/consent/tests/consent/artefacts.rs",
        &["both_copies_verify_offline_and_differ_as_they_must"],
    ),
    (
        "notifications leave after the commit, and one failed delivery is final",
        "services/consent/tests/consent/notifications.rs",
        &["a_stream_tells_a_backlog_of_all_partitions_without_gap_and_in_order"],
    ),
    (
        "the HIP's acknowledgement is forgotten after five minutes",
        "services/consent/tests/consent/live.rs",
        &["a_hip_that_has_acknowledged_has_for_as_long_as_the_consent_lives"],
    ),
    (
        "the lock of the PIN opens for good after the first, and parallel guesses all pass",
        "services/identity/src/tests/guesses.rs",
        &[
            "a_password_is_set_used_and_locked_after_five_wrong_ones",
            "of_a_hundred_wrong_guesses_at_our_otp_five_are_compared",
        ],
    ),
    (
        "a one-time token works twice in a race",
        "services/identity/src/tests/sessions.rs",
        &["of_many_refreshes_with_one_token_one_wins"],
    ),
    (
        "the check against replays is dropped where it matters",
        "tests/tests/conformance/coverage.rs",
        &["a_request_id_is_a_recent_uuid_v7"],
    ),
    (
        "any token reads another's consents, and any HIU opens a transfer to any address",
        "services/consent/tests/consent/deciding.rs",
        &["a_refused_transfer_names_the_rule_and_leaves_its_event"],
    ),
    (
        "a bulk revoke is not atomic, tells each HIU of all consents, and can leave one that cannot be revoked",
        "services/consent/tests/consent/live.rs",
        &["a_bulk_revoke_is_whole_and_each_party_hears_of_its_own_alone"],
    ),
    (
        "a token lives sixty times too long, and log-in tells who exists",
        "services/identity/src/tests/guesses.rs",
        &[
            "an_otp_ends_after_five_minutes_whatever_the_agency_says",
            "unknown_mobiles_and_addresses_look_like_known_ones",
        ],
    ),
    (
        "keys are read once, issuer and audience never, and a log-out is forgotten",
        "crates/server/tests/server/callers.rs",
        &["a_remembered_token_still_expires_and_still_ends"],
    ),
    (
        "a grant may be wider than its request, and no frequency is enforced",
        "services/consent/tests/consent/races.rs",
        &["c2_of_racing_authorizes_each_window_permits_exactly_its_uses"],
    ),
    (
        "OTPs come from a plain random, lie in the clear and are not consumed",
        "tests/tests/conformance/secrets.rs",
        &["nothing_secret_is_kept_or_told_in_clear"],
    ),
    (
        "there is no audit",
        "tests/tests/invariants/races.rs",
        &["c1_o1_of_racing_transitions_exactly_one_wins_and_each_is_one_event_and_one_leaf"],
    ),
];

#[test]
fn each_known_weakness_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (weakness, file, tests) in TABLE {
        let code = std::fs::read_to_string(root.join(file)).unwrap_or_else(|_| panic!("{file} for: {weakness}"));
        for test in tests {
            assert!(
                code.contains(&format!("fn {test}(")),
                "{file} has no {test}, for: {weakness}"
            );
        }
    }
}
