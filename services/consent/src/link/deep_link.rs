//! Inviting somebody by SMS to open her app and link her records: so many a day, whosever the mobile is.

use std::collections::HashMap;
use std::sync::Arc;

use sammati_api::audit::v1::event::Action;
use sammati_api::provider::v1 as provider;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, LinkId, MobileNumber, ParticipantId, Reason, Refusal, Role, Slot};
use sammati_server::event::Draft;
use sammati_store::{Command, Keys, View};

use crate::daily;
use crate::directory::Directory;
use crate::rows::LinkTryRow;

/// Messages to one mobile in a day, whoever has them sent.
const A_DAY: i32 = 3;

/// The template of the message at the gateway.
const TEMPLATE: &str = "deep-link";

/// Letters of a provider's name that the message shows: it is an SMS, and a parameter has its bound.
const NAME: usize = 64;

/// SendDeepLink: counted and recorded before anything is sent. Nobody asks whose the mobile is.
pub struct SendDeepLink {
    /// Who asks.
    pub caller: Caller,
    /// The provider.
    pub hip: ParticipantId,
    /// The keyed hash of the mobile, under which messages to it are counted.
    pub attempt: [u8; 32],
    /// Facts of identity.
    pub directory: Arc<dyn Directory>,
}

impl Command for SendDeepLink {
    /// The id of the message: a repeat of the call sends under the same one, which the sender takes once.
    type Answer = LinkId;

    const NAME: &'static str = "link.send_deep_link";

    fn slot(&self) -> Slot {
        Slot::of_hash(&self.attempt)
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LinkTryRow>(self.attempt.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<LinkId, Refusal> {
        self.directory.fresh()?;
        if !self.directory.is_active_as(&self.hip, Role::Hip) {
            return Err(Refusal::new(Reason::ParticipantNotActive)
                .saying("your participant is not active as a HIP; ask the operator"));
        }
        daily::count(view, &self.attempt, A_DAY).map_err(|wait| {
            Refusal::new(Reason::RequestLimit)
                .saying("3 messages went to this mobile since yesterday; try again later")
                .retry_after(wait)
        })?;
        let draft = Draft::new(
            "link.deep_link_sent",
            Action::Create,
            RetentionClass::General,
            &self.caller,
        );
        draft.participant(&self.hip).emit(view);
        Ok(view.id("message"))
    }

    fn outcome(&self, answer: &LinkId) -> Vec<u8> {
        answer.to_vec()
    }
}

/// The message: who keeps records of hers, and where her app opens.
pub fn message(
    id: LinkId,
    mobile: &MobileNumber,
    language: &str,
    hip: &ParticipantId,
    name: &str,
    portal: &str,
) -> provider::SendMessageRequest {
    let link = format!("{portal}/link?hip={}", hip.as_str());
    let name = name.chars().take(NAME).collect();
    provider::SendMessageRequest {
        message_id: id.to_string(),
        channel: provider::Channel::Sms.into(),
        recipient: mobile.expose().to_owned(),
        template: TEMPLATE.to_owned(),
        template_version: 1,
        language: language.to_owned(),
        parameters: HashMap::from([("hip".to_owned(), name), ("link".to_owned(), link)]),
    }
}
