//! What a result cites: how many, and a digest of what was told, signed. Nobody is named in it.

use ring::digest::{Context, SHA256, digest};
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::decision::Reason;
use sammati_kernel::{Micros, hex};
use sammati_server::event::timestamp;
use serde_json::json;

use crate::artefact::canonical;
use crate::decision::record::reason_text;
use crate::rows::MemberRow;

/// The `typ` of a manifest.
pub const TYP: &str = "cohort-manifest+jwt";

/// What was told so far.
#[derive(Clone)]
pub struct Told {
    digest: Context,
    members: i64,
    permits: i64,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            digest: Context::new(&SHA256),
            members: 0,
            permits: 0,
        }
    }
}

impl Told {
    /// And these.
    pub fn add(&mut self, members: &[MemberRow]) {
        for member in members {
            self.digest.update(line(member).as_bytes());
            self.members += 1;
            self.permits += i64::from(member.permits());
        }
    }

    /// How many there are.
    pub const fn members(&self) -> i64 {
        self.members
    }

    /// SHA-256 of all.
    pub fn sha256(&self) -> Vec<u8> {
        self.digest.clone().finish().as_ref().to_vec()
    }
}

/// SHA-256 of these members alone.
pub fn sha256(members: &[MemberRow]) -> Vec<u8> {
    let lines: String = members.iter().map(line).collect();
    digest(&SHA256, lines.as_bytes()).as_ref().to_vec()
}

fn line(member: &MemberRow) -> String {
    let reason = Reason::try_from(member.reason).unwrap_or_default();
    format!(
        "{} {} {} {} {}\n",
        member.pseudonym,
        if member.permits() { "PERMIT" } else { "DENY" },
        reason_text(reason),
        member.version,
        Micros(member.erase).seconds(),
    )
}

/// Of which run a manifest is.
pub struct Of<'a> {
    /// The consent manager.
    pub manager: &'a str,
    /// Whose it is: a participant's name.
    pub to: &'a str,
    /// The study's name.
    pub study: &'a str,
    /// The node's name; empty for all.
    pub node: &'a str,
    /// The run.
    pub run: &'a str,
    /// The places of the feeds.
    pub revision: &'a str,
    /// When.
    pub at: Micros,
}

/// The claims of a manifest, as they are signed.
pub fn claims(of: &Of<'_>, told: &Told) -> String {
    canonical(&json!({
        "iss": of.manager,
        "aud": of.to,
        "iat": of.at.seconds(),
        "study": of.study,
        "node": of.node,
        "run": of.run,
        "member_count": told.members,
        "permit_count": told.permits,
        "sha256": hex(told.digest.clone().finish().as_ref()),
        "revision": of.revision,
    }))
}

/// The manifest on the wire.
pub fn render(of: &Of<'_>, told: Told, jws: String) -> api::CohortManifest {
    api::CohortManifest {
        study: of.study.to_owned(),
        node: of.node.to_owned(),
        run: of.run.to_owned(),
        member_count: told.members,
        permit_count: told.permits,
        sha256: hex(told.digest.finish().as_ref()),
        revision: of.revision.to_owned(),
        create_time: Some(timestamp(of.at)),
        jws,
    }
}
