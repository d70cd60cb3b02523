//! Values everyone agrees on, and no I/O: numbers, addresses, ids, time, callers, refusals, secrets.

mod aadhaar;
mod abha_address;
mod abha_number;
mod caller;
mod clock;
mod contact;
mod hex;
mod hi_type;
mod id;
mod india;
pub mod jws;
mod key;
mod password;
mod purpose;
mod refusal;
mod representation;
mod secret;
mod seed;

pub use aadhaar::AadhaarNumber;
pub use abha_address::{AbhaAddress, AddressSuffix, LocalPart};
pub use abha_number::AbhaNumber;
pub use caller::{Actor, Caller, CallerKind, ParticipantId, Peer, Role};
pub use clock::{Clock, ManualClock, Micros, SystemClock};
pub use contact::{MobileNumber, masked_mobile};
pub use hex::hex;
pub use hi_type::{AccessMode, HiType};
pub use id::{
    AccountId, ConsentId, ConsentRequestId, DiscoveryId, Id, IdKind, LinkId, NoticeId, NotificationId, PolicyId,
    ProfileShareId, SLOTS, StatusListId, StudyId, SubscriptionId,
};
pub use id::{RepresentationId, RightsRequestId, SessionId, Slot, TransactionId, TransferId};
pub use india::{EAST, year_in_india};
pub use key::{Key, Mac};
pub use password::{weakness_of_password, weakness_of_pin};
pub use purpose::PurposeCode;
pub use refusal::{Code, Fact, Reason, Refusal, Resource, Violation, Violations};
pub use representation::{Power, RepresentationKind, Representing};
pub use secret::Secret;
pub use seed::Seed;
