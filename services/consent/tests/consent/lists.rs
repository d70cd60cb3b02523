//! Lists: who sees what, page by page, also of many rows.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_consent::consent::State;
use sammati_consent::rows::ConsentRow;
use sammati_kernel::{AccountId, Caller, Clock, ConsentId, Micros, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, Revision, View};
use tonic::Response;

use crate::world::{World, by, everywhere, operator, participant, reason, refused};

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

#[test]
fn lists_page_newest_first_and_show_only_own_ones() {
    everywhere(|w| async move {
        let (asha, ravi) = (w.person("asha.rao@sbx"), w.person("ravi.kumar@sbx"));
        for n in 0..5 {
            w.create(w.asks(if n % 2 == 0 { "asha.rao@sbx" } else { "ravi.kumar@sbx" }))
                .await
                .unwrap();
            w.advance(1);
        }
        let list = async |who: &Caller, message: api::ListConsentRequestsRequest| {
            w.rpc()
                .list_consent_requests(by(who, message))
                .await
                .map(Response::into_inner)
        };
        let clinic = participant("clinic");
        let mut names = Vec::new();
        let mut message = api::ListConsentRequestsRequest {
            page_size: 2,
            ..Default::default()
        };
        loop {
            let page = list(&clinic, message.clone()).await.unwrap();
            names.extend(page.consent_requests.iter().map(|r| r.name.clone()));
            if page.next_page_token.is_empty() {
                break;
            }
            message.page_token = page.next_page_token;
        }
        let mut sorted = names.clone();
        sorted.sort_by(|a, b| b.cmp(a));
        assert_eq!((names.len(), &names), (5, &sorted));
        assert_eq!(
            list(&w.she(asha), Default::default())
                .await
                .unwrap()
                .consent_requests
                .len(),
            3
        );
        assert_eq!(
            list(&participant("insurer"), Default::default())
                .await
                .unwrap()
                .consent_requests
                .len(),
            0
        );
        let named = |account: AccountId| api::ListConsentRequestsRequest {
            subject: account.name(),
            ..Default::default()
        };
        assert_eq!(list(&operator(), named(ravi)).await.unwrap().consent_requests.len(), 2);
        assert_eq!(
            reason(list(&operator(), Default::default()).await),
            Reason::FieldInvalid
        );
        assert_eq!(reason(list(&w.she(asha), named(ravi)).await), Reason::NotAvailable);
        assert_eq!(reason(list(&clinic, named(ravi)).await), Reason::FieldInvalid);
        let denied = api::ListConsentRequestsRequest {
            states: vec![api::consent_request::State::Denied.into()],
            ..Default::default()
        };
        assert_eq!(list(&clinic, denied).await.unwrap().consent_requests.len(), 0);
    });
}

#[test]
fn a_list_names_all_that_is_wrong_and_its_revisions_are_those_of_its_rows() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let wrong = api::ListConsentRequestsRequest {
            page_size: -1,
            hiu: "clinic".into(),
            subject: "asha".into(),
            ..Default::default()
        };
        let refusal = refused(
            w.rpc()
                .list_consent_requests(by(&she, wrong))
                .await
                .map(Response::into_inner),
        );
        let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.as_ref()).collect();
        assert_eq!(fields, ["page_size", "hiu", "subject"]);
        // Written by the one replica, listed by the other.
        let (first, last) = (&w.replicas[0].0, &w.replicas[w.replicas.len() - 1].0);
        let ask = by(&participant("clinic"), w.asks("asha.rao@sbx"));
        let created = first.create_consent_request(ask).await.unwrap().into_inner();
        let listed = last
            .list_consent_requests(by(&she, Default::default()))
            .await
            .unwrap()
            .into_inner();
        let next = |text: &str| Revision::open(w.store().key(), text).unwrap().next;
        assert_eq!(listed.consent_requests[0].name, created.name);
        assert!(next(&listed.consent_requests[0].revision) >= next(&created.revision));
    });
}
