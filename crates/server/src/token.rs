//! What does an access token say? The claims of an `at+jwt` (RFC 9068), signed with EdDSA.

use sammati_kernel::jws::{self, PublicKey, SigningKey};
use sammati_kernel::{
    AccountId, Actor, Micros, ParticipantId, Power, PurposeCode, RepresentationId, RepresentationKind,
};
use sammati_kernel::{Representing, Role, SessionId};
use serde::{Deserialize, Serialize};

/// The kind of token, in its header's `typ`.
pub const TYP: &str = "at+jwt";

/// The claims. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who made it: the URL or name of identity.
    pub iss: String,
    /// The one service that accepts it: `identity`, `consent` or `audit`.
    pub aud: String,
    /// Whom it stands for: `accounts/{id}`, `participants/{id}`, or `representations/{id}` of one who acts for another. A
    /// reader that does not know representatives knows no such name, and takes the token for nobody's.
    pub sub: String,
    /// The id of the session it belongs to, without its collection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The roles a participant acts in, as in `HIP`; empty for a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The app a person logged in through, `participants/{id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// When the person last proved who she is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// When it was made.
    pub iat: i64,
    /// Before when it is not good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// From when it is not good.
    pub exp: i64,
    /// Its own id.
    pub jti: String,
    /// The client certificate it is bound to (RFC 8705).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    /// The service that acts with it, and the only one that may (RFC 8693).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<Acting>,
    /// Who acts for whom, and how far; with a representation alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rep: Option<Representative>,
}

/// `cnf`: what the holder must show besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// base64url of the SHA-256 of the client certificate's DER.
    #[serde(rename = "x5t#S256")]
    pub x5t_s256: String,
}

/// `act`: who acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acting {
    /// `services/{name}`.
    pub sub: String,
}

/// `rep`: who acts for whom, and how far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Representative {
    /// For whom: `accounts/{id}`.
    pub principal: String,
    /// Who acts: `accounts/{id}`.
    pub representative: String,
    /// As in `GUARDIAN`.
    pub kind: String,
    /// As in `READ`.
    pub powers: Vec<String>,
    /// The codes of the purposes that it is held to; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub purposes: Vec<String>,
    /// The participants that it is held to, `participants/{id}`; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub participants: Vec<String>,
    /// From when the representation is over, in microseconds since 1970: consents granted under it end with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends: Option<i64>,
}

impl Claims {
    /// Whom the token stands for; `None` when the claims contradict each other.
    pub fn actor(&self) -> Option<Actor> {
        if let Ok(id) = ParticipantId::parse_name(&self.sub) {
            let roles = self.roles.iter().map(|r| Role::parse(r)).collect::<Option<_>>()?;
            return Some(Actor::Participant { id, roles });
        }
        let app = match &self.app {
            Some(name) => Some(ParticipantId::parse_name(name).ok()?),
            None => None,
        };
        let (session, auth_time) = (self.session()?, self.auth_time?);
        if let Some(representation) = RepresentationId::parse_name(&self.sub) {
            let acting = self.rep.as_ref()?.acting(representation, session, app, auth_time)?;
            return Some(Actor::Representative(Box::new(acting)));
        }
        Some(Actor::Person {
            account: AccountId::parse_name(&self.sub)?,
            session,
            app,
            auth_time,
        })
    }

    /// The accounts it stands on: hers, or of a representation both.
    pub fn accounts(&self) -> impl Iterator<Item = AccountId> {
        let rep = self.rep.as_ref();
        let both = rep.map(|rep| [&rep.principal, &rep.representative]);
        std::iter::once(&self.sub)
            .chain(both.into_iter().flatten())
            .filter_map(|name| AccountId::parse_name(name))
    }

    /// The session it belongs to.
    pub fn session(&self) -> Option<SessionId> {
        self.sid.as_deref()?.parse().ok()
    }

    /// Whether it is good at `now`, as far as time goes.
    pub fn is_live(&self, now: Micros) -> bool {
        let over = self
            .rep
            .as_ref()
            .and_then(|rep| rep.ends)
            .is_some_and(|ends| now.0 >= ends);
        !over && now < Micros::from_seconds(self.exp) && self.nbf.is_none_or(|nbf| now >= Micros::from_seconds(nbf))
    }
}

impl Representative {
    /// How it stands in a token.
    pub fn of(acting: &Representing) -> Self {
        Self {
            principal: acting.principal.name(),
            representative: acting.representative.name(),
            kind: acting.kind.as_str().to_owned(),
            powers: acting.powers.iter().map(|p| p.as_str().to_owned()).collect(),
            purposes: acting.purposes.iter().map(|p| p.code().to_owned()).collect(),
            participants: acting.participants.iter().map(ParticipantId::name).collect(),
            ends: acting.ends.map(|ends| ends.0),
        }
    }

    /// Who acts; `None` when a word is unknown: a limit that is not understood must not be passed over.
    fn acting(
        &self,
        representation: RepresentationId,
        session: SessionId,
        app: Option<ParticipantId>,
        auth_time: i64,
    ) -> Option<Representing> {
        let purpose = |code: &String| PurposeCode::ALL.into_iter().find(|p| p.code() == code);
        Some(Representing {
            representation,
            principal: AccountId::parse_name(&self.principal)?,
            representative: AccountId::parse_name(&self.representative)?,
            kind: RepresentationKind::parse(&self.kind)?,
            powers: self.powers.iter().map(|p| Power::parse(p)).collect::<Option<_>>()?,
            purposes: self.purposes.iter().map(purpose).collect::<Option<_>>()?,
            participants: self
                .participants
                .iter()
                .map(|name| ParticipantId::parse_name(name).ok())
                .collect::<Option<_>>()?,
            ends: self.ends.map(Micros),
            session,
            app,
            auth_time,
        })
    }
}

/// Makes the token that says `claims`.
///
/// # Errors
/// When the claims cannot be written as JSON.
pub fn issue(key: &SigningKey, claims: &Claims) -> Result<String, serde_json::Error> {
    key.sign(TYP, claims)
}

/// Reads a token that is signed with a key that `find` knows. Says nothing about time, audience or holder.
///
/// # Errors
/// What is wrong with its form or signature.
pub fn read(token: &str, find: impl Fn(&str) -> Option<PublicKey>) -> Result<Claims, jws::Bad> {
    jws::verify(token, TYP, find)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sammati_kernel::Slot;

    fn claims() -> Claims {
        let account = |n: u8| AccountId::new(Micros(1), Slot::new(1), [n; 8]).name();
        Claims {
            iss: "identity".to_owned(),
            aud: "consent".to_owned(),
            sub: RepresentationId::new(Micros(1), Slot::new(1), [1; 8]).name(),
            sid: Some(SessionId::new(Micros(1), Slot::new(1), [1; 8]).to_string()),
            roles: Vec::new(),
            app: None,
            auth_time: Some(5),
            iat: 5,
            nbf: None,
            exp: 305,
            jti: "1".to_owned(),
            cnf: None,
            act: None,
            rep: Some(Representative {
                principal: account(1),
                representative: account(2),
                kind: "DELEGATE".to_owned(),
                powers: vec!["READ".to_owned(), "DECIDE".to_owned()],
                purposes: vec!["CAREMGT".to_owned()],
                participants: vec!["participants/HOSP-1".to_owned()],
                ends: Some(100_000_000),
            }),
        }
    }

    #[test]
    fn a_representative_comes_back_as_it_was_written() {
        let Some(Actor::Representative(acting)) = claims().actor() else {
            panic!("a representative")
        };
        assert_eq!(Some(Representative::of(&acting)), claims().rep);
        assert_eq!(claims().accounts().count(), 2);
    }

    #[test]
    fn z1_a_limit_that_is_not_understood_makes_nobody_of_the_token() {
        let change: [fn(&mut Representative); 4] = [
            |rep| rep.powers.push("EVERYTHING".to_owned()),
            |rep| rep.purposes.push("MARKETING".to_owned()),
            |rep| rep.participants.push("somebody".to_owned()),
            |rep| rep.kind = "FRIEND".to_owned(),
        ];
        for change in change {
            let mut claims = claims();
            claims.rep.as_mut().into_iter().for_each(change);
            assert_eq!(claims.actor(), None);
        }
        let bare = Claims { rep: None, ..claims() };
        assert_eq!(bare.actor(), None);
    }

    #[test]
    fn c2_a_token_is_over_with_the_representation() {
        assert!(claims().is_live(Micros(99_999_999)));
        assert!(!claims().is_live(Micros(100_000_000)));
    }
}
