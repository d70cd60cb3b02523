//! Sessions on the wire.

use sammati_api::identity::v1::{AccessToken, Session};
use sammati_kernel::{CallerKind, Micros, Role};
use sammati_server::event::timestamp;

use super::kind_number;
use crate::rows::{SessionRow, etag};

/// A session, with the tokens that this answer carries.
pub(crate) fn session(row: &SessionRow, access_tokens: Vec<AccessToken>, refresh_token: String) -> Session {
    let roles = row.roles.iter().filter_map(|r| Role::parse(r)).filter_map(Role::kind);
    let kinds = match (&row.represented, row.account.is_empty()) {
        (Some(_), _) => vec![CallerKind::Representative],
        (None, false) => vec![CallerKind::Person],
        (None, true) => roles.collect(),
    };
    let representation = row.represented.as_ref().and_then(|r| r.representation());
    Session {
        name: row.name(),
        account: row.account().map(|a| a.name()).unwrap_or_default(),
        participant: row.participant().map(|p| p.name()).unwrap_or_default(),
        representation: representation.map(|id| id.name()).unwrap_or_default(),
        kinds: kinds.into_iter().map(kind_number).collect(),
        factors: row.factors.clone(),
        app: row.app.clone(),
        expire_time: Some(timestamp(Micros(row.expire_time))),
        access_tokens,
        refresh_token,
        create_time: Some(timestamp(Micros(row.create_time))),
        update_time: Some(timestamp(Micros(row.update_time))),
        etag: etag(row.version),
    }
}
