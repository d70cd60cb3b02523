//! Deep links: an SMS for each call that is taken, three a day to one mobile, alike for everybody.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::link_service_server::LinkService;
use sammati_kernel::Reason;
use tonic::{Response, Status};

use crate::world::{DAY, World, by, everywhere, participant, reason, refused};

const MOBILE: &str = "9876543210";

fn invitation(w: &World, mobile: &str) -> api::SendDeepLinkRequest {
    api::SendDeepLinkRequest {
        mobile: mobile.to_owned(),
        language: "hi".into(),
        request_id: w.request_id(),
    }
}

async fn send(w: &World, hip: &str, message: api::SendDeepLinkRequest) -> Result<api::SendDeepLinkResponse, Status> {
    let sent = w.rpc().send_deep_link(by(&participant(hip), message)).await;
    sent.map(Response::into_inner)
}

#[test]
fn hip_init_notify_hiecm_a_deep_link_goes_out_once_for_each_call() {
    everywhere(|w| async move {
        let message = invitation(&w, MOBILE);
        for _ in 0..2 {
            send(&w, "hospital", message.clone()).await.unwrap();
        }
        let sent = w.outbox.sent.lock().unwrap().clone();
        assert_eq!(sent.len(), 1);
        assert_eq!(
            (
                sent[0].recipient.as_str(),
                sent[0].template.as_str(),
                sent[0].language.as_str()
            ),
            (MOBILE, "deep-link", "hi")
        );
        assert_eq!(sent[0].parameters["hip"], "The hospital");
        assert_eq!(
            sent[0].parameters["link"],
            "https://portal.sammati.local/link?hip=hospital"
        );
        assert_eq!(w.count("link.deep_link_sent").await, 1);
        let other = api::SendDeepLinkRequest {
            mobile: "9876543211".into(),
            ..message
        };
        assert_eq!(reason(send(&w, "hospital", other).await), Reason::RequestIdReused);
    });
}

#[test]
fn a_mobile_gets_three_a_day_whoever_has_them_sent() {
    everywhere(|w| async move {
        for hip in ["hospital", "lab", "hospital"] {
            send(&w, hip, invitation(&w, MOBILE)).await.unwrap();
        }
        w.advance(DAY / 2);
        let refusal = refused(send(&w, "lab", invitation(&w, MOBILE)).await);
        assert_eq!(refusal.reason, Reason::RequestLimit);
        assert_eq!(refusal.retry_after, Some(std::time::Duration::from_secs(12 * 3600)));
        send(&w, "lab", invitation(&w, "9876543211")).await.unwrap();
        w.advance(DAY / 2);
        send(&w, "lab", invitation(&w, MOBILE)).await.unwrap();
        assert_eq!(w.outbox.sent.lock().unwrap().len(), 5);
    });
}

#[test]
fn what_could_not_be_sent_is_sent_by_a_repeat_and_counts_once() {
    everywhere(|w| async move {
        *w.outbox.refuses.lock().unwrap() = Some(Reason::MessageUnavailable);
        let message = invitation(&w, MOBILE);
        assert_eq!(
            reason(send(&w, "hospital", message.clone()).await),
            Reason::MessageUnavailable
        );
        // A mobile that the gateway does not know is answered as any other.
        *w.outbox.refuses.lock().unwrap() = Some(Reason::RecipientInvalid);
        send(&w, "hospital", invitation(&w, "9876543211")).await.unwrap();
        *w.outbox.refuses.lock().unwrap() = None;
        send(&w, "hospital", message).await.unwrap();
        assert_eq!(w.outbox.sent.lock().unwrap().len(), 1);
        for _ in 0..2 {
            send(&w, "hospital", invitation(&w, MOBILE)).await.unwrap();
        }
        assert_eq!(
            reason(send(&w, "hospital", invitation(&w, MOBILE)).await),
            Reason::RequestLimit
        );
    });
}

#[test]
fn s1_the_mobile_of_a_deep_link_is_in_no_event() {
    everywhere(|w| async move {
        send(&w, "hospital", invitation(&w, MOBILE)).await.unwrap();
        let kept = format!("{:?}", w.events().await);
        assert!(kept.contains("link.deep_link_sent") && !kept.contains(MOBILE), "{kept}");
        for bad in ["", "+919876543210", "1234567890", "98765 43210"] {
            assert_eq!(
                reason(send(&w, "hospital", invitation(&w, bad)).await),
                Reason::FieldInvalid
            );
        }
        w.people.suspended.lock().unwrap().insert("hospital".into());
        assert_eq!(
            reason(send(&w, "hospital", invitation(&w, MOBILE)).await),
            Reason::ParticipantNotActive
        );
    });
}
