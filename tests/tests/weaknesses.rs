//! What is weak in the open consent manager that there is, one by one, and the test that holds it against this one.

use std::path::Path;

use sammati_tests::named::has_test;

/// What is wrong there; the file and the test here.
const TABLE: [(&str, &str, &[&str]); 24] = [
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
        "services/consent/tests/consent/races.rs",
        &["i1_of_64_racing_creates_with_one_request_id_one_makes_a_request"],
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
        "the lock of the PIN opens for good after the first",
        "services/identity/src/tests/tries.rs",
        &["a_lock_closes_again_on_every_day_after_the_first"],
    ),
    (
        "parallel guesses all pass: at the PIN",
        "services/identity/src/tests/step_up.rs",
        &["of_a_hundred_wrong_pins_on_two_replicas_five_are_compared_and_the_next_day_is_another"],
    ),
    (
        "parallel guesses all pass: at an OTP",
        "services/identity/src/tests/guesses.rs",
        &[
            "of_a_hundred_wrong_guesses_at_our_otp_five_are_compared",
            "of_a_hundred_wrong_guesses_at_an_agencys_otp_five_are_compared",
        ],
    ),
    (
        "a one-time token of the PIN works twice in a race",
        "services/consent/tests/consent/step_up.rs",
        &["of_32_calls_with_one_token_on_two_replicas_one_goes_through"],
    ),
    (
        "the check against replays keeps nothing where it matters",
        "tests/tests/conformance/mutations.rs",
        &["every_mutation_keeps_its_promises"],
    ),
    (
        "of two that repeat at once the check against replays sees neither",
        "services/consent/tests/consent/races.rs",
        &["i1_of_64_racing_creates_with_one_request_id_one_makes_a_request"],
    ),
    (
        "any token reads another's consents",
        "tests/tests/conformance/strangers.rs",
        &["a_stranger_is_told_the_same_of_what_exists"],
    ),
    (
        "any HIU opens a transfer to any address",
        "services/consent/tests/consent/deciding.rs",
        &["a_refused_transfer_names_the_rule_and_leaves_its_event"],
    ),
    (
        "a bulk revoke is not atomic, tells each HIU of all consents, and can leave one that cannot be revoked",
        "services/consent/tests/consent/live.rs",
        &["a_bulk_revoke_is_whole_and_each_party_hears_of_its_own_alone"],
    ),
    (
        "a token lives sixty times too long",
        "services/identity/src/tests/sessions.rs",
        &["an_access_token_lives_five_minutes_and_its_session_fifteen_days"],
    ),
    (
        "an account is told of that could not be made",
        "services/identity/src/tests/tries.rs",
        &["an_account_is_told_of_when_it_is_there_and_not_before"],
    ),
    (
        "log-in tells who exists",
        "services/identity/src/tests/guesses.rs",
        &["unknown_mobiles_and_addresses_look_like_known_ones"],
    ),
    (
        "keys are read once, at the start",
        "crates/server/tests/server/facts.rs",
        &["tokens_follow_the_keys_of_identity_without_a_restart"],
    ),
    (
        "issuer and audience are never looked at, and a log-out is forgotten",
        "crates/server/tests/server/callers.rs",
        &[
            "a_bad_token_is_refused_even_where_none_is_needed",
            "a_remembered_token_still_expires_and_still_ends",
        ],
    ),
    (
        "a grant may be wider than its request",
        "services/consent/tests/consent/giving.rs",
        &["a_grant_that_is_wider_changes_nothing_and_names_the_field"],
    ),
    (
        "no frequency is enforced",
        "services/consent/tests/consent/races.rs",
        &["c2_of_racing_authorizes_each_window_permits_exactly_its_uses"],
    ),
    (
        "OTPs come from a plain random and lie in the clear",
        "tests/tests/conformance/secrets.rs",
        &["nothing_secret_is_kept_or_told_in_clear"],
    ),
    (
        "an OTP is not consumed",
        "services/identity/src/tests/tries.rs",
        &["an_otp_of_ours_is_good_once", "an_agencys_otp_is_good_once"],
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
            assert!(has_test(&code, test), "{file} has no test {test}, for: {weakness}");
        }
    }
}
