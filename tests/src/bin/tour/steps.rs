//! The steps, in order.

mod herself;

use std::fmt::Display;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use sammati_api::consent::v1::break_glass::Outcome as GlassOutcome;
use sammati_api::consent::v1::{self as consent, decision::Outcome, decision::Reason};
use sammati_api::sandbox::v1 as sandbox;
use sammati_api::types::v1 as types;
use sammati_kernel::jws::{self, PublicKey};
use sammati_kernel::{Seed, SystemClock};
use sammati_tests::story::{Failure, Person, Story, reason};
use sammati_tests::system::Processes;

use crate::console;

/// The number of the step that failed, and why.
type Stopped = (usize, Failure);

struct Tour<'a> {
    story: Story,
    folder: &'a Path,
    number: usize,
}

/// Walks all steps.
pub(crate) async fn walk(system: &Processes) -> Result<(), Stopped> {
    let story = Story::new(&system.addresses, Arc::new(SystemClock)).map_err(|e| (0, e))?;
    let mut tour = Tour {
        story,
        folder: &system.addresses.folder,
        number: 0,
    };
    let result = tour.all().await;
    result.map_err(|error| (tour.number, error))
}

impl Tour<'_> {
    async fn all(&mut self) -> Result<(), Failure> {
        self.participants().await?;
        let person = self.enrolment().await?;
        let consent = self.consent(&person).await?;
        self.artefact(&consent).await?;
        self.decisions(&person, &consent).await?;
        self.trail(&person, &consent).await?;
        self.emergency(&person).await?;
        self.herself(&person).await?;
        console::done(self.number);
        Ok(())
    }

    /// Says that a step begins: a failure names it.
    const fn begin(&mut self) {
        self.number += 1;
    }

    fn done(&self, what: &str, result: &dyn Display, command: &str) {
        console::step(self.number, what, &result.to_string(), command);
    }

    /// The grpcurl command for `method`, called by whoever holds `certificate` and `token`.
    fn grpcurl(&self, certificate: &str, token: bool, url: &str, method: &str, body: &str) -> String {
        let dev = self.folder.display();
        let address = url.trim_start_matches("https://");
        let bearer = if token {
            " -H \"authorization: Bearer $TOKEN\""
        } else {
            ""
        };
        format!(
            "grpcurl -cacert {dev}/ca.pem -cert {dev}/{certificate}.pem -key {dev}/{certificate}-key.pem{bearer} -d '{body}' {address} {method}"
        )
    }

    async fn participants(&mut self) -> Result<(), Failure> {
        self.begin();
        self.story.open().await?;
        let identity = self.story.addresses.identity.clone();
        let body = r#"{"request_id":"<uuid v7>","participant":"participants/clinic","roles":["PARTICIPANT_ROLE_HIU"],"audiences":["consent"]}"#;
        let command = self.grpcurl(
            "clinic",
            false,
            &identity,
            "sammati.identity.v1.SessionService/CreateParticipantSession",
            body,
        );
        self.done(
            "register a hospital, a clinic and a patient app",
            &"hospital (HIP), clinic (HIU) and app are ACTIVE and have sessions",
            &command,
        );
        Ok(())
    }

    async fn enrolment(&mut self) -> Result<Person, Failure> {
        self.begin();
        let people = self.story.people().await?;
        let entry = somebody(people)?;
        let person = self.story.enrol(&entry).await?;
        let result = format!(
            "{}, ABHA number {}, is_new = {}",
            person.account.name, person.account.abha_number, person.is_new
        );
        let identity = self.story.addresses.identity.clone();
        let body = r#"{"request_id":"<uuid v7>","purpose":"PURPOSE_ENROL","factor":"FACTOR_AADHAAR_OTP","aadhaar":"<12 digits>","consent":{"code":"abha-enrollment","version":"1.4","language":"en"}}"#;
        let command = self.grpcurl(
            "app",
            true,
            &identity,
            "sammati.identity.v1.TransactionService/CreateTransaction",
            body,
        );
        self.done("enrol a person by Aadhaar OTP", &result, &command);

        self.begin();
        let tail = person.account.name.chars().rev().take(6).collect::<String>();
        let account = match self.story.claim_address(&person, &format!("walker.{tail}")).await {
            Ok(account) => account,
            // On a second tour in the same folder she has her addresses already.
            Err(status) if ["ADDRESS_TAKEN", "ADDRESS_LIMIT"].contains(&reason(&status).as_str()) => {
                person.account.clone()
            }
            Err(status) => return Err(status.into()),
        };
        let person = Person { account, ..person };
        let body = format!(
            r#"{{"request_id":"<uuid v7>","account":"{}","local_part":"walker.{tail}","preferred":true}}"#,
            person.account.name
        );
        let command = self.grpcurl(
            "app",
            true,
            &identity,
            "sammati.identity.v1.AddressService/CreateAddress",
            &body,
        );
        self.done("claim an ABHA address", &person.address(), &command);

        self.begin();
        let references = self.references();
        let link = self
            .story
            .link(&person, &references.iter().map(String::as_str).collect::<Vec<_>>())
            .await?;
        let consent = self.story.addresses.consent.clone();
        let body = r#"{"request_id":"<uuid v7>","link_token":"<from IssueLinkToken>","patient_reference":"MRN-1001","care_contexts":[…]}"#;
        let command = self.grpcurl(
            "hospital",
            true,
            &consent,
            "sammati.consent.v1.LinkService/LinkCareContexts",
            body,
        );
        self.done(
            "the hospital links two care contexts",
            &format!("{} with {} care contexts", link.name, link.care_contexts.len()),
            &command,
        );
        Ok(person)
    }

    /// New at each tour, so that it can be walked again in the same folder.
    fn references(&self) -> [String; 2] {
        let tail: String = self.story.rid().chars().rev().take(8).collect();
        [format!("OPD-{tail}"), format!("LAB-{tail}")]
    }

    async fn consent(&mut self, person: &Person) -> Result<consent::Consent, Failure> {
        self.begin();
        let url = self.story.addresses.consent.clone();
        let request = self.story.ask(person, self.story.scope()).await?;
        let command = self.grpcurl("clinic", true, &url, "sammati.consent.v1.ConsentRequestService/CreateConsentRequest", r#"{"request_id":"<uuid v7>","patient":"<address>","hips":["participants/hospital"],"scope":{…},"requester":{…}}"#);
        self.done(
            "the clinic asks for prescriptions and diagnostic reports",
            &request.name,
            &command,
        );

        self.begin();
        let narrower = types::Scope {
            hi_types: vec![types::HiType::Prescription.into()],
            max_uses: 3,
            ..request.scope.clone().unwrap_or_default()
        };
        let approved = self.story.approve(person, &request, Some(narrower)).await?;
        let given = approved
            .consents
            .into_iter()
            .next()
            .ok_or("the approval gave no consent")?;
        let command = self.grpcurl("app", true, &url, "sammati.consent.v1.ConsentRequestService/ApproveConsentRequest", &format!(r#"{{"request_id":"<uuid v7>","name":"{}","grants":[{{"hip":"participants/hospital","scope":{{…}}}}],"notice":{{…}}}}"#, request.name));
        self.done(
            "she approves a narrower part: prescriptions only, three uses",
            &given.name,
            &command,
        );

        self.begin();
        let notification = self.story.notification(&self.story.hospital, &given.name).await?;
        self.story.acknowledge(&self.story.hospital, &notification.name).await?;
        let command = self.grpcurl(
            "hospital",
            true,
            &url,
            "sammati.consent.v1.NotificationService/WatchNotifications",
            "{}",
        );
        self.done(
            "the hospital hears of it and acknowledges",
            &notification.name,
            &command,
        );
        Ok(given)
    }

    async fn artefact(&mut self, given: &consent::Consent) -> Result<(), Failure> {
        self.begin();
        let artefact = self.story.artefact(&self.story.clinic, &given.name).await?;
        let keys = self.story.artefact_keys().await?;
        let find = |kid: &str| keys.get(kid).and_then(|jwk| PublicKey::from_jwk(jwk));
        let claims: serde_json::Value = jws::verify(&artefact.jws, "consent-artefact+jwt", find)?;
        let url = self.story.addresses.consent.clone();
        let command = self.grpcurl(
            "clinic",
            true,
            &url,
            "sammati.consent.v1.ArtefactService/GetArtefact",
            &format!(r#"{{"consent":"{}"}}"#, given.name),
        );
        let result = format!(
            "signature by {} verifies offline; aud = {}, hi_types = {}",
            artefact.kid, claims["aud"], claims["hi_types"]
        );
        self.done("the clinic fetches the artefact and verifies it", &result, &command);
        Ok(())
    }

    async fn decisions(&mut self, person: &Person, given: &consent::Consent) -> Result<(), Failure> {
        let url = self.story.addresses.consent.clone();
        let question = self.story.question(&given.name);
        let body = format!(
            r#"{{"consent":"{}","provider":"participants/hospital","purpose":"PURPOSE_CODE_CAREMGT","access_mode":"ACCESS_MODE_VIEW","hi_types":["HI_TYPE_PRESCRIPTION"],"record_range":{{…}}}}"#,
            given.name
        );
        let check = self.grpcurl(
            "clinic",
            true,
            &url,
            "sammati.consent.v1.DecisionService/CheckAccess",
            &body,
        );

        self.begin();
        let decision = self.story.check(0, question.clone()).await?;
        expect(&decision, Outcome::Permit, Reason::Granted)?;
        self.done("may the clinic see her prescriptions?", &said(&decision), &check);

        self.begin();
        let transfer = self.story.open_transfer(self.story.transfer(&given.name)).await?;
        let command = self.grpcurl("clinic", true, &url, "sammati.consent.v1.TransferService/CreateTransfer", &format!(r#"{{"request_id":"<uuid v7>","consent":"{}","record_range":{{…}},"push_uri":"https://clinic.example/push","key_material":{{…}}}}"#, given.name));
        self.done(
            "the clinic opens a transfer",
            &format!("{}, use {} of 3", transfer.name, transfer.r#use),
            &command,
        );

        self.begin();
        let mut outside = self.story.transfer(&given.name);
        outside.hi_types = vec![types::HiType::DiagnosticReport.into()];
        let refused = self
            .story
            .open_transfer(outside)
            .await
            .err()
            .ok_or("a transfer outside the grant was opened")?;
        if reason(&refused) != "HI_TYPE_NOT_GRANTED" {
            return Err(refused.into());
        }
        self.done(
            "a transfer of diagnostic reports, which she did not give",
            &format!("refused: {}", reason(&refused)),
            &command.replacen(
                r#""record_range""#,
                r#""hi_types":["HI_TYPE_DIAGNOSTIC_REPORT"],"record_range""#,
                1,
            ),
        );

        self.live(person, given, &check).await?;

        self.begin();
        let revoked = self.story.revoke(0, person, &[&given.name]).await?;
        let command = self.grpcurl(
            "app",
            true,
            &url,
            "sammati.consent.v1.ConsentService/RevokeConsents",
            &format!(r#"{{"request_id":"<uuid v7>","names":["{}"]}}"#, given.name),
        );
        self.done(
            "she takes it back",
            &format!("{} consent revoked", revoked.changed_count),
            &command,
        );

        self.begin();
        let decision = self.story.check(0, question).await?;
        expect(&decision, Outcome::Deny, Reason::ConsentRevoked)?;
        self.done("may the clinic still see them?", &said(&decision), &check);
        Ok(())
    }

    /// She pauses the consent, resumes it and narrows it; the clinic asks each time.
    async fn live(&mut self, person: &Person, given: &consent::Consent, check: &str) -> Result<(), Failure> {
        let url = self.story.addresses.consent.clone();
        let question = self.story.question(&given.name);
        let verb = |tour: &Self, method: &str, more: &str| {
            let method = format!("sammati.consent.v1.ConsentService/{method}");
            let body = format!(r#"{{"request_id":"<uuid v7>","name":"{}"{more}}}"#, given.name);
            tour.grpcurl("app", true, &url, &method, &body)
        };

        self.begin();
        let paused = self.story.pause(person, &given.name).await?;
        self.done(
            "she pauses it",
            &paused.state().as_str_name(),
            &verb(self, "PauseConsent", ""),
        );

        self.begin();
        let decision = self.story.check(0, question.clone()).await?;
        expect(&decision, Outcome::Deny, Reason::ConsentPaused)?;
        self.done("may the clinic see them meanwhile?", &said(&decision), check);

        self.begin();
        let resumed = self.story.resume(person, &given.name).await?;
        let decision = self.story.check(0, question).await?;
        expect(&decision, Outcome::Permit, Reason::Granted)?;
        self.done(
            "she resumes it, and the clinic may again",
            &format!("{}: {}", resumed.state().as_str_name(), said(&decision)),
            &verb(self, "ResumeConsent", ""),
        );

        self.begin();
        let scope = types::Scope {
            max_uses: 2,
            ..given.scope.clone().unwrap_or_default()
        };
        let narrowed = self.story.narrow(person, &given.name, scope).await?;
        let left = narrowed.uses.and_then(|uses| uses.left).unwrap_or_default();
        let notification = self.story.narrowing(&self.story.hospital, &given.name).await?;
        self.story.acknowledge(&self.story.hospital, &notification.name).await?;
        self.done(
            "she narrows it to two uses in all, of which one is taken; the hospital acknowledges",
            &format!("version {}, {left} use left", narrowed.version),
            &verb(self, "NarrowConsent", r#","scope":{…}"#),
        );
        Ok(())
    }

    /// She cannot be asked: a professional opens her records, she is told, and an operator looks at it.
    async fn emergency(&mut self, person: &Person) -> Result<(), Failure> {
        let url = self.story.addresses.consent.clone();
        let service = "sammati.consent.v1.BreakGlassService";

        self.begin();
        let professional = self.story.professional().await?;
        self.story.until_known(self.story.clock.now()).await?;
        let opened = self.story.break_glass(person, &professional).await?;
        let body = r#"{"request_id":"<uuid v7>","patient":"<address>","hips":["participants/hospital"],"requester":{…},"hi_types":["HI_TYPE_PRESCRIPTION"],"emergency":"EMERGENCY_UNCONSCIOUS","reason":"brought in unconscious and alone"}"#;
        self.done(
            "she is brought in unconscious; a verified professional of the clinic breaks the glass",
            &format!("{} for four hours, VIEW only", opened.origin().as_str_name()),
            &self.grpcurl("clinic", true, &url, &format!("{service}/OpenBreakGlass"), body),
        );

        self.begin();
        let told = self.story.notification(&person.who, &opened.name).await?;
        self.done(
            "she is told at once",
            &format!("{} about {}", told.kind().as_str_name(), told.resource),
            &self.grpcurl(
                "app",
                true,
                &url,
                "sammati.consent.v1.NotificationService/WatchNotifications",
                "{}",
            ),
        );

        self.begin();
        let reviewed = self
            .story
            .reviewed(&self.story.operator, &opened.name, GlassOutcome::Misuse)
            .await?;
        let body = format!(
            r#"{{"request_id":"<uuid v7>","name":"{}","outcome":"OUTCOME_MISUSE","comment":"nobody was brought in that night"}}"#,
            opened.name
        );
        self.done(
            "an operator reviews it and finds misuse",
            &reviewed.state().as_str_name(),
            &self.grpcurl("operator", false, &url, &format!("{service}/ReviewBreakGlass"), &body),
        );
        Ok(())
    }

    async fn trail(&mut self, person: &Person, given: &consent::Consent) -> Result<(), Failure> {
        self.begin();
        let told = self.story.withdrawal(&self.story.clinic, &given.name).await?;
        // It is there once it can be proven; then she finds it among the others.
        let proof = self.story.proof(&person.who, &told.event_id).await?;
        let events = self.story.trail(person).await?;
        let kinds: Vec<_> = events
            .iter()
            .rev()
            .filter_map(|e| e.header.as_ref())
            .map(|h| h.event_type.as_str())
            .collect();
        let url = self.story.addresses.audit.clone();
        let command = self.grpcurl("app", true, &url, "sammati.audit.v1.LogService/ListEvents", "{}");
        self.done(
            "she reads her audit trail",
            &format!("{} events: {}", kinds.len(), kinds.join(", ")),
            &command,
        );

        self.begin();
        let log = self.story.log().await?;
        let (leaf_file, proof_file) = (self.folder.join("event.leaf"), self.folder.join("event.tlog-proof"));
        std::fs::write(&leaf_file, &proof.leaf)?;
        std::fs::write(&proof_file, &proof.proof)?;
        let verifier = sammati_tests::system::program("sammati-verify")?;
        let verify = |proof: &Path| {
            let mut command = Command::new(&verifier);
            command
                .args(["inclusion", "--vkey", &log.vkey, "--leaf"])
                .arg(&leaf_file)
                .arg(proof);
            command.output()
        };
        let verdict = verify(&proof_file)?;
        if !verdict.status.success() {
            return Err(format!(
                "the verifier refused a good proof: {}",
                String::from_utf8_lossy(&verdict.stderr)
            )
            .into());
        }
        let shown = format!(
            "sammati-verify inclusion --vkey '{}' --leaf {} {}",
            log.vkey,
            leaf_file.display(),
            proof_file.display()
        );
        self.done(
            "prove the revocation against the checkpoint",
            &String::from_utf8_lossy(&verdict.stdout).trim(),
            &shown,
        );

        self.begin();
        let bent = self.folder.join("event.bent");
        std::fs::write(&bent, bend(&proof.proof))?;
        let verdict = verify(&bent)?;
        if verdict.status.code() != Some(1) {
            return Err(format!("the verifier ended with {} on a changed proof", verdict.status).into());
        }
        let shown = shown.replace(&proof_file.display().to_string(), &bent.display().to_string());
        self.done(
            "change one byte of the proof",
            &String::from_utf8_lossy(&verdict.stderr).trim(),
            &shown,
        );
        Ok(())
    }
}

/// Any grown person with a mobile of the register: a hospital may ask for a person's link token three times a day, and
/// the tour can be walked more often than that.
fn somebody(people: Vec<sandbox::Person>) -> Result<sandbox::Person, Failure> {
    let mut grown: Vec<_> = people
        .into_iter()
        .filter(|p| p.parents.is_empty() && !p.mobile.is_empty())
        .collect();
    let seed = Seed::draw().map_err(|_| "the system has no randomness")?;
    let chosen = usize::try_from(seed.below("person", grown.len() as u64))?;
    if grown.is_empty() {
        Err("the sandbox has no people".into())
    } else {
        Ok(grown.swap_remove(chosen))
    }
}

fn expect(decision: &consent::Decision, outcome: Outcome, reason: Reason) -> Result<(), Failure> {
    if decision.outcome() == outcome && decision.reason() == reason {
        Ok(())
    } else {
        Err(said(decision).into())
    }
}

fn said(decision: &consent::Decision) -> String {
    format!(
        "{}, {}",
        decision.outcome().as_str_name(),
        decision.reason().as_str_name()
    )
}

/// Another base64 letter at the beginning of the first hash, or of the root where the path is empty.
fn bend(proof: &str) -> String {
    let mut lines: Vec<String> = proof.lines().map(ToOwned::to_owned).collect();
    let index = lines.iter().position(|line| line.starts_with("index ")).unwrap_or(0);
    let hash = if lines.get(index + 1).is_some_and(String::is_empty) {
        index + 4
    } else {
        index + 1
    };
    if let Some(line) = lines.get_mut(hash) {
        let other = if line.starts_with('A') { 'B' } else { 'A' };
        line.replace_range(..1, &other.to_string());
    }
    lines.join("\n") + "\n"
}
