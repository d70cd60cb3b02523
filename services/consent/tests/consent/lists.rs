//! Lists of many rows.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_consent::consent::State;
use sammati_consent::rows::ConsentRow;
use sammati_kernel::{AccountId, Caller, Clock, ConsentId, Micros, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use crate::world::{World, by, everywhere, participant};

/// Consents of the hospital that have ended, newer than all there are.
struct Ended {
    first: u32,
    at: Micros,
}

const SLOT: Slot = Slot::new(9);

impl Command for Ended {
    type Answer = ();

    const NAME: &'static str = "test.ended";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        for n in self.first..self.first + 256 {
            let id = ConsentId::new(
                self.at.plus(std::time::Duration::from_secs(1)),
                SLOT,
                u64::from(n).to_be_bytes(),
            );
            view.put(&ConsentRow {
                id: id.to_vec(),
                subject: AccountId::new(self.at, SLOT, [1; 8]).to_vec(),
                hip: "hospital".into(),
                hiu: "clinic".into(),
                state: State::Revoked.number(),
                ..ConsentRow::default()
            });
        }
        Ok(())
    }
}

async fn page(w: &World, caller: &Caller, page_token: &str) -> api::ListConsentsResponse {
    let message = api::ListConsentsRequest {
        states: vec![api::consent::State::Granted.into()],
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    w.rpc().list_consents(by(caller, message)).await.unwrap().into_inner()
}

#[test]
fn a_page_reads_so_many_rows_at_most_and_goes_on_from_there() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        for n in 0..9 {
            let at = w.clock.now();
            w.store().apply(Ended { first: n * 256, at }).await.unwrap();
        }
        let hospital = participant("hospital");
        let first = page(&w, &hospital, "").await;
        assert!(first.consents.is_empty() && !first.next_page_token.is_empty());
        let second = page(&w, &hospital, &first.next_page_token).await;
        assert_eq!(second.consents.len(), 1);
        assert_eq!(second.consents[0].name, consent.name);
        assert!(second.next_page_token.is_empty());
        // How many there are, one person is told.
        let hers = page(&w, &she, "").await;
        assert_eq!((hers.hip_counts.len(), hers.hip_counts[0].consent_count), (1, 1));
        assert!(first.hip_counts.is_empty() && second.hip_counts.is_empty());
    });
}
