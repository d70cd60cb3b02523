//! People who enrol, some of them twice at once.

use std::collections::BTreeSet;

use sammati_api::sandbox::v1::Person as Entry;
use sammati_tests::journal::{Call, Op};
use sammati_tests::story::{Failure, Person, Story};
use tokio::sync::Mutex;
use tonic::Code;

use crate::client::{Asked, Clients, Dice};

/// Those of the register who have not been enrolled yet.
pub(crate) struct Register(Vec<Entry>);

impl Register {
    /// Adults, each with a mobile of her own: an OTP is read from the newest message there.
    pub(crate) async fn read(story: &Story) -> Result<Self, Failure> {
        let mut mobiles = BTreeSet::new();
        let mut people = story.whole_register().await?;
        people.retain(|p| p.parents.is_empty() && !p.mobile.is_empty() && mobiles.insert(p.mobile.clone()));
        people.reverse();
        Ok(Self(people))
    }

    pub(crate) fn next(&mut self) -> Result<Entry, Failure> {
        self.0
            .pop()
            .ok_or_else(|| "everybody is enrolled: fewer cycles, or a larger register".into())
    }
}

/// What came of one person's enrolments.
pub(crate) struct Enrolled {
    pub(crate) person: Person,
    pub(crate) calls: Vec<Call>,
}

/// Enrols her once for each of `dice`, all at once: each time proved anew, and all are told the same number.
pub(crate) async fn enrol(clients: &Clients, entry: &Entry, mut dice: Vec<Dice>) -> Result<Enrolled, Failure> {
    let turn = Mutex::new(());
    let turn = &turn;
    let once = dice.iter_mut().map(|dice| async move {
        let transaction = {
            let _mine = turn.lock().await;
            prove(clients, dice, entry).await?
        };
        let request_id = clients.story.rid();
        let asked = Asked {
            object: &entry.aadhaar,
            op: Op::Enrol,
            request_id: &request_id,
        };
        let create = async |replica| {
            let created = clients.story.create_account(replica, entry, &transaction, &request_id);
            created.await
        };
        clients
            .change(&asked, dice, create, |person| person.account.abha_number.clone())
            .await
    });
    let mut enrolled = None;
    let mut calls = Vec::new();
    for (person, call) in futures::future::try_join_all(once).await? {
        enrolled = person.or(enrolled);
        calls.push(call);
    }
    let person = enrolled.ok_or_else(|| format!("nobody could be enrolled: {calls:?}"))?;
    Ok(Enrolled { person, calls })
}

/// Proves who she is; begins anew where the OTP died with a process.
async fn prove(clients: &Clients, dice: &mut Dice, entry: &Entry) -> Result<String, Failure> {
    let story = &clients.story;
    let mut replica = || dice.below(clients.replicas);
    for _ in 0..5 {
        let begin = story.enrolment(entry);
        let transaction = clients.until_answered(async || story.challenge(replica(), begin.clone()).await);
        let transaction = transaction.await?.name;
        let proved = match clients.until_answered(async || story.otp(&entry.mobile).await).await {
            Ok(otp) => {
                let proof = story.verification(&transaction, &otp);
                clients
                    .until_answered(async || story.verify(replica(), proof.clone()).await)
                    .await
            }
            Err(status) => Err(status),
        };
        match proved {
            Ok(transaction) => return Ok(transaction.name),
            Err(status) if matches!(status.code(), Code::FailedPrecondition | Code::NotFound) => {}
            Err(status) => return Err(status.into()),
        }
    }
    Err("no OTP came through in five enrolments".into())
}
