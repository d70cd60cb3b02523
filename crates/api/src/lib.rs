//! The contracts as Rust: messages, clients, servers, and the descriptors with their options and comments.
//!
//! Everything but [`access`], [`codec`] and [`json`] is generated from `proto/`. The `Debug` of a message leaves out the fields that the
//! contract marks as PII, SECRET or LINKABLE.

pub mod access;
pub mod codec;
#[cfg(test)]
mod contract;
pub mod json;

/// All contracts as an encoded `google.protobuf.FileDescriptorSet`, imports, options and comments included: what
/// reflection serves and [`access`] reads.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub use r#type as types;

macro_rules! package {
    ($(#[$attribute:meta])* $name:ident, $file:literal) => {
        $(#[$attribute])*
        pub mod $name {
            /// The first version.
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/", $file));
            }
        }
    };
}

package! {
    /// What all packages share: values, caller kinds, reasons of refusals.
    r#type, "sammati.r#type.v1.rs"
}
package! {
    /// Who: enrolment, accounts, addresses, sessions, participants.
    #[expect(unused_qualifications, clippy::allow_attributes, clippy::large_enum_variant, reason = "generated")]
    identity, "sammati.identity.v1.rs"
}
package! {
    /// What may flow: requests, consents, artefacts, decisions, links, transfers.
    #[expect(unused_qualifications, clippy::allow_attributes, clippy::large_enum_variant, rustdoc::invalid_html_tags, rustdoc::bare_urls, reason = "generated")]
    consent, "sammati.consent.v1.rs"
}
package! {
    /// What happened: append, read, prove.
    #[expect(unused_qualifications, clippy::allow_attributes, clippy::large_enum_variant, rustdoc::invalid_html_tags, reason = "generated")]
    audit, "sammati.audit.v1.rs"
}
package! {
    /// What identity needs from outside: e-KYC and messages.
    #[expect(unused_qualifications, clippy::allow_attributes, reason = "generated")]
    provider, "sammati.provider.v1.rs"
}
package! {
    /// What stands in for the outside on a laptop.
    #[expect(unused_qualifications, clippy::allow_attributes, reason = "generated")]
    sandbox, "sammati.sandbox.v1.rs"
}
