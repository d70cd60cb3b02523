//! Makes, for each mutation, the real object it is about and a good request about it: what a walk by descriptors alone
//! cannot know.

mod audits;
mod consents;
mod emergencies;
pub(crate) mod links;
mod notices;
mod people;
mod representations;
mod sessions;
mod step_up;
mod studies;
pub(crate) mod subscriptions;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message;
use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::create_transaction_request::Subject;
use sammati_api::identity::v1::transaction::Purpose;
use sammati_api::identity::v1::transaction_service_client::TransactionServiceClient;
use sammati_api::identity::v1::verify_transaction_request::Proof;
use sammati_api::sandbox::v1 as sandbox;
use sammati_kernel::{Clock, ManualClock, ParticipantId, Slot, TransactionId};
use sammati_tests::caller::Addresses;
use sammati_tests::story::{Failure, Person, Story, Who};

/// A password that the rules accept.
pub(crate) const PASSWORD: &str = "Rq7!vTz2#Lm";

/// One mutation that is about to be made.
pub(crate) struct Made {
    /// Who makes it.
    pub(crate) who: Who,
    /// The request.
    pub(crate) request: Vec<u8>,
    /// Another one with the same `request_id`: about something in another partition, wherever this caller may name such.
    pub(crate) other: Vec<u8>,
}

fn made<M: Message + Clone>(who: &Who, request: M, change: impl FnOnce(&mut M)) -> Made {
    let mut other = request.clone();
    change(&mut other);
    Made {
        who: who.clone(),
        request: request.encode_to_vec(),
        other: other.encode_to_vec(),
    }
}

/// The partition on SQLite, which has four, of what has this name: an id carries its slot, a participant's is hashed.
fn partition(name: &str) -> Option<u16> {
    let slot = match ParticipantId::parse_name(name) {
        Ok(participant) => Slot::of_participant(participant.as_str()),
        Err(_) => name.split_once('/')?.1.parse::<TransactionId>().ok()?.slot(),
    };
    Some(slot.number() % 4)
}

/// Two of what `make` makes, in two partitions.
async fn apart<T>(make: impl AsyncFn() -> Result<T, Failure>, name: impl Fn(&T) -> &str) -> Result<(T, T), Failure> {
    let first = make().await?;
    let home = partition(name(&first)).ok_or("a name without a slot")?;
    loop {
        let second = make().await?;
        if partition(name(&second)).ok_or("a name without a slot")? != home {
            return Ok((first, second));
        }
    }
}

/// Where mutations are made.
pub(crate) struct Stage {
    pub(crate) story: Story,
    pub(crate) clock: ManualClock,
    /// People of the register; whose turn it is comes first.
    register: Mutex<VecDeque<sandbox::Person>>,
}

impl Stage {
    /// A stage in the system at `addresses`.
    pub(crate) async fn of(addresses: &Addresses, clock: &ManualClock) -> Result<Self, Failure> {
        let mut story = Story::new(addresses, Arc::new(clock.clone()))?;
        story.open().await?;
        let mut register = story.people().await?;
        register.retain(|p| !p.mobile.is_empty() && p.parents.is_empty());
        // One of each household, so that nobody else's OTPs go to the same mobile.
        register.sort_by(|a, b| a.mobile.cmp(&b.mobile));
        register.dedup_by(|a, b| a.mobile == b.mobile);
        Ok(Self {
            story,
            clock: clock.clone(),
            register: Mutex::new(register.into()),
        })
    }

    fn entry(&self) -> sandbox::Person {
        let mut register = self.register.lock().expect("no panic before");
        // Whoever was enrolled longest ago comes again when all were.
        register.rotate_left(1);
        register.back().expect("the register has people").clone()
    }

    async fn person(&self) -> Result<Person, Failure> {
        Ok(self.story.enrol(&self.entry()).await?)
    }

    async fn two_people(&self) -> Result<(Person, Person), Failure> {
        apart(async || self.person().await, |person| &person.account.name).await
    }

    /// Waits until consent has heard of all that identity did.
    async fn until_known(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        self.clock.advance(Duration::from_millis(1));
        Ok(self.story.until_known(now).await?)
    }

    /// The request that the method with this full name is called with; `None` for a method that is not known here.
    pub(crate) async fn make(&self, method: &str) -> Result<Option<Made>, Failure> {
        let made = match crate::sample::short(method) {
            "TransactionService.CreateTransaction" => self.create_transaction().await?,
            "TransactionService.ResendOtp" => self.resend_otp().await?,
            "TransactionService.VerifyTransaction" => self.verify_transaction().await?,
            "AccountService.CreateAccount" => self.create_account().await?,
            "AccountService.SetCredential" => self.set_credential().await?,
            "AccountService.DeleteAccount" => self.delete_account().await?,
            "SubjectService.EraseSubject" => self.erase_subject().await?,
            "RetentionService.ExpireClass" => self.expire_class(),
            "RetentionService.CreateLegalHold" => self.create_legal_hold(),
            "RetentionService.LiftLegalHold" => self.lift_legal_hold().await?,
            "AddressService.CreateAddress" => self.create_address().await?,
            "AddressService.SetPreferredAddress" => self.set_preferred_address().await?,
            "RepresentationService.CreateRepresentation" => self.create_representation().await?,
            "RepresentationService.AcceptRepresentation" => self.accept_representation().await?,
            "RepresentationService.ActivateRepresentation" => self.activate_representation().await?,
            "RepresentationService.EndRepresentation" => self.end_representation().await?,
            "SessionService.CreateSession" => self.create_session().await?,
            "SessionService.RefreshSession" => self.refresh_session().await?,
            "SessionService.RevokeSessions" => self.revoke_sessions().await?,
            "SessionService.AuthorizeAction" => self.authorize_action().await?,
            "StepUpService.SetStepUp" => self.set_step_up().await?,
            "NoticeService.CreateNotice" => self.create_notice(),
            "NoticeService.RetireNotice" => self.retire_notice().await?,
            "RightsService.CreateRightsRequest" => self.create_rights_request().await?,
            "RightsService.AnswerRightsRequest" => self.answer_rights_request().await?,
            "RightsService.CloseRightsRequest" => self.close_rights_request().await?,
            "SessionService.CreateParticipantSession" => self.create_participant_session(),
            "ParticipantService.CreateParticipant" => self.create_participant().await?,
            "ParticipantService.UpdateParticipant" => self.update_participant().await?,
            "ParticipantService.ActivateParticipant" => self.activate_participant().await?,
            "ParticipantService.SuspendParticipant" => self.suspend_participant().await?,
            "ConsentRequestService.CreateConsentRequest" => self.create_consent_request().await?,
            "ConsentRequestService.ApproveConsentRequest" => self.approve_consent_request().await?,
            "ConsentRequestService.DenyConsentRequest" => self.deny_consent_request().await?,
            "ConsentRequestService.CancelConsentRequest" => self.cancel_consent_request().await?,
            "ConsentService.PauseConsent" => self.pause_consent().await?,
            "ConsentService.ResumeConsent" => self.resume_consent().await?,
            "ConsentService.NarrowConsent" => self.narrow_consent().await?,
            "ConsentService.RevokeConsents" => self.revoke_consents().await?,
            "BreakGlassService.OpenBreakGlass" => self.open_break_glass().await?,
            "BreakGlassService.ReviewBreakGlass" => self.review_break_glass().await?,
            "DecisionService.AuthorizeAccess" => self.authorize_access().await?,
            "LinkService.IssueLinkToken" => self.issue_link_token().await?,
            "LinkService.LinkCareContexts" => self.link_care_contexts().await?,
            "LinkService.AnnounceCareContexts" => self.announce_care_contexts().await?,
            "LinkService.SendDeepLink" => self.send_deep_link(),
            "LinkService.CreateDiscovery" => self.create_discovery().await?,
            "LinkService.AnswerDiscovery" => self.answer_discovery().await?,
            "LinkService.SelectCareContexts" => self.select_care_contexts().await?,
            "LinkService.ConfirmCareContexts" => self.confirm_care_contexts().await?,
            "ProfileShareService.CreateProfileShare" => self.create_profile_share().await?,
            "ProfileShareService.AcknowledgeProfileShare" => self.acknowledge_profile_share().await?,
            "StudyService.CreateStudy" => self.create_study(),
            "StudyService.ActivateStudy" => self.activate_study().await?,
            "StudyService.CloseStudy" => self.close_study().await?,
            "StudyService.IdentifySubject" => self.identify_subject().await?,
            "StudyService.InviteSubjects" => self.invite_subjects().await?,
            "SubscriptionService.CreateSubscription" => self.create_subscription().await?,
            "SubscriptionService.ApproveSubscription" => self.approve_subscription().await?,
            "SubscriptionService.DenySubscription" => self.deny_subscription().await?,
            "SubscriptionService.UpdateSubscription" => self.update_subscription().await?,
            "SubscriptionService.PauseSubscription" => self.pause_subscription().await?,
            "SubscriptionService.ResumeSubscription" => self.resume_subscription().await?,
            "SubscriptionService.RevokeSubscription" => self.revoke_subscription().await?,
            "SubscriptionService.SetupLocker" => self.setup_locker().await?,
            "PolicyService.CreatePolicy" => self.create_policy().await?,
            "PolicyService.EnablePolicy" => self.enable_policy().await?,
            "PolicyService.DisablePolicy" => self.disable_policy().await?,
            "NotificationService.AcknowledgeNotifications" => self.acknowledge_notifications().await?,
            "TransferService.CreateTransfer" => self.create_transfer().await?,
            "TransferService.AcknowledgeTransfer" => self.acknowledge_transfer().await?,
            "TransferService.ReportTransfer" => self.report_transfer().await?,
            _ => return Ok(None),
        };
        Ok(Some(made))
    }

    /// A part of an address, or a participant's id, that nobody has.
    fn unused(&self) -> String {
        let digits: String = self
            .story
            .rid()
            .chars()
            .rev()
            .filter(char::is_ascii_alphanumeric)
            .take(8)
            .collect();
        format!("w{digits}x")
    }
}

/// A VERIFIED transaction by an OTP to her mobile.
pub(crate) async fn proved(
    story: &Story,
    who: &Who,
    entry: &sandbox::Person,
    purpose: Purpose,
    subject: Option<Subject>,
) -> Result<String, Failure> {
    let mut client = TransactionServiceClient::new(who.identity());
    let create = identity::CreateTransactionRequest {
        request_id: story.rid(),
        purpose: purpose.into(),
        factor: identity::Factor::MobileOtp.into(),
        consent: None,
        subject,
        bound_to: None,
    };
    let transaction = client.create_transaction(create).await?.into_inner();
    let verify = identity::VerifyTransactionRequest {
        request_id: story.rid(),
        name: transaction.name,
        etag: String::new(),
        proof: Some(Proof::Otp(story.otp(&entry.mobile).await?)),
    };
    Ok(client.verify_transaction(verify).await?.into_inner().name)
}
