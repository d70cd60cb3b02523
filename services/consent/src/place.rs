//! Where does a call about a person go? To her partition, or, where there is nobody, to one that is as good.

use sammati_kernel::{AccountId, Slot};

/// Where one call goes: a slot, and whose rows it is about there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The slot.
    pub slot: Slot,
    /// The owner of the rows: an account, or something that is none.
    pub owner: Vec<u8>,
    /// The person, if there is one.
    pub subject: Option<AccountId>,
}

impl Place {
    /// A person's.
    pub fn person(account: AccountId) -> Self {
        Self {
            slot: account.slot(),
            owner: account.to_vec(),
            subject: Some(account),
        }
    }
}
