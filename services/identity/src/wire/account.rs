//! Accounts on the wire.

use sammati_api::identity::v1::{Account, AccountType, Address, Factor, KycState, VerificationType};
use sammati_kernel::{AbhaNumber, Micros};
use sammati_server::event::timestamp;

use crate::rows::{AccountRow, Portrait, Profile, etag};

/// An account with everything sealed opened. Not to be printed.
pub(crate) struct Shown {
    pub(crate) row: AccountRow,
    pub(crate) number: Option<AbhaNumber>,
    /// In the order of the row's.
    pub(crate) addresses: Vec<String>,
    pub(crate) profile: Profile,
    /// In the full view only.
    pub(crate) portrait: Option<Portrait>,
    pub(crate) lock_until: Option<Micros>,
}

impl Shown {
    /// Her preferred address.
    pub(crate) fn preferred(&self) -> String {
        let at = self.row.addresses.iter().position(|a| a.preferred).unwrap_or(0);
        self.addresses.get(at).cloned().unwrap_or_default()
    }
}

/// The account as the contract has it; `masked` for operators.
pub(crate) fn account(shown: Shown, masked: bool) -> Account {
    let Shown {
        row,
        number,
        addresses,
        profile,
        portrait,
        lock_until,
    } = shown;
    let portrait = portrait.unwrap_or_default();
    let at = |time: i64| Some(timestamp(Micros(time)));
    let addresses = row.addresses.iter().zip(addresses).map(|(row, address)| Address {
        address: if masked { mask_address(&address) } else { address },
        preferred: row.preferred,
        create_time: at(row.create_time),
    });
    Account {
        name: row.name(),
        abha_number: number.map_or_else(String::new, |n| if masked { n.masked() } else { n.to_string() }),
        addresses: addresses.collect(),
        r#type: AccountType::Standard.into(),
        kyc_state: KycState::Verified.into(),
        verification_type: VerificationType::Aadhaar.into(),
        state: row.state,
        names: profile.names,
        birth: profile.birth,
        gender: profile.gender,
        photo: portrait.photo,
        mobile: if masked {
            mask_mobile(&profile.mobile)
        } else {
            profile.mobile
        },
        postal: portrait.postal,
        factors: factors(&row),
        lock_until_time: lock_until.map(timestamp),
        enrolment_consent: row.consent.clone(),
        create_time: at(row.create_time),
        update_time: at(row.update_time),
        etag: etag(row.version),
        delete_time: at(row.delete_time).filter(|_| row.delete_time != 0),
        purge_time: at(row.purge_time).filter(|_| row.purge_time != 0),
        pin_set_time: at(row.pin_time).filter(|_| !row.pin.is_empty()),
    }
}

fn factors(row: &AccountRow) -> Vec<i32> {
    let password = (!row.password.is_empty()).then_some(Factor::Password);
    let pin = (!row.pin.is_empty()).then_some(Factor::Pin);
    [Factor::AadhaarOtp, Factor::MobileOtp]
        .into_iter()
        .chain(password)
        .chain(pin)
        .map(i32::from)
        .collect()
}

/// The default address holds the number; only its last digits are shown.
fn mask_address(address: &str) -> String {
    match address.split_once('@') {
        Some((local, suffix)) if local.len() == 14 && local.bytes().all(|b| b.is_ascii_digit()) => {
            format!("**********{}@{suffix}", &local[10..])
        }
        _ => address.to_owned(),
    }
}

fn mask_mobile(mobile: &str) -> String {
    mobile.get(6..).map(|last| format!("******{last}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_sees_the_last_four_digits() {
        assert_eq!(mask_address("91123456789015@sbx"), "**********9015@sbx");
        assert_eq!(mask_address("asha.rao@sbx"), "asha.rao@sbx");
        assert_eq!(mask_mobile("9876543210"), "******3210");
        assert_eq!(mask_mobile(""), "");
    }
}
