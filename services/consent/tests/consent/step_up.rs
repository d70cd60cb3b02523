//! What she has set to need her PIN needs it: one token, for one call, once, on whichever replica.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use prost::Message;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::step_up::Action;
use sammati_api::consent::v1::step_up_service_server::StepUpService;
use sammati_kernel::jws::SigningKey;
use sammati_kernel::{
    Actor, Caller, Clock, Power, Reason, RepresentationId, RepresentationKind, Representing, SessionId,
};
use sammati_server::action::{self, ActionClaims, LIFE};
use tonic::{Response, Status};

use crate::world::{World, by, everywhere, operator, reason, signing_key};

const APPROVE: &str = "sammati.consent.v1.ConsentRequestService/ApproveConsentRequest";
const REVOKE: &str = "sammati.consent.v1.ConsentService/RevokeConsents";
const SET: &str = "sammati.consent.v1.StepUpService/SetStepUp";

/// A message that can carry a token.
pub(crate) trait Call: Message + Clone {
    const METHOD: &'static str;
    /// What the token does not tell of: the token, the request id, the etag where there is one.
    fn apart(&mut self) -> Vec<&mut String>;
    fn resource(&self, caller: &Caller) -> String;

    /// As the token tells of it.
    fn bare(&self) -> Self {
        let mut bare = self.clone();
        bare.apart().into_iter().for_each(String::clear);
        bare
    }
}

impl Call for api::ApproveConsentRequestRequest {
    const METHOD: &'static str = APPROVE;
    fn apart(&mut self) -> Vec<&mut String> {
        vec![&mut self.action_token, &mut self.request_id, &mut self.etag]
    }
    fn resource(&self, _: &Caller) -> String {
        self.name.clone()
    }
}

impl Call for api::RevokeConsentsRequest {
    const METHOD: &'static str = REVOKE;
    fn apart(&mut self) -> Vec<&mut String> {
        vec![&mut self.action_token, &mut self.request_id, &mut self.etag]
    }
    fn resource(&self, _: &Caller) -> String {
        self.names[0].clone()
    }
}

impl Call for api::SetStepUpRequest {
    const METHOD: &'static str = SET;
    fn apart(&mut self) -> Vec<&mut String> {
        vec![&mut self.action_token, &mut self.request_id, &mut self.etag]
    }
    fn resource(&self, caller: &Caller) -> String {
        caller.account().unwrap().name()
    }
}

/// What identity says of a call for which she showed her PIN just now.
pub(crate) fn claims<M: Call>(w: &World, she: &Caller, message: &M) -> ActionClaims {
    let now = w.clock.now();
    ActionClaims {
        iss: "https://identity.test".into(),
        aud: "consent".into(),
        sub: she.id(),
        sid: she.session().unwrap().to_string(),
        iat: now.seconds(),
        exp: now.plus(LIFE).seconds(),
        jti: w.request_id(),
        method: M::METHOD.into(),
        resource: message.resource(she),
        body_sha256: action::digest(&message.bare()),
    }
}

pub(crate) fn with<M: Call>(message: &M, key: &SigningKey, claims: &ActionClaims) -> M {
    let mut message = message.clone();
    *message.apart()[0] = action::issue(key, claims).unwrap();
    message
}

/// The call with a good token.
pub(crate) fn proved<M: Call>(w: &World, she: &Caller, message: &M) -> M {
    with(message, &w.people.tokens, &claims(w, she, message))
}

/// The same call again, as another one.
pub(crate) fn anew<M: Call>(w: &World, message: &M) -> M {
    let mut message = message.clone();
    *message.apart()[1] = w.request_id();
    message
}

pub(crate) fn setting(w: &World, actions: &[Action]) -> api::SetStepUpRequest {
    api::SetStepUpRequest {
        actions: actions.iter().map(|action| i32::from(*action)).collect(),
        request_id: w.request_id(),
        ..Default::default()
    }
}

async fn set(w: &World, she: &Caller, message: api::SetStepUpRequest) -> Result<api::StepUp, Status> {
    w.rpc().set_step_up(by(she, message)).await.map(Response::into_inner)
}

pub(crate) async fn get(w: &World, she: &Caller) -> api::StepUp {
    w.rpc()
        .get_step_up(by(she, api::GetStepUpRequest {}))
        .await
        .unwrap()
        .into_inner()
}

/// She has set that both need her PIN.
pub(crate) async fn both(w: &World, she: &Caller) {
    let message = setting(w, &[Action::Approve, Action::Revoke]);
    set(w, she, proved(w, she, &message)).await.unwrap();
}

pub(crate) fn revocation(w: &World, name: &str) -> api::RevokeConsentsRequest {
    api::RevokeConsentsRequest {
        names: vec![name.to_owned()],
        request_id: w.request_id(),
        ..Default::default()
    }
}

async fn revoke(
    w: &World,
    she: &Caller,
    message: api::RevokeConsentsRequest,
) -> Result<api::RevokeConsentsResponse, Status> {
    w.rpc()
        .revoke_consents(by(she, message))
        .await
        .map(Response::into_inner)
}

#[test]
fn what_she_has_set_needs_a_token_and_a_token_is_good_once() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        both(&w, &she).await;
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let approval = w.approval(&request);
        assert_eq!(reason(w.approve(&she, approval.clone()).await), Reason::StepUpRequired);
        let approval = proved(&w, &she, &approval);
        let granted = w.approve(&she, approval.clone()).await.unwrap().consents.remove(0);
        // A repeat is answered as before, even when the token is over; the token in another call is used.
        assert_eq!(
            reason(w.approve(&she, anew(&w, &approval)).await),
            Reason::StepUpRequired
        );
        w.advance(120);
        assert_eq!(
            w.approve(&she, approval.clone()).await.unwrap().consents[0].name,
            granted.name
        );

        let bare = revocation(&w, &granted.name);
        assert_eq!(reason(revoke(&w, &she, bare.clone()).await), Reason::StepUpRequired);
        let revocation = proved(&w, &she, &bare);
        assert_eq!(revoke(&w, &she, revocation.clone()).await.unwrap().changed_count, 1);
        assert_eq!(
            reason(revoke(&w, &she, anew(&w, &revocation)).await),
            Reason::StepUpRequired
        );
        let again = proved(&w, &she, &anew(&w, &bare));
        assert_eq!(revoke(&w, &she, again).await.unwrap().changed_count, 0);
    });
}

#[test]
fn of_32_calls_with_one_token_on_two_replicas_one_goes_through() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        both(&w, &she).await;
        let message = proved(&w, &she, &revocation(&w, &consent.name));
        let racers = (0..32).map(|_| {
            let (w, she, message) = (Arc::clone(&w), she.clone(), anew(&w, &message));
            tokio::spawn(async move { revoke(&w, &she, message).await })
        });
        let done: Vec<_> = join_all(racers).await.into_iter().map(Result::unwrap).collect();
        let went: Vec<_> = done.iter().filter_map(|done| done.as_ref().ok()).collect();
        assert_eq!((went.len(), went[0].changed_count), (1, 1));
        let refused = done.into_iter().filter(Result::is_err).map(reason);
        assert_eq!(
            refused.collect::<BTreeSet<_>>(),
            BTreeSet::from([Reason::StepUpRequired])
        );
    });
}

#[test]
fn a_token_for_anything_else_is_refused_even_where_none_is_needed() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let other = w.she(w.person("ravi.rao@sbx"));
        let message = revocation(&w, &consent.name);
        let good = claims(&w, &she, &message);
        let worded = api::RevokeConsentsRequest {
            reason: "another body".into(),
            ..message.clone()
        };
        let change: [(&str, ActionClaims); 7] = [
            (
                "body",
                ActionClaims {
                    body_sha256: action::digest(&worded),
                    ..good.clone()
                },
            ),
            (
                "method",
                ActionClaims {
                    method: APPROVE.into(),
                    ..good.clone()
                },
            ),
            (
                "resource",
                ActionClaims {
                    resource: "consents/1".into(),
                    ..good.clone()
                },
            ),
            (
                "service",
                ActionClaims {
                    aud: "identity".into(),
                    ..good.clone()
                },
            ),
            (
                "caller",
                ActionClaims {
                    sub: other.id(),
                    ..good.clone()
                },
            ),
            (
                "session",
                ActionClaims {
                    sid: "1".into(),
                    ..good.clone()
                },
            ),
            (
                "time",
                ActionClaims {
                    exp: w.clock.now().seconds(),
                    ..good.clone()
                },
            ),
        ];
        for (what, wrong) in change {
            let call = with(&anew(&w, &message), &w.people.tokens, &wrong);
            assert_eq!(reason(revoke(&w, &she, call).await), Reason::StepUpRequired, "{what}");
        }
        let forged = with(&anew(&w, &message), &signing_key(), &good);
        assert_eq!(reason(revoke(&w, &she, forged).await), Reason::StepUpRequired);
        assert_eq!(w.count("consent.withdrawn").await, 0);
        // Made for it, it ends when its time does, and not before.
        w.advance(119);
        let call = with(&message, &w.people.tokens, &good);
        w.advance(1);
        assert_eq!(reason(revoke(&w, &she, call).await), Reason::StepUpRequired, "over");
        let call = proved(&w, &she, &anew(&w, &message));
        assert_eq!(revoke(&w, &she, call).await.unwrap().changed_count, 1);
    });
}

#[test]
fn a_call_that_is_refused_uses_no_token_up() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        both(&w, &she).await;
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let mut approval = w.approval(&request);
        approval.etag = "\"9\"".into();
        let token = proved(&w, &she, &approval);
        for _ in 0..2 {
            assert_eq!(reason(w.approve(&she, anew(&w, &token)).await), Reason::EtagMismatch);
        }
    });
}

#[test]
fn nobody_sets_or_unsets_it_without_the_pin_and_taking_back_asks_no_more_than_giving() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let before = get(&w, &she).await;
        assert!(before.actions.is_empty() && before.update_time.is_none());
        let on = setting(&w, &[Action::Approve]);
        assert_eq!(
            reason(set(&w, &she, on.clone()).await),
            Reason::FieldInvalid,
            "no token"
        );
        let off = setting(&w, &[]);
        let bent = with(&on, &w.people.tokens, &claims(&w, &she, &off));
        assert_eq!(reason(set(&w, &she, bent).await), Reason::StepUpRequired);
        let good = proved(&w, &she, &on);
        let after = set(&w, &she, good.clone()).await.unwrap();
        assert_eq!(after.actions, [i32::from(Action::Approve)]);
        assert_eq!(after.name, she.account().unwrap().name().replace("accounts", "stepUps"));
        assert_eq!(set(&w, &she, good.clone()).await.unwrap().etag, after.etag, "a repeat");
        assert_eq!(
            reason(set(&w, &she, anew(&w, &good)).await),
            Reason::StepUpRequired,
            "used"
        );
        for wrong in [
            vec![Action::Revoke],
            vec![Action::Approve; 2],
            vec![Action::Unspecified],
        ] {
            let message = setting(&w, &wrong);
            assert_eq!(
                reason(set(&w, &she, proved(&w, &she, &message)).await),
                Reason::FieldInvalid,
                "{wrong:?}"
            );
        }
        let stale = api::SetStepUpRequest {
            etag: before.etag,
            ..setting(&w, &[])
        };
        assert_eq!(
            reason(set(&w, &she, proved(&w, &she, &stale)).await),
            Reason::EtagMismatch
        );
        set(&w, &she, proved(&w, &she, &setting(&w, &[]))).await.unwrap();
        assert!(get(&w, &she).await.actions.is_empty());
        assert_eq!(w.count("consent.step_up_set").await, 2);
        let other = w.she(w.person("ravi.rao@sbx"));
        both(&w, &other).await;
        assert!(get(&w, &she).await.actions.is_empty(), "his is not hers");
    });
}

#[test]
fn an_operator_and_a_dry_run_need_none_and_who_acts_for_her_shows_his_own() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let account = she.account().unwrap();
        both(&w, &she).await;
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let dry = api::ApproveConsentRequestRequest {
            dry_run: true,
            ..w.approval(&request)
        };
        assert_eq!(w.approve(&she, dry).await.unwrap().consents.len(), 1);
        let acting = Representing {
            representation: RepresentationId::new(w.clock.now(), account.slot(), [5; 8]),
            principal: account,
            representative: w.person("ravi.rao@sbx"),
            kind: RepresentationKind::Delegate,
            powers: Power::ALL.into(),
            purposes: BTreeSet::new(),
            participants: BTreeSet::new(),
            ends: None,
            session: SessionId::new(w.clock.now(), account.slot(), [5; 8]),
            app: None,
            auth_time: w.clock.now().seconds(),
        };
        let he = Caller {
            actor: Some(Actor::Representative(Box::new(acting))),
            ..she.clone()
        };
        let approval = w.approval(&request);
        assert_eq!(reason(w.approve(&he, approval.clone()).await), Reason::StepUpRequired);
        let hers = proved(&w, &she, &approval);
        assert_eq!(
            reason(w.approve(&he, hers).await),
            Reason::StepUpRequired,
            "hers is not his"
        );
        w.approve(&he, proved(&w, &he, &approval)).await.unwrap();
        let lawful = api::RevokeConsentsRequest {
            legal_basis: "order 7".into(),
            ..revocation(&w, &consent.name)
        };
        assert_eq!(revoke(&w, &operator(), lawful).await.unwrap().changed_count, 1);
    });
}
