//! Once a revoke has returned, nothing permits (C4).

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use sammati_api::consent::v1::decision::Reason;
use sammati_kernel::AccountId;
use sammati_tests::story::Person;

use crate::worlds::World;

#[tokio::test(flavor = "multi_thread")]
async fn c4_after_revoke_returned_nothing_permits_on_any_replica() {
    for world in World::all().await {
        let person = world.person().await;
        let given = world.story.consent(&person, world.story.scope()).await.unwrap();
        let question = world.story.question(&given.name);
        let heard = world
            .story
            .notification(&world.story.hospital, &given.name)
            .await
            .unwrap();
        world
            .story
            .acknowledge(&world.story.hospital, &heard.name)
            .await
            .unwrap();
        for replica in 0..world.replicas {
            let before = world.story.check(replica, question.clone()).await.unwrap();
            assert_eq!(before.reason(), Reason::Granted, "cached on replica {replica}");
        }
        assert_eq!(
            world
                .story
                .revoke(0, &person, &[&given.name])
                .await
                .unwrap()
                .changed_count,
            1
        );
        let (story, question, name) = (&world.story, &question, given.name.as_str());
        let other = world.replicas - 1;
        let decisions = futures::stream::iter(0..10_000_usize).map(|n| async move {
            let decision = if n % 10 == 0 {
                story.authorize(other, name).await
            } else {
                story.check(other, question.clone()).await
            };
            decision.unwrap().reason()
        });
        let reasons: BTreeSet<_> = decisions.buffer_unordered(64).map(|r| r.as_str_name()).collect().await;
        assert_eq!(reasons, BTreeSet::from([Reason::ConsentRevoked.as_str_name()]));
        world.system.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_a_commit_about_somebody_else_hides_no_revoke_of_another_replica() {
    for world in World::all().await {
        let story = &world.story;
        let (asha, other) = neighbours(&world).await;
        // One replica has her in memory, another takes the revoke.
        let (here, there) = (0, world.replicas - 1);
        for round in 0..10 {
            let given = story.consent(&asha, story.scope()).await.unwrap();
            let heard = story.notification(&story.hospital, &given.name).await.unwrap();
            story.acknowledge(&story.hospital, &heard.name).await.unwrap();
            let asked = story.ask(&other, story.scope()).await.unwrap();
            let question = story.question(&given.name);
            let before = story.check(here, question.clone()).await.unwrap();
            assert_eq!(before.reason(), Reason::Granted, "round {round}: in memory");
            story.revoke(there, &asha, &[&given.name]).await.unwrap();
            // A commit of this replica, in the same partition and after the revoke, about somebody else.
            story.approve(&other, &asked, None).await.unwrap();
            let after = story.check(here, question).await.unwrap();
            assert_eq!(after.reason(), Reason::ConsentRevoked, "round {round}");
        }
        world.system.stop().await;
    }
}

/// Two people who live in one partition.
async fn neighbours(world: &World) -> (Person, Person) {
    // As many as a database has when nothing else is said: their ids carry the slot.
    let partitions = if world.replicas > 1 { 64 } else { 4 };
    let mut living: BTreeMap<u16, Person> = BTreeMap::new();
    for entry in world
        .story
        .people()
        .await
        .unwrap()
        .iter()
        .filter(|p| !p.mobile.is_empty())
    {
        let person = world.story.enrol(entry).await.unwrap();
        let id = AccountId::parse_name(&person.account.name).unwrap();
        if let Some(neighbour) = living.insert(id.slot().number() % partitions, person.clone()) {
            return (neighbour, person);
        }
    }
    panic!("nobody lives beside anybody");
}
