//! What a caller carries from call to call: tokens as they arrive, and what a signature or a seal has let through.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use sammati_consent::artefact::{self, ArtefactKeys, verify};
use sammati_consent::break_glass::count;
use sammati_consent::link::token::{self as link, LinkTokens, Parts};
use sammati_consent::notification::token::ResumeTokens;
use sammati_kernel::jws::{self, PublicKey, SigningKey};
use sammati_kernel::{Caller, Key, Micros, ParticipantId};
use sammati_server::page::PageTokens;
use sammati_server::{action, token};
use sammati_store::{Head, Revision};

use super::{Family, callers};

pub(super) const FAMILY: Family = Family {
    name: "tokens",
    read,
    seeds,
};

/// PKCS#8 version 1 of an Ed25519 key up to its 32-byte seed (RFC 8410 §7).
pub(super) const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

const METHOD: &str = "sammati.consent.v1.ConsentService/RevokeConsents";
const NONCE: [u8; 12] = [5; 12];

struct Ours {
    she: Caller,
    hip: ParticipantId,
    key: Key,
    keys: ArtefactKeys,
}

static OURS: LazyLock<Ours> = LazyLock::new(|| {
    let der = [PKCS8.as_slice(), &[7; 32]].concat();
    let [she, _] = callers();
    Ours {
        she,
        hip: ParticipantId::parse("HOSP-1").expect("an id"),
        key: Key::from_bytes([3; 32]),
        keys: ArtefactKeys::of(SigningKey::from_pkcs8(&der).expect("a key")),
    }
});

fn find(kid: &str) -> Option<PublicKey> {
    OURS.keys.find(kid)
}

fn read(bytes: &[u8]) {
    sealed(bytes);
    if let Some(parts) = Parts::decode(bytes) {
        assert_eq!(parts.encode(), bytes);
    }
    let _ = count::read(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        as_it_came(text);
    }
    for typ in [token::TYP, action::TYP, artefact::TYP, link::TYP] {
        let key = OURS.keys.active();
        any_token(&key.sign_input(&key.signing_input(typ, bytes)));
    }
}

fn as_it_came(text: &str) {
    if jws::header_of(text).is_ok() {
        assert!(text.len() <= jws::MAX_TOKEN);
    }
    any_token(text);
    if let Some(key) = PublicKey::from_jwk(text) {
        assert_eq!(PublicKey::from_jwk(&key.to_jwk()), Some(key));
    }
    let pages = PageTokens::new(&OURS.key);
    for size in [-1, 0, 7, i32::MAX] {
        let page = pages.page(&OURS.she, METHOD, &(), size, text);
        assert!(page.is_ok_and(|page| page.size <= 1000) || size < 0 || !text.is_empty());
    }
    let _ = ResumeTokens::new(&OURS.key).open("she", text, &heads());
    if let Some(opened) = Revision::open(&OURS.key, text) {
        assert_eq!(opened, revision(), "nobody else has the key");
    }
}

/// Whatever kind of token it is.
fn any_token(text: &str) {
    if let Ok(claims) = token::read(text, find) {
        let _ = (claims.actor(), claims.accounts().count(), claims.session());
    }
    let call = action::Call {
        caller: &OURS.she,
        audience: "consent",
        method: METHOD,
        resource: "consents/1",
        body_sha256: String::new(),
    };
    let _ = call.read(text, find);
    for now in [0, 1_800_000_000] {
        if let Ok((read, wrong)) = verify::read(&OURS.keys, text, "sbx", Some(&OURS.hip), Micros::from_seconds(now)) {
            let _ = read.consent();
            assert!(wrong.is_some() || read.iss == "sbx");
        }
    }
    let _ = LinkTokens::new(&OURS.key, "sbx").read(&OURS.keys, &OURS.hip, text);
}

/// What we sealed, if we had sealed this.
fn sealed(bytes: &[u8]) {
    let seal = |label: &str, bound: &[u8]| {
        let sealed = OURS.key.derive(label).seal_with(NONCE, bound, bytes);
        B64.encode(sealed.expect("it seals"))
    };
    if let Some(revision) = Revision::open(&OURS.key, &seal("revision", b"revision")) {
        assert_eq!(Revision::open(&OURS.key, &revision.seal(&OURS.key)), Some(revision));
    }
    let places = ResumeTokens::new(&OURS.key);
    if let Ok(read) = places.open("she", &seal("notification places", b"she"), &heads()) {
        assert_eq!(read.places.len(), heads().len());
    }
}

fn heads() -> [(i64, Head); 1] {
    let head = Head {
        epoch: 1,
        next: 10,
        chain: vec![1; 32],
    };
    [(0, head)]
}

fn revision() -> Revision {
    Revision {
        partition: 1,
        epoch: 1,
        next: 10,
        chain: vec![1; 32],
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let id = super::id();
    let claims = format!(
        r#"{{"iss":"identity","aud":"consent","sub":"{}","sid":"{id}","roles":[],"auth_time":5,"iat":5,"exp":305,"jti":"1"}}"#,
        id.name()
    );
    let representing = format!(
        r#"{{"iss":"identity","aud":"consent","sub":"representations/{id}","sid":"{id}","roles":[],"auth_time":5,"iat":5,"exp":305,"jti":"1","rep":{{"principal":"{0}","representative":"{0}","kind":"DELEGATE","powers":["READ"],"ends":100000000}}}}"#,
        id.name()
    );
    let of_link = r#"{"aud":"participants/HOSP-1","exp":305,"iat":5,"iss":"sbx","jti":"AA","sub":"AA"}"#.to_owned();
    let key = OURS.keys.active();
    let signed = key.sign_input(&key.signing_input(token::TYP, claims.as_bytes()));
    let parts = Parts {
        account: id,
        issued: Micros(5),
        id: [9; 16],
    };
    let mut seeds = vec![parts.encode(), Vec::new()];
    seeds.extend([claims, representing, of_link, signed, revision().seal(&OURS.key)].map(String::into_bytes));
    seeds.push(find(key.kid()).map(|key| key.to_jwk()).unwrap_or_default().into_bytes());
    // As a revision is before it is sealed, and the places of a token.
    seeds.push([[0; 7].as_slice(), &[1; 1], &[0; 8], &[0; 8], &[7; 32]].concat());
    seeds.push(vec![0x0a, 6, 8, 0, 16, 1, 24, 4]);
    seeds
}
