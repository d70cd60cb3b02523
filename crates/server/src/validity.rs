//! From when until when is a certificate good? Two fields of its DER, which webpki checks and does not tell.

use chrono::NaiveDateTime;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// The first and last second of a certificate's validity, counted from 1970; `None` for what is no certificate.
pub(crate) fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (mut fields, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, rest)) = expect(fields, VERSION) {
        fields = rest;
    }
    // Serial number, algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, fields) = expect(fields, tag)?;
    }
    let (both, _) = expect(fields, SEQUENCE)?;
    let (from, rest) = time(both)?;
    let (until, _) = time(rest)?;
    Some((from, until))
}

/// The content of the first value, which has this tag, and what follows it.
fn expect(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = value(input)?;
    (found == tag).then_some((content, rest))
}

/// The tag and content of the first value, and what follows it.
fn value(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        let long = bytes.len() > 4;
        let length = bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte));
        (if long { usize::MAX } else { length }, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn time(input: &[u8]) -> Option<(i64, &[u8])> {
    let (tag, content, rest) = value(input)?;
    let text = std::str::from_utf8(content).ok()?;
    let text = match tag {
        // Two digits of the year: from 1950 until 2049.
        UTC_TIME if text.get(..2)? >= "50" => format!("19{text}"),
        UTC_TIME => format!("20{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok()?;
    Some((time.and_utc().timestamp(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn both_ends_are_read() {
        let authority = sammati_testkit::Authority::new("sammati.test").unwrap();
        let identity = authority.issue("service/consent", &["127.0.0.1"]).unwrap();
        let certificate = CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).unwrap();
        let (from, until) = validity(&certificate).unwrap();
        // The development authority's: 1 January 2020 and 1 January 2049.
        assert_eq!((from, until), (1_577_836_800, 2_493_072_000));
    }

    #[test]
    fn nothing_else_is_read_as_a_certificate() {
        let authority = sammati_testkit::Authority::new("sammati.test").unwrap();
        let certificate = CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap();
        let before_its_end = certificate
            .windows(1)
            .position(|b| b[0] == UTC_TIME || b[0] == GENERALIZED_TIME)
            .unwrap();
        for cut in 0..before_its_end {
            assert_eq!(validity(&certificate[..cut]), None, "{cut} bytes");
        }
        assert_eq!(validity(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
