//! A refusal: what a caller is told when the answer is no.

use std::borrow::Cow;
use std::time::Duration;

/// The gRPC status codes that refusals use, by their names there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are gRPC's")]
pub enum Code {
    Aborted,
    AlreadyExists,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
}

macro_rules! reasons { ($($variant:ident $text:literal $code:ident;)*) => {
    /// Why: the closed list behind `ErrorInfo.reason`. Each reason has one gRPC code.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
    #[expect(missing_docs, reason = "the contract's ErrorReason documents each")]
    pub enum Reason { $($variant,)* }

    impl Reason {
        /// All of them.
        pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

        /// As it stands in `ErrorInfo.reason`.
        pub const fn as_str(self) -> &'static str {
            match self { $(Self::$variant => $text,)* }
        }

        /// The status code it travels under.
        pub const fn code(self) -> Code {
            match self { $(Self::$variant => Code::$code,)* }
        }
    }
} }

reasons! {
    AbuseBlocked "ABUSE_BLOCKED" ResourceExhausted;
    AccessModeNotGranted "ACCESS_MODE_NOT_GRANTED" FailedPrecondition;
    AccountDeactivated "ACCOUNT_DEACTIVATED" FailedPrecondition;
    AccountDeleted "ACCOUNT_DELETED" FailedPrecondition;
    AccountLocked "ACCOUNT_LOCKED" ResourceExhausted;
    AddressForm "ADDRESS_FORM" InvalidArgument;
    AddressLimit "ADDRESS_LIMIT" FailedPrecondition;
    AddressTaken "ADDRESS_TAKEN" AlreadyExists;
    AlreadyLinked "ALREADY_LINKED" AlreadyExists;
    AssertionInvalid "ASSERTION_INVALID" Unauthenticated;
    AssertionReplayed "ASSERTION_REPLAYED" Unauthenticated;
    BatchLimit "BATCH_LIMIT" InvalidArgument;
    BatchSubjects "BATCH_SUBJECTS" InvalidArgument;
    BlockedBySubject "BLOCKED_BY_SUBJECT" FailedPrecondition;
    BreakGlassLimit "BREAK_GLASS_LIMIT" ResourceExhausted;
    BreakGlassRefused "BREAK_GLASS_REFUSED" PermissionDenied;
    CallerKind "CALLER_KIND" PermissionDenied;
    CandidateUnknown "CANDIDATE_UNKNOWN" FailedPrecondition;
    CareContextNotGranted "CARE_CONTEXT_NOT_GRANTED" FailedPrecondition;
    CareContextNotLinked "CARE_CONTEXT_NOT_LINKED" FailedPrecondition;
    CellTooSmall "CELL_TOO_SMALL" PermissionDenied;
    ChallengeExpired "CHALLENGE_EXPIRED" FailedPrecondition;
    ChannelDisabled "CHANNEL_DISABLED" FailedPrecondition;
    CheckpointUnknown "CHECKPOINT_UNKNOWN" NotFound;
    CommitUnknown "COMMIT_UNKNOWN" Unavailable;
    ConsentExpired "CONSENT_EXPIRED" FailedPrecondition;
    ConsentPaused "CONSENT_PAUSED" FailedPrecondition;
    ConsentRevoked "CONSENT_REVOKED" FailedPrecondition;
    ConsentSuperseded "CONSENT_SUPERSEDED" FailedPrecondition;
    ContextUnknown "CONTEXT_UNKNOWN" FailedPrecondition;
    CosignatureInvalid "COSIGNATURE_INVALID" InvalidArgument;
    CosignaturesMissing "COSIGNATURES_MISSING" FailedPrecondition;
    CredentialMismatch "CREDENTIAL_MISMATCH" FailedPrecondition;
    CredentialReused "CREDENTIAL_REUSED" FailedPrecondition;
    CredentialWeak "CREDENTIAL_WEAK" InvalidArgument;
    Deadline "DEADLINE" DeadlineExceeded;
    EtagMismatch "ETAG_MISMATCH" Aborted;
    EthicsExpired "ETHICS_EXPIRED" FailedPrecondition;
    EthicsRequired "ETHICS_REQUIRED" InvalidArgument;
    EventConflict "EVENT_CONFLICT" AlreadyExists;
    EventForbiddenField "EVENT_FORBIDDEN_FIELD" InvalidArgument;
    EventTooLarge "EVENT_TOO_LARGE" InvalidArgument;
    EvidenceRequired "EVIDENCE_REQUIRED" InvalidArgument;
    FactorNotAllowed "FACTOR_NOT_ALLOWED" FailedPrecondition;
    FeedGap "FEED_GAP" FailedPrecondition;
    FieldInvalid "FIELD_INVALID" InvalidArgument;
    FrequencyExceeded "FREQUENCY_EXCEEDED" FailedPrecondition;
    GrantEmpty "GRANT_EMPTY" InvalidArgument;
    GrantWider "GRANT_WIDER" FailedPrecondition;
    HipRequired "HIP_REQUIRED" InvalidArgument;
    HipUnavailable "HIP_UNAVAILABLE" Unavailable;
    HipUnknown "HIP_UNKNOWN" FailedPrecondition;
    HiTypeNotGranted "HI_TYPE_NOT_GRANTED" FailedPrecondition;
    IdentityStale "IDENTITY_STALE" Unavailable;
    IdentityUnavailable "IDENTITY_UNAVAILABLE" Unavailable;
    IndexBeyondTree "INDEX_BEYOND_TREE" OutOfRange;
    Internal "INTERNAL" Internal;
    KeyMaterialInvalid "KEY_MATERIAL_INVALID" InvalidArgument;
    KeyOverlap "KEY_OVERLAP" FailedPrecondition;
    KycExpired "KYC_EXPIRED" FailedPrecondition;
    KycFactorUnavailable "KYC_FACTOR_UNAVAILABLE" FailedPrecondition;
    KycIdentifierUnknown "KYC_IDENTIFIER_UNKNOWN" FailedPrecondition;
    KycRejected "KYC_REJECTED" FailedPrecondition;
    KycUnavailable "KYC_UNAVAILABLE" Unavailable;
    LegalHold "LEGAL_HOLD" FailedPrecondition;
    LinkLimit "LINK_LIMIT" FailedPrecondition;
    LinkTokenExpired "LINK_TOKEN_EXPIRED" FailedPrecondition;
    LinkTokenInvalid "LINK_TOKEN_INVALID" FailedPrecondition;
    LinkTokenLimit "LINK_TOKEN_LIMIT" ResourceExhausted;
    LockerActive "LOCKER_ACTIVE" AlreadyExists;
    LogActive "LOG_ACTIVE" FailedPrecondition;
    LogFrozen "LOG_FROZEN" DataLoss;
    LogSealed "LOG_SEALED" FailedPrecondition;
    MessageUnavailable "MESSAGE_UNAVAILABLE" Unavailable;
    MobileLimit "MOBILE_LIMIT" FailedPrecondition;
    NodeNotInStudy "NODE_NOT_IN_STUDY" PermissionDenied;
    NoticeIncomplete "NOTICE_INCOMPLETE" InvalidArgument;
    NoticeMismatch "NOTICE_MISMATCH" FailedPrecondition;
    NotificationUnknown "NOTIFICATION_UNKNOWN" NotFound;
    NotAvailable "NOT_AVAILABLE" PermissionDenied;
    NotFound "NOT_FOUND" NotFound;
    NoConsent "NO_CONSENT" FailedPrecondition;
    NoMatch "NO_MATCH" FailedPrecondition;
    OpenLimit "OPEN_LIMIT" ResourceExhausted;
    OtpBlocked "OTP_BLOCKED" ResourceExhausted;
    OtpExpired "OTP_EXPIRED" FailedPrecondition;
    OtpMismatch "OTP_MISMATCH" FailedPrecondition;
    Overloaded "OVERLOADED" ResourceExhausted;
    ParticipantExists "PARTICIPANT_EXISTS" AlreadyExists;
    ParticipantNotActive "PARTICIPANT_NOT_ACTIVE" FailedPrecondition;
    PolicyDuplicate "POLICY_DUPLICATE" AlreadyExists;
    PolicyPurpose "POLICY_PURPOSE" InvalidArgument;
    PositionUnknown "POSITION_UNKNOWN" OutOfRange;
    PowerMissing "POWER_MISSING" PermissionDenied;
    PowerNotDelegable "POWER_NOT_DELEGABLE" FailedPrecondition;
    ProbeLimit "PROBE_LIMIT" ResourceExhausted;
    ProfileMismatch "PROFILE_MISMATCH" FailedPrecondition;
    ProviderMismatch "PROVIDER_MISMATCH" FailedPrecondition;
    ProviderNotAcknowledged "PROVIDER_NOT_ACKNOWLEDGED" FailedPrecondition;
    ProviderNotActive "PROVIDER_NOT_ACTIVE" FailedPrecondition;
    PurposeNotGranted "PURPOSE_NOT_GRANTED" FailedPrecondition;
    PurposeNotRequestable "PURPOSE_NOT_REQUESTABLE" InvalidArgument;
    PushUriNotRegistered "PUSH_URI_NOT_REGISTERED" FailedPrecondition;
    QueryBudget "QUERY_BUDGET" ResourceExhausted;
    QueryTooWide "QUERY_TOO_WIDE" InvalidArgument;
    RateLimited "RATE_LIMITED" ResourceExhausted;
    ReasonRequired "REASON_REQUIRED" InvalidArgument;
    RecipientInvalid "RECIPIENT_INVALID" InvalidArgument;
    RecordRangeNotGranted "RECORD_RANGE_NOT_GRANTED" FailedPrecondition;
    RefreshExpired "REFRESH_EXPIRED" Unauthenticated;
    RefreshReused "REFRESH_REUSED" Unauthenticated;
    RegistrationUnverified "REGISTRATION_UNVERIFIED" FailedPrecondition;
    RenewalWider "RENEWAL_WIDER" FailedPrecondition;
    RepresentationNotActive "REPRESENTATION_NOT_ACTIVE" FailedPrecondition;
    RepresentativeNotEligible "REPRESENTATIVE_NOT_ELIGIBLE" FailedPrecondition;
    RequesterMismatch "REQUESTER_MISMATCH" FailedPrecondition;
    RequesterNotActive "REQUESTER_NOT_ACTIVE" FailedPrecondition;
    RequestExpired "REQUEST_EXPIRED" FailedPrecondition;
    RequestIdExpired "REQUEST_ID_EXPIRED" InvalidArgument;
    RequestIdReused "REQUEST_ID_REUSED" AlreadyExists;
    RequestLimit "REQUEST_LIMIT" ResourceExhausted;
    ResendLimit "RESEND_LIMIT" ResourceExhausted;
    ResendTooEarly "RESEND_TOO_EARLY" ResourceExhausted;
    RetentionFloor "RETENTION_FLOOR" FailedPrecondition;
    ReviewDone "REVIEW_DONE" FailedPrecondition;
    ScopeInvalid "SCOPE_INVALID" InvalidArgument;
    SelectionRequired "SELECTION_REQUIRED" FailedPrecondition;
    SourceRequired "SOURCE_REQUIRED" InvalidArgument;
    SizeConflict "SIZE_CONFLICT" Aborted;
    StateConflict "STATE_CONFLICT" FailedPrecondition;
    StepUpRequired "STEP_UP_REQUIRED" PermissionDenied;
    StorageUnavailable "STORAGE_UNAVAILABLE" Unavailable;
    StreamWindow "STREAM_WINDOW" ResourceExhausted;
    StudyNotActive "STUDY_NOT_ACTIVE" FailedPrecondition;
    SubjectInactive "SUBJECT_INACTIVE" FailedPrecondition;
    TileUnknown "TILE_UNKNOWN" NotFound;
    TokenExpired "TOKEN_EXPIRED" Unauthenticated;
    TokenMissing "TOKEN_MISSING" Unauthenticated;
    TokenRevoked "TOKEN_REVOKED" Unauthenticated;
    TransactionPurpose "TRANSACTION_PURPOSE" FailedPrecondition;
    TransactionState "TRANSACTION_STATE" FailedPrecondition;
    UserMismatch "USER_MISMATCH" FailedPrecondition;
    UseLimitReached "USE_LIMIT_REACHED" FailedPrecondition;
}

impl Reason {
    /// Reads it back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|r| r.as_str() == text)
    }
}

macro_rules! facts { ($($variant:ident $text:literal;)*) => {
    /// The names of what a refusal tells beside its reason, in `ErrorInfo.metadata`: the only list of them.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
    #[expect(missing_docs, reason = "the contracts document each where they name its reason")]
    pub enum Fact { $($variant,)* }

    impl Fact {
        /// All of them.
        pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

        /// As it stands in `ErrorInfo.metadata`.
        pub const fn as_str(self) -> &'static str {
            match self { $(Self::$variant => $text,)* }
        }
    }
} }

facts! {
    AttemptsLeft "attempts_left";
    Consent "consent";
    DecisionId "decision_id";
    DueTime "due_time";
    EventId "event_id";
    ExpectedPosition "expected_position";
    Field "field";
    Hip "hip";
    KnownDigest "known_digest";
    Position "position";
    ProviderCode "provider_code";
    SentDigest "sent_digest";
    State "state";
    TreeSize "tree_size";
}

impl Fact {
    /// Reads it back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|fact| fact.as_str() == text)
    }
}

/// One field that is wrong, and what it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in the request, as `scope.record_range.from`.
    pub field: Cow<'static, str>,
    /// What is wrong and what is allowed; never the value itself.
    pub description: Cow<'static, str>,
}

/// All that is wrong with a request, gathered before anything is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Nothing found yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `field` is wrong: `description` says what is allowed.
    pub fn add(&mut self, field: impl Into<Cow<'static, str>>, description: impl Into<Cow<'static, str>>) {
        self.0.push(Violation {
            field: field.into(),
            description: description.into(),
        });
    }

    /// Keeps `value`, or notes that `field` is wrong.
    pub fn keep<T>(&mut self, field: &'static str, value: Result<T, impl Into<Cow<'static, str>>>) -> Option<T> {
        value.map_err(|why| self.add(field, why)).ok()
    }

    /// Takes over what `other` found.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was found, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.0.iter()
    }

    /// `Ok` when nothing is wrong, else one refusal that names everything.
    ///
    /// # Errors
    /// [`Reason::FieldInvalid`] with every violation.
    pub fn check(self) -> Result<(), Refusal> {
        self.check_as(Reason::FieldInvalid)
    }

    /// The same under another reason.
    ///
    /// # Errors
    /// `reason` with every violation.
    pub fn check_as(self, reason: Reason) -> Result<(), Refusal> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Refusal {
                violations: self,
                ..Refusal::new(reason)
            })
        }
    }
}

/// What a refusal is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The full name of its message.
    pub kind: Cow<'static, str>,
    /// Its name, as the caller gave it.
    pub name: String,
}

/// What a caller is told: reason, facts, wrong fields, when to come back. Never PII, a secret or a party's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// A sentence for a person; empty for the reason's standing sentence.
    pub message: Cow<'static, str>,
    /// Facts by name, as `state` or `attempts_left`; the names are those of [`Fact`].
    pub metadata: Vec<(&'static str, String)>,
    /// What was asked for and is not there.
    pub resource: Option<Box<Resource>>,
    /// Fields that are wrong.
    pub violations: Violations,
    /// When it may be worth asking again.
    pub retry_after: Option<Duration>,
    /// Whether the changes and events of the command that was refused are kept: a wrong OTP counts, though refused.
    pub recorded: bool,
}

impl Refusal {
    /// A bare refusal.
    pub const fn new(reason: Reason) -> Self {
        Self {
            reason,
            message: Cow::Borrowed(""),
            metadata: Vec::new(),
            resource: None,
            violations: Violations(Vec::new()),
            retry_after: None,
            recorded: false,
        }
    }

    /// With a sentence for a person.
    #[must_use]
    pub fn saying(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        self
    }

    /// With a fact.
    #[must_use]
    pub fn with(mut self, fact: Fact, value: impl ToString) -> Self {
        self.metadata.push((fact.as_str(), value.to_string()));
        self
    }

    /// About what was asked for: the full name of its message, as `sammati.audit.v1.Log`, and the name that the caller
    /// gave it. Only for refusals that admit that it is not there.
    #[must_use]
    pub fn about(mut self, kind: &'static str, name: impl Into<String>) -> Self {
        let kind = Cow::Borrowed(kind);
        self.resource = Some(Box::new(Resource {
            kind,
            name: name.into(),
        }));
        self
    }

    /// With a time to come back after.
    #[must_use]
    pub const fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// One that commits what the command changed before it refused.
    #[must_use]
    pub const fn recorded(mut self) -> Self {
        self.recorded = true;
        self
    }

    /// Both values, or one refusal that names every field that either does.
    ///
    /// # Errors
    /// What the one refuses, or both together where both are about fields; else the first.
    pub fn both<A, B>(a: Result<A, Self>, b: Result<B, Self>) -> Result<(A, B), Self> {
        match (a, b) {
            (Ok(a), Ok(b)) => Ok((a, b)),
            (Err(mut a), Err(b)) if !a.violations.is_empty() && !b.violations.is_empty() => {
                a.violations.merge(b.violations);
                if a.reason != b.reason {
                    a = Self {
                        violations: a.violations,
                        ..Self::new(Reason::FieldInvalid)
                    };
                }
                Err(a)
            }
            (Err(refusal), _) | (Ok(_), Err(refusal)) => Err(refusal),
        }
    }

    /// One wrong field.
    pub fn field(field: impl Into<Cow<'static, str>>, description: impl Into<Cow<'static, str>>) -> Self {
        let mut violations = Violations::new();
        violations.add(field, description);
        Self {
            violations,
            ..Self::new(Reason::FieldInvalid)
        }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}
