//! One person in the log: is this all, who saw her, and what becomes of it when she is erased.

use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sammati_api::audit::v1::class_erasure::State;
use sammati_api::audit::v1::{self as audit, subject_service_client::SubjectServiceClient};
use sammati_tests::story::{Failure, Person};
use serde_json::json;

use super::Tour;

impl Tour<'_> {
    pub(super) async fn herself(&mut self, person: &Person) -> Result<(), Failure> {
        let url = self.story.addresses.audit.clone();
        self.begin();
        let mut hers = SubjectServiceClient::new(person.who.audit());
        let summary = hers
            .summarize_access(audit::SummarizeAccessRequest::default())
            .await?
            .into_inner();
        let line = |line: &audit::RecipientAccess| {
            format!(
                "{}: allowed {}, refused {}",
                line.recipient, line.allowed_count, line.denied_count
            )
        };
        let lines: Vec<_> = summary.recipients.iter().map(line).collect();
        let command = self.grpcurl(
            "app",
            true,
            &url,
            "sammati.audit.v1.SubjectService/SummarizeAccess",
            "{}",
        );
        self.done("she asks who saw her data, and who tried", &lines.join("; "), &command);

        self.begin();
        let list = hers.list_subject_events(everything()).await?.into_inner();
        let (all, hole) = (self.folder.join("all.json"), self.folder.join("hole.json"));
        std::fs::write(&all, page(&list, None))?;
        std::fs::write(&hole, page(&list, Some(1)))?;
        let log = self.story.log().await?;
        let verdict = verify(&log.vkey, &all)?;
        if !verdict.status.success() {
            let said = String::from_utf8_lossy(&verdict.stderr).into_owned();
            return Err(format!("the verifier refused her whole list: {said}").into());
        }
        let body = r#"{"page_size":1000,"with_proofs":true}"#;
        let list = self.grpcurl(
            "app",
            true,
            &url,
            "sammati.audit.v1.SubjectService/ListSubjectEvents",
            body,
        );
        let shown = format!("sammati-verify subject --vkey '{}' {}", log.vkey, all.display());
        let command = format!("{list} >{} && {shown}", all.display());
        self.done(
            "prove that this is all the log has of her",
            &String::from_utf8_lossy(&verdict.stdout).trim(),
            &command,
        );

        self.begin();
        let verdict = verify(&log.vkey, &hole)?;
        if verdict.status.code() != Some(1) {
            return Err(format!("the verifier ended with {} on a list with a hole", verdict.status).into());
        }
        let shown = shown.replace("all.json", "hole.json");
        self.done(
            "leave one event out",
            &String::from_utf8_lossy(&verdict.stderr).trim(),
            &shown,
        );

        self.erasure(person).await
    }

    async fn erasure(&mut self, person: &Person) -> Result<(), Failure> {
        self.begin();
        let request = audit::EraseSubjectRequest {
            request_id: self.story.rid(),
            subject: person.account.name.clone(),
            classes: Vec::new(),
            legal_basis: "DPDP Act s.12(3)".to_owned(),
        };
        let mut operators = SubjectServiceClient::new(self.story.operator.audit());
        let classes = operators.erase_subject(request).await?.into_inner().classes;
        if classes.is_empty() {
            return Err("there is nothing of hers to erase".into());
        }
        if classes.iter().any(|class| class.state() != State::Booked) {
            return Err("a class of hers goes before its floor".into());
        }
        let class = |class: &audit::ClassErasure| {
            let due = class.due_time.as_ref().map_or(0, |due| due.seconds);
            let name = class
                .class()
                .as_str_name()
                .trim_start_matches("RETENTION_CLASS_")
                .to_owned();
            format!("{name} {} in {} days", class.state().as_str_name(), days(due))
        };
        let classes: Vec<_> = classes.iter().map(class).collect();
        let body = r#"{"request_id":"<uuid v7>","subject":"accounts/<id>","legal_basis":"DPDP Act s.12(3)"}"#;
        let url = self.story.addresses.audit.clone();
        let command = self.grpcurl(
            "operator",
            false,
            &url,
            "sammati.audit.v1.SubjectService/EraseSubject",
            body,
        );
        self.done(
            "erase her: each class when the law lets it go, which is a year from now at the earliest, so that none goes today",
            &classes.join("; "),
            &command,
        );

        self.begin();
        let log = self.story.log().await?;
        let mut hers = SubjectServiceClient::new(person.who.audit());
        let list = hers.list_subject_events(everything()).await?.into_inner();
        let after = self.folder.join("after.json");
        std::fs::write(&after, page(&list, None))?;
        let verdict = verify(&log.vkey, &after)?;
        if !verdict.status.success() {
            return Err("her list does not verify any more, now that her erasure is booked".into());
        }
        let shown = format!("sammati-verify subject --vkey '{}' {}", log.vkey, after.display());
        self.done(
            "she asks again: her list is whole, and its proofs hold",
            &String::from_utf8_lossy(&verdict.stdout).trim(),
            &shown,
        );
        Ok(())
    }
}

/// All of it, with proofs.
fn everything() -> audit::ListSubjectEventsRequest {
    audit::ListSubjectEventsRequest {
        page_size: 1000,
        with_proofs: true,
        ..Default::default()
    }
}

/// From now.
fn days(until: i64) -> i64 {
    use sammati_kernel::{Clock, SystemClock};
    (until - SystemClock.now().seconds()).max(0) / 86_400
}

/// The page as grpcurl prints it, as far as the verifier reads it; perhaps without one event.
fn page(list: &audit::ListSubjectEventsResponse, without: Option<usize>) -> String {
    let events = list.events.iter().enumerate().filter(|(at, _)| Some(*at) != without);
    let event =
        |(_, event): (usize, &audit::SubjectEvent)| json!({"leaf": STANDARD.encode(&event.leaf), "proof": event.proof});
    let head = list.subject_head.clone().unwrap_or_default();
    let head = json!({"note": head.note, "checkpoint": head.checkpoint});
    json!({"events": events.map(event).collect::<Vec<_>>(), "subjectHead": head}).to_string()
}

fn verify(vkey: &str, file: &Path) -> Result<Output, Failure> {
    let verifier = sammati_tests::system::program("sammati-verify")?;
    Ok(Command::new(verifier)
        .args(["subject", "--vkey", vkey])
        .arg(file)
        .output()?)
}
