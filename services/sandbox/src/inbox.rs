//! The inbox: the last messages that were sent to anybody. A gateway that delivers nowhere.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prost_types::Timestamp;
use sammati_api::sandbox::v1::Message;

/// How many messages are kept; the oldest go first, and with them the memory that they were sent.
const KEPT: usize = 10_000;

/// What was sent, newest first.
#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    /// The newest at the front, each with its number.
    messages: VecDeque<(u64, Message)>,
    /// When each message in it was first taken.
    taken: HashMap<String, Option<Timestamp>>,
    next: u64,
}

/// A stretch of the inbox, newest first.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Stretch {
    pub(crate) messages: Vec<Message>,
    /// The number of the last message in it; `None` when nothing older follows.
    pub(crate) last: Option<u64>,
}

impl Inbox {
    /// Takes `message`, once per `message_id`: a repeat is dropped. Answers when it was first taken.
    pub(crate) fn take(&self, message: Message) -> Option<Timestamp> {
        let mut ring = self.lock();
        if let Some(first) = ring.taken.get(&message.message_id) {
            return *first;
        }
        let time = message.accept_time;
        ring.taken.insert(message.message_id.clone(), time);
        let number = ring.next;
        ring.next += 1;
        ring.messages.push_front((number, message));
        if ring.messages.len() > KEPT
            && let Some((_, oldest)) = ring.messages.pop_back()
        {
            ring.taken.remove(&oldest.message_id);
        }
        time
    }

    /// At most `size` messages older than the one with the number `before`; only those to `recipient` unless it is
    /// empty.
    pub(crate) fn read(&self, recipient: &str, before: Option<u64>, size: usize) -> Stretch {
        let ring = self.lock();
        let mut found = ring
            .messages
            .iter()
            .filter(|(number, _)| before.is_none_or(|before| *number < before))
            .filter(|(_, message)| recipient.is_empty() || message.recipient == recipient);
        let taken: Vec<&(u64, Message)> = found.by_ref().take(size).collect();
        let more = found.next().is_some();
        Stretch {
            last: taken.last().filter(|_| more).map(|(number, _)| *number),
            messages: taken.into_iter().map(|(_, message)| message.clone()).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: usize, recipient: &str) -> Message {
        Message {
            message_id: id.to_string(),
            recipient: recipient.to_owned(),
            accept_time: Some(Timestamp {
                seconds: i64::try_from(id).unwrap(),
                nanos: 0,
            }),
            ..Message::default()
        }
    }

    fn ids(stretch: &Stretch) -> Vec<&str> {
        stretch.messages.iter().map(|m| m.message_id.as_str()).collect()
    }

    #[test]
    fn a_message_is_taken_once() {
        let inbox = Inbox::default();
        let first = inbox.take(message(1, "a"));
        let mut again = message(1, "a");
        again.accept_time = None;
        assert_eq!(inbox.take(again), first);
        assert_eq!(ids(&inbox.read("", None, 9)), ["1"]);
    }

    #[test]
    fn the_newest_come_first_and_pages_join() {
        let inbox = Inbox::default();
        for id in 0..5 {
            inbox.take(message(id, if id % 2 == 0 { "even" } else { "odd" }));
        }
        let first = inbox.read("even", None, 2);
        assert_eq!(ids(&first), ["4", "2"]);
        inbox.take(message(6, "even"));
        let second = inbox.read("even", first.last, 2);
        assert_eq!((ids(&second), second.last), (vec!["0"], None));
        assert_eq!(inbox.read("", None, 6).last, None);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let inbox = Inbox::default();
        for id in 0..KEPT + 3 {
            inbox.take(message(id, "a"));
        }
        let all = inbox.read("", None, usize::MAX);
        assert_eq!(all.messages.len(), KEPT);
        assert_eq!(all.messages.last().unwrap().message_id, "3");
        assert_eq!(inbox.lock().taken.len(), KEPT);
    }
}
