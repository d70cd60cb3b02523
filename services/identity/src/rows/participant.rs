//! A participant, as it is kept: nothing in it is personal, so it is kept as the contract has it.

use sammati_api::identity::v1 as api;
use sammati_kernel::{Micros, ParticipantId};
use sammati_store::{Record, Table};

/// A participant. Times and etag of the resource are filled in when it is shown.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ParticipantRow {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(int64, tag = "2")]
    pub(crate) version: i64,
    #[prost(message, optional, tag = "3")]
    pub(crate) resource: Option<api::Participant>,
    #[prost(int64, tag = "4")]
    pub(crate) create_time: i64,
    #[prost(int64, tag = "5")]
    pub(crate) update_time: i64,
}

impl ParticipantRow {
    pub(crate) fn id(&self) -> Option<ParticipantId> {
        ParticipantId::parse(&self.id).ok()
    }

    pub(crate) fn state(&self) -> api::participant::State {
        self.resource
            .as_ref()
            .map_or(api::participant::State::Unspecified, api::Participant::state)
    }

    pub(crate) fn is_active(&self) -> bool {
        self.state() == api::participant::State::Active
    }

    /// Notes a change.
    pub(crate) const fn touch(&mut self, now: Micros) {
        self.version += 1;
        self.update_time = now.0;
    }
}

impl Record for ParticipantRow {
    const TABLE: Table = Table {
        name: "participant",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone().into_bytes()
    }
}
