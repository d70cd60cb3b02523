//! Who is in a study at its nodes, and what is asked of each.

use std::collections::BTreeMap;

use sammati_api::consent::v1::decision::Reason;
use sammati_kernel::{AccountId, ParticipantId, PurposeCode, Refusal};
use sammati_store::Store;

use super::known::Known;
use crate::decision::{Asker, Facts, Granted, Question, Verdict, reduce};
use crate::rows::{self, ConsentRow, MemberRow};
use crate::wire::registration;

/// How many are told, and committed, at once.
pub const CHUNK: usize = 500;

/// Rows read at once.
const BATCH: i64 = 1000;

/// Somebody who gave, or once gave, a consent to a study at one of its nodes.
pub struct Member {
    /// As the study knows her.
    pub pseudonym: String,
    /// Where.
    pub hip: ParticipantId,
    /// Who she is.
    pub account: AccountId,
    /// Her newest consent to it there.
    pub consent: ConsentRow,
}

/// All of them, or those of one node, in the order of the pseudonyms: the order of their ids would tell studies that they
/// know the same people.
///
/// # Errors
/// STORAGE_UNAVAILABLE, STUDY_NOT_ACTIVE.
pub async fn members(store: &Store, known: &Known, node: Option<&ParticipantId>) -> Result<Vec<Member>, Refusal> {
    let (study, mut before) = (known.id, None::<Vec<u8>>);
    let mut found = BTreeMap::new();
    loop {
        let from = before.take();
        let read = store.read(move |r| r.page::<ConsentRow>("study", study.as_bytes(), from.as_deref(), BATCH));
        let rows = read.await?;
        before = rows.last().map(|row| row.record.id.clone());
        let more = i64::try_from(rows.len()).is_ok_and(|read| read >= BATCH);
        for consent in rows.into_iter().map(|row| row.record) {
            let hip = rows::participant(&consent.hip)?;
            if node.is_some_and(|node| *node != hip) {
                continue;
            }
            let account = consent.subject()?;
            let pseudonym = known.pseudonym(account)?;
            // The newest come first.
            found.entry((pseudonym.clone(), hip.clone())).or_insert(Member {
                pseudonym,
                hip,
                account,
                consent,
            });
        }
        if !more {
            return Ok(found.into_values().collect());
        }
    }
}

/// Leaves out who is of a node at which fewer than `cell` are left: a list of all nodes less those of the others would tell
/// who they are. Each is once in the list of a node, so that rows of one node are people.
pub fn drop_small_nodes(seen: &mut Vec<(Member, MemberRow)>, cell: i32) {
    let mut sizes: BTreeMap<ParticipantId, i32> = BTreeMap::new();
    for (one, _) in seen.iter() {
        *sizes.entry(one.hip.clone()).or_default() += 1;
    }
    seen.retain(|(one, _)| sizes.get(&one.hip).is_some_and(|size| *size >= cell));
}

/// What is asked of each member at a node: all that the study asks, or what she gave of it.
pub fn question(known: &Known, node: &ParticipantId) -> Question {
    let scope = &known.scope;
    Question {
        asker: Asker::Participant(node.clone()),
        // As her consent says: nothing that is recorded of her names the sponsor.
        requester: None,
        provider: Some(node.clone()),
        user: Some(registration(&known.row.investigator)),
        purpose: Some(PurposeCode::Dsrch),
        access_mode: Some(scope.access_mode),
        hi_types: scope.hi_types.clone(),
        record_range: scope.record_range,
        care_contexts: Default::default(),
        has_use: false,
        allow_reduced: true,
    }
}

/// A verdict as it is told.
pub fn row(
    pseudonym: &str,
    verdict: &Verdict,
    by: Option<&Granted>,
    question: &Question,
    facts: &impl Facts,
) -> MemberRow {
    let mut row = MemberRow {
        pseudonym: pseudonym.to_owned(),
        reason: verdict.reason.into(),
        version: by.map_or(0, |granted| granted.version),
        ..MemberRow::default()
    };
    if let Some(granted) = by.filter(|_| verdict.permits()) {
        let part = reduce::permitted(question, facts, granted);
        row.erase = granted.expire.0;
        row.hi_types = part.hi_types.iter().map(|kind| kind.number()).collect();
        (row.from, row.to) = (part.record_range.from.0, part.record_range.to.0);
    }
    row
}

impl MemberRow {
    /// Whether her records may be used.
    pub fn permits(&self) -> bool {
        let permits = [Reason::Granted, Reason::GrantedReduced].map(i32::from);
        permits.contains(&self.reason)
    }
}
