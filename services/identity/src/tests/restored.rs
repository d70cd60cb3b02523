//! A watch that is held while its database is put back behind it, as by a failover that lost commits.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::watch_changes_response::Item;
use sammati_kernel::{Reason, SessionId};
use sammati_server::error::refusal_of;
use sammati_store::verbs::{self, Recovery, Standing};
use sammati_store::{Location, Pruning, Revision};
use sammati_testkit::databases::psql;
use tonic::Status;

use super::fixture::{Fixture, START, fixtures, person};
use crate::rows::MIGRATIONS;

type Watch = Pin<Box<dyn Stream<Item = Result<api::WatchChangesResponse, Status>>>>;

/// Those whose process runs while its database is recovered: a file is only recovered while nobody serves it.
async fn held() -> Vec<Fixture> {
    let embedded = |fixture: &Fixture| fixture.url().starts_with("sqlite:");
    fixtures()
        .await
        .into_iter()
        .filter(|fixture| !embedded(fixture))
        .collect()
}

async fn watch(fixture: &Fixture, token: &str) -> Result<Watch, Reason> {
    let request = api::WatchChangesRequest {
        resume_token: token.into(),
    };
    let watch = Arc::clone(&fixture.inner).watch_changes(request).await;
    watch
        .map(|stream| Box::pin(stream) as Watch)
        .map_err(|refusal| refusal.reason)
}

/// Reads up to the next sign of life; tells where it stands.
async fn caught_up(watch: &mut Watch) -> String {
    loop {
        let item = watch.next().await.unwrap().unwrap();
        if matches!(item.item, Some(Item::Heartbeat(_))) {
            return item.resume_token;
        }
    }
}

/// Ends the session, which is one event of its partition; tells the partition.
async fn end(fixture: &Fixture, session: &api::Session) -> i64 {
    let revoke = api::RevokeSessionsRequest {
        request_id: fixture.request_id(),
        names: vec![session.name.clone()],
        all_of: String::new(),
    };
    fixture.inner.revoke_sessions(&person(session), revoke).await.unwrap();
    let id = SessionId::parse_name(&session.name).unwrap();
    fixture.inner.store.partitions().of(id.slot())
}

/// Opens a new epoch in the partitions that it is told of, in each from where it is told, and ends the recovery.
fn recover(fixture: &Fixture, from: impl Fn(&Revision) -> Option<i64> + Sync) {
    let location = Location::parse(fixture.url()).unwrap();
    let recover = || {
        let mut recovery = Recovery::begin(&location, None, MIGRATIONS).unwrap();
        for Standing { head, .. } in recovery.standings().unwrap() {
            let Some(from) = from(&head) else { continue };
            recovery
                .open_epoch(head.partition, 7000, Some(from), START, |_| b"a cut".to_vec())
                .unwrap();
        }
        recovery.release();
        verbs::finish(&location).unwrap();
    };
    std::thread::scope(|scope| scope.spawn(recover).join()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_held_over_a_new_epoch_is_told_to_begin_anew_and_of_no_position_twice() {
    for fixture in held().await {
        let session = fixture.enrol(1).await.session.unwrap();
        let mut held = watch(&fixture, "").await.unwrap();
        caught_up(&mut held).await;
        let partition = end(&fixture, &session).await;
        let token = caught_up(&mut held).await;
        // It was told; now it never happened, and another event has its position.
        let lose = format!(
            "DELETE FROM feed USING head WHERE feed.partition={partition} AND head.partition={partition} \
             AND position=next-1; \
             UPDATE head SET next=next-1,chain=(SELECT chain FROM feed WHERE feed.partition={partition} \
             AND position=next-2) WHERE partition={partition}"
        );
        let (server, name) = fixture.url().rsplit_once('/').unwrap();
        psql(server, name, &lose);
        recover(&fixture, |head| Some(head.next));
        let refused = loop {
            match held.next().await.unwrap() {
                Ok(item) => assert!(matches!(item.item, Some(Item::Heartbeat(_))), "{item:?}"),
                Err(status) => break refusal_of(&status).unwrap(),
            }
        };
        assert_eq!(refused.reason, Reason::PositionUnknown);
        assert!(held.next().await.is_none(), "and nothing after it");
        assert_eq!(watch(&fixture, &token).await.err(), Some(Reason::PositionUnknown));
        caught_up(&mut watch(&fixture, "").await.unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_looked_just_before_a_new_epoch_was_opened_does_not_cross_into_it() {
    for fixture in held().await {
        let session = fixture.enrol(1).await.session.unwrap();
        let mut held = watch(&fixture, "").await.unwrap();
        caught_up(&mut held).await;
        // This process knows of a commit that the watch has not read, and of nothing that came then.
        let partition = end(&fixture, &session).await;
        // In that partition alone, so that no other gives it away, and before the watch asks the primary by itself.
        recover(&fixture, |head| (head.partition == partition).then_some(head.next - 1));
        let item = held.next().await.unwrap();
        let refused = refusal_of(&item.expect_err("what is of another epoch is told")).unwrap();
        assert_eq!(refused.reason, Reason::PositionUnknown);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_whose_place_was_pruned_is_told_to_begin_anew() {
    for fixture in fixtures().await {
        let session = fixture.enrol(1).await.session.unwrap();
        let token = caught_up(&mut watch(&fixture, "").await.unwrap()).await;
        end(&fixture, &session).await;
        assert!(watch(&fixture, &token).await.is_ok(), "the feed still has it");
        fixture.pass(8 * 24 * 3600);
        assert!(fixture.inner.store.prune(Pruning::default()).await.unwrap().events > 0);
        assert_eq!(watch(&fixture, &token).await.err(), Some(Reason::PositionUnknown));
        // From nothing it begins with what is, and goes on from there.
        let token = caught_up(&mut watch(&fixture, "").await.unwrap()).await;
        assert!(watch(&fixture, &token).await.is_ok());
    }
}
