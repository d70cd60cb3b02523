//! Uses that were taken stay taken.

use ring::digest::{SHA256, digest};
use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::decision::Reason;
use sammati_kernel::{ConsentId, Micros, Refusal, Slot};
use sammati_server::event::system;
use sammati_store::{ClaimKey, Command, Keys, View};

use crate::consent;
use crate::decision::uses::Uses;
use crate::rows::{self, CohortUseRow, ConsentRow, MemberRow};

/// Counts a use that was taken, once. One that was given back is not: that only takes away.
pub(super) struct UseAgain {
    pub(super) consent: ConsentId,
    /// When it was taken.
    pub(super) at: Micros,
    /// With a run over a cohort, which takes one use of each: the keyed hash of run and person.
    pub(super) run: Option<[u8; 32]>,
    pub(super) lost: String,
}

impl UseAgain {
    /// That it was counted.
    fn claim(&self) -> ClaimKey {
        let hash = digest(&SHA256, format!("use again\n{}", self.lost).as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(hash.as_ref());
        key
    }
}

impl UseAgain {
    /// Repeated, the run takes no other use of hers.
    fn keep(&self, view: &mut View<'_>, row: &ConsentRow) {
        let Some(run) = self.run.filter(|run| view.get::<CohortUseRow>(run).is_none()) else {
            return;
        };
        view.put(&CohortUseRow {
            key: run.to_vec(),
            decided: MemberRow {
                reason: Reason::Granted.into(),
                version: row.grant_version,
                r#use: row.uses,
                ..MemberRow::default()
            },
            lost: true,
            consent: row.id.clone(),
        });
    }
}

impl Command for UseAgain {
    type Answer = ();

    const NAME: &'static str = "consent.use_again";

    fn slot(&self) -> Slot {
        self.consent.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ConsentRow>(self.consent.to_vec());
        keys.claim(self.claim());
        if let Some(run) = self.run {
            keys.row::<CohortUseRow>(run.to_vec());
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let row = view.get::<ConsentRow>(self.consent.as_bytes());
        let Some(mut row) = row.filter(|row| row.state().is_open()) else {
            return Ok(());
        };
        if view.claimed(&self.claim()).is_some() {
            return Ok(());
        }
        view.claim(self.claim(), row.id.clone());
        let uses = Uses::of(&row);
        let window = uses.left(&row.scope.read()?, Micros(row.granted), self.at).window;
        uses.take_in(window).write(&mut row);
        self.keep(view, &row);
        row.updated = view.now().0;
        view.put(&row);
        let told = consent::about("data.use_consumed", Action::Update, &system("consent"), &row)?;
        told.because_of(&self.lost)
            .subject(rows::account(&row.subject).ok_or_else(|| rows::broken("a consent's subject"))?)
            .emit(view);
        Ok(())
    }
}
