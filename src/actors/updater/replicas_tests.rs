//! What is published together: one bad request spoils no other, and heads that
//! moved are told of.

use super::*;
use crate::flows::replicas::{Epoch, Modification};
use crate::time::Timestamp;
use std::sync::Mutex;

type CallLane<M, T, E> = super::super::lane::CallLane<M, T, E>;

/// Publishes all, but refuses a group whole in which a key is called `poison`.
#[derive(Debug, Default)]
struct Fake {
    groups: Mutex<Vec<usize>>,
    moved: Mutex<Vec<String>>,
}

impl ReplicaWriter for Fake {
    fn publish(
        &self,
        requests: Vec<(PublishRequest, HistorySettings)>,
    ) -> BoxFuture<'_, Vec<Result<Published, PublishError>>> {
        self.groups.lock().unwrap().push(requests.len());
        let keys = |request: &PublishRequest| -> Vec<String> {
            let modifications = request.modifications.iter();
            modifications.map(|m| m.key().to_owned()).collect()
        };
        let poisoned = requests
            .iter()
            .any(|(request, _)| keys(request).iter().any(|key| key == "poison"));
        let answers = requests.iter().map(|(request, history)| {
            if poisoned {
                return Err(PublishError::Refused("no".to_owned()));
            }
            if request.if_head == Some(7) {
                return Err(PublishError::HeadMoved(8));
            }
            Ok(Published {
                epoch: Epoch::told("e"),
                head: i64::try_from(history.changes).unwrap(),
                repeated: request.idempotency.is_some(),
            })
        });
        let answers = answers.collect();
        Box::pin(std::future::ready(answers))
    }

    fn apply<'a>(
        &'a self,
        _: &'a str,
        edits: Vec<ReplicaEdit>,
    ) -> BoxFuture<'a, Vec<Result<Applied, ApplyError>>> {
        // One answer is forgotten.
        let answers = vec![Ok(Applied::default()); edits.len() - 1];
        Box::pin(std::future::ready(answers))
    }

    fn moved(&self, content: &Content) {
        let told = format!("{} {}", content.kind.as_str(), content.name);
        self.moved.lock().unwrap().push(told);
    }
}

fn name(name: &str) -> DatasetName {
    DatasetName::parse(name).unwrap()
}

fn with(writer: &Arc<Fake>, kind: ContentKind) -> With {
    let prices = Content {
        kind,
        name: name("prices"),
    };
    let history = HistorySettings {
        changes: 42,
        ..HistorySettings::default()
    };
    With {
        writer: writer.clone(),
        holder: "h".to_owned(),
        kind,
        histories: [(prices, history)].into(),
    }
}

fn request(dataset: &str, key: &str) -> PublishRequest {
    PublishRequest {
        dataset: name(dataset),
        modifications: vec![Modification::Delete(key.to_owned())],
        if_head: None,
        idempotency: None,
    }
}

#[tokio::test]
async fn one_request_that_is_refused_spoils_no_other_and_heads_that_moved_are_told() {
    let fake = Arc::new(Fake::default());
    let mut lane: CallLane<Waiting<PublishRequest>, Published, PublishError> = CallLane::default();
    let mut push = |request| lane.push(Waiting(request), 1, 1);
    let good = push(request("prices", "a"));
    let bad = push(request("prices", "poison"));
    let moved = push(PublishRequest {
        if_head: Some(7),
        ..request("prices", "b")
    });
    let repeated = push(PublishRequest {
        idempotency: Some(("k".to_owned(), "f".to_owned())),
        ..request("others", "c")
    });
    let (calls, _) = lane.take_group(100);
    write_publishes(&with(&fake, ContentKind::Dataset), calls).await;
    assert_eq!(good.await.unwrap().head, 42, "with the history configured");
    assert!(matches!(bad.await, Err(PublishError::Refused(_))));
    assert_eq!(moved.await, Err(PublishError::HeadMoved(8)));
    assert!(repeated.await.unwrap().repeated);
    assert_eq!(*fake.groups.lock().unwrap(), [4, 1, 1, 1, 1]);
    let told = fake.moved.lock().unwrap().clone();
    assert_eq!(told, ["dataset prices"], "a repeated request moves nothing");
}

#[tokio::test]
async fn who_is_not_answered_is_told_so_and_only_what_is_served_moves() {
    let fake = Arc::new(Fake::default());
    let mut lane: CallLane<Waiting<Apply>, Applied, ApplyError> = CallLane::default();
    let mut push = |replica: &str, change| {
        let stake = LeaseStake {
            name: "replicas:x".to_owned(),
            epoch: 1,
        };
        let apply = Apply {
            replica: name(replica),
            stake,
            change,
        };
        lane.push(Waiting(apply), 1, 1)
    };
    let live = ReplicaChange::Live {
        generation: 1,
        head: 1,
    };
    let heard = ReplicaChange::Heard {
        upstream_head: 5,
        at: Timestamp::now(),
        level: true,
    };
    let first = push("prices", live.clone());
    let second = push("heard", heard);
    let third = push("forgotten", live);
    let (calls, _) = lane.take_group(100);
    write_applies(&with(&fake, ContentKind::Replica), calls).await;
    assert_eq!(first.await, Ok(Applied::default()));
    assert_eq!(second.await, Ok(Applied::default()));
    assert!(matches!(third.await, Err(ApplyError::Away(_))));
    assert_eq!(*fake.moved.lock().unwrap(), ["replica prices"]);
}
