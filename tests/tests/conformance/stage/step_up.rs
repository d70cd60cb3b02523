//! Her PIN, and what needs it.

use sammati_api::consent::v1 as consent;
use sammati_api::consent::v1::step_up::Action;
use sammati_api::identity::v1 as identity;
use sammati_server::action::digest;
use sammati_tests::story::{Failure, Person};

use super::{Made, Stage, made, proved};

/// A PIN that the rules accept.
const PIN: &str = "2580";

/// The method that sets what needs it.
const SET: &str = "sammati.consent.v1.StepUpService/SetStepUp";

impl Stage {
    /// A person with a PIN.
    async fn with_pin(&self) -> Result<Person, Failure> {
        let person = self.person().await?;
        let purpose = identity::transaction::Purpose::SetCredential;
        let proved = proved(&self.story, &person.who, &person.entry, purpose, None).await?;
        self.story.set_pin(&person, &proved, PIN).await?;
        Ok(person)
    }

    /// Her transactions all live with her.
    pub(super) async fn authorize_action(&self) -> Result<Made, Failure> {
        let person = self.with_pin().await?;
        let bound = identity::BoundAction {
            method: SET.into(),
            resource: person.account.name.clone(),
            body_sha256: digest(&consent::SetStepUpRequest::default()),
        };
        let one = self.story.step_up(&person.who, bound.clone(), PIN).await?;
        let other = self.story.step_up(&person.who, bound, PIN).await?;
        let request = identity::AuthorizeActionRequest {
            request_id: self.story.rid(),
            transaction: one,
            etag: String::new(),
        };
        Ok(made(&person.who, request, |r| r.transaction = other))
    }

    /// She sets it only for herself; another setting has another token.
    pub(super) async fn set_step_up(&self) -> Result<Made, Failure> {
        let person = self.with_pin().await?;
        let request_id = self.story.rid();
        let set = async |actions: Vec<i32>| -> Result<consent::SetStepUpRequest, Failure> {
            let mut request = consent::SetStepUpRequest {
                actions,
                ..Default::default()
            };
            let bound = identity::BoundAction {
                method: SET.into(),
                resource: person.account.name.clone(),
                body_sha256: digest(&request),
            };
            request.action_token = self.story.action_token(&person.who, bound, PIN).await?;
            request.request_id.clone_from(&request_id);
            Ok(request)
        };
        let (one, other) = (set(vec![Action::Approve.into()]).await?, set(Vec::new()).await?);
        Ok(made(&person.who, one, |r| *r = other))
    }
}
