//! No secret, OTP, Aadhaar number or personal datum in a log line, a metric or a database file in clear (S1).

use std::path::{Path, PathBuf};

use sammati_api::consent::v1 as consent;
use sammati_api::consent::v1::consent_request_service_client::ConsentRequestServiceClient;
use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::account_service_client::AccountServiceClient;
use sammati_api::identity::v1::set_credential_request::Credential;
use sammati_api::identity::v1::transaction::Purpose;
use sammati_tests::story::Failure;

use crate::reflection::page;
use crate::stage::proved;
use crate::world::{World, run};

/// Words that the story puts where personal words go.
const WORDS: [&str; 4] = ["kanarie-visit-7", "kanarie reason", "Kq4!zWr9#Tn", "MRN-1001"];

/// What must be found nowhere.
struct Canaries {
    /// By what it is.
    secrets: Vec<(&'static str, String)>,
}

impl Canaries {
    /// Tells the story once more, with words that can be found again.
    async fn sing(world: &World) -> Result<Self, Failure> {
        let story = &world.story;
        let register = story.people().await?;
        let entry = register
            .iter()
            .rev()
            .find(|p| !p.mobile.is_empty() && p.parents.is_empty())
            .ok_or("nobody")?;
        let person = story.enrol(entry).await?;
        let enrolment = story.otp(&entry.mobile).await?;
        let account = story.claim_address(&person, "kanarie.sings").await?;
        story.link(&person, &[WORDS[0]]).await?;
        let given = story.consent(&person, story.scope()).await?;
        story.revoke(0, &person, &[&given.name]).await?;
        let asked = story.ask(&person, story.scope()).await?;
        let deny = consent::DenyConsentRequestRequest {
            name: asked.name,
            reason: WORDS[1].into(),
            etag: String::new(),
            request_id: story.rid(),
        };
        ConsentRequestServiceClient::new(person.who.consent())
            .deny_consent_request(deny)
            .await?;
        let transaction = proved(story, &person.who, entry, Purpose::SetCredential, None).await?;
        let change = story.otp(&entry.mobile).await?;
        let set = identity::SetCredentialRequest {
            request_id: story.rid(),
            name: account.name.clone(),
            etag: String::new(),
            transaction,
            credential: Some(Credential::Password(WORDS[2].into())),
        };
        AccountServiceClient::new(person.who.identity())
            .set_credential(set)
            .await?;
        // The log has it all before anybody looks.
        story.trail(&person).await?;
        let mut secrets = vec![
            ("the Aadhaar number", entry.aadhaar.clone()),
            ("an OTP of the enrolment", enrolment),
            ("an OTP of the new password", change),
            ("the mobile", entry.mobile.clone()),
            ("the ABHA number", person.account.abha_number.clone()),
            ("the ABHA number's digits", person.account.abha_number.replace('-', "")),
            ("the chosen address", "kanarie.sings".to_owned()),
            ("the name", entry.local_name.clone()),
        ];
        secrets.extend(WORDS.map(|word| ("a word of hers", word.to_owned())));
        for token in person.who.tokens.values().chain(story.hospital.tokens.values()) {
            let signature = token.rsplit('.').next().unwrap_or_default();
            secrets.push(("a token", signature.to_owned()));
        }
        Ok(Self { secrets })
    }

    /// What of it is in `text`. Digits count where no other digit is beside them: six of them are in many numbers.
    fn found(&self, text: &[u8]) -> Vec<&'static str> {
        let is_there = |secret: &str| {
            let secret = secret.as_bytes();
            let all_digits = secret.iter().all(u8::is_ascii_digit);
            let alone = |at: usize| {
                let before = at.checked_sub(1).and_then(|n| text.get(n));
                let after = text.get(at + secret.len());
                ![before, after].into_iter().flatten().any(u8::is_ascii_digit)
            };
            text.windows(secret.len())
                .enumerate()
                .any(|(at, window)| window == secret && (!all_digits || alone(at)))
        };
        self.secrets
            .iter()
            .filter(|(_, secret)| is_there(secret))
            .map(|(what, _)| *what)
            .collect()
    }
}

/// All database files: `*.db`, `*.db-wal`, `*.db-shm`.
fn databases(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder.join("data")).expect("the data");
    let paths = files.map(|file| file.expect("a file").path());
    paths.filter(|path| path.to_string_lossy().contains(".db")).collect()
}

#[test]
fn nothing_secret_is_kept_or_told_in_clear() {
    run(async |world| {
        let canaries = Canaries::sing(world).await.expect("the story goes well");
        let files = databases(&world.story.addresses.folder);
        for name in ["identity.db", "consent.db", "audit.db", "audit-keys.db"] {
            assert!(
                files.iter().any(|file| file.ends_with(name)),
                "{name} is missing in {files:?}"
            );
        }
        let mut findings = Vec::new();
        for file in files.iter().chain([&world.log]) {
            let found = canaries.found(&std::fs::read(file).expect("a file"));
            findings.extend(found.into_iter().map(|what| format!("{what} is in {}", file.display())));
        }
        for server in ["identity", "consent", "audit", "sandbox"] {
            let found = canaries.found(page(world, server, "/metrics").await.1.as_bytes());
            findings.extend(
                found
                    .into_iter()
                    .map(|what| format!("{what} is in the metrics of {server}")),
            );
        }
        assert!(findings.is_empty(), "{}", findings.join("\n"));
        // The search itself finds what is there.
        assert!(canaries.found(b"otp=kanarie-visit-7;").contains(&"a word of hers"));
        assert!(
            std::fs::metadata(&world.log).expect("the log").len() > 0,
            "nothing was logged"
        );
    });
}
