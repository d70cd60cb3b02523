//! What the e-KYC agency said to a sending.

use sammati_kernel::{Micros, Refusal, Slot, TransactionId};
use sammati_store::{Command, Keys, View};

use crate::rows::TransactionRow;

/// The agency has sent OTP number `send`. Harmless when repeated.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) id: TransactionId,
    pub(crate) send: i32,
    pub(crate) provider_transaction: String,
    /// A sealed `Target`.
    pub(crate) target: Vec<u8>,
    /// Until when the agency takes the OTP; we take it no longer than any other.
    pub(crate) otp_end: Option<Micros>,
}

impl Command for Started {
    type Answer = ();
    const NAME: &'static str = "identity.kyc_started";

    fn slot(&self) -> Slot {
        self.id.slot()
    }

    /// Who cannot sign in cannot take anything back.
    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<TransactionRow>(self.id.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let Some(mut row) = view.get::<TransactionRow>(self.id.as_bytes()) else {
            return Ok(());
        };
        if row.started >= self.send {
            return Ok(());
        }
        row.started = self.send;
        row.provider_transaction.clone_from(&self.provider_transaction);
        row.target.clone_from(&self.target);
        if let Some(end) = self.otp_end {
            row.otp_end = row.otp_end.min(end.0);
        }
        row.touch(view.now());
        view.put(&row);
        Ok(())
    }
}
