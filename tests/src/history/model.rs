//! One request and the consent that comes of it, as plain values: what each call answers, and what it changes.

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// ApproveConsentRequest.
    Approve,
    /// DenyConsentRequest.
    Deny,
    /// RevokeConsents, with this one name.
    Revoke,
    /// CheckAccess.
    Check,
    /// AuthorizeAccess.
    Authorize,
    /// GetConsentRequest.
    GetRequest,
    /// GetConsent.
    GetConsent,
    /// Nobody's call: the consent's time may be over from here on.
    EndNears,
    /// Nobody's call: its time is over for everybody.
    End,
}

/// The states of a request. Its window is longer than any history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// Not decided.
    Requested,
    /// Given.
    Granted,
    /// Not given.
    Denied,
}

/// The states of a consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Consent {
    /// In force.
    Granted,
    /// Taken back.
    Revoked,
    /// Its time is over.
    Expired,
}

/// Why a decision is a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// There is none.
    NoConsent,
    /// It was taken back.
    Revoked,
    /// Its time is over.
    Expired,
    /// All uses are taken.
    Spent,
}

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// This approve gave the consent.
    Approved,
    /// This deny denied the request.
    Denied,
    /// It was decided before, and how.
    Decided(Request),
    /// An approve that came when nothing was left to give: the time asked for is over.
    Empty,
    /// This revoke took the consent back.
    Revoked,
    /// It had ended before, and how.
    Ended(Consent),
    /// A decision: yes.
    Permit {
        /// Which use was taken; `None` of a check.
        taken: Option<u32>,
        /// How many are left after it.
        left: u32,
    },
    /// A decision: no.
    Deny(Why),
    /// A request as it was read.
    Request(Request),
    /// A consent as it was read, and the uses taken; of an expired one they are not told.
    Consent(Consent, Option<u32>),
    /// Time went on.
    Passed,
}

impl Answer {
    /// Whether a call with this answer changed something. The same answer always means the same.
    pub const fn changes(self) -> bool {
        matches!(
            self,
            Self::Approved | Self::Denied | Self::Revoked | Self::Permit { taken: Some(_), .. } | Self::Passed
        )
    }
}

/// Where the clock is, seen from the end of the consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Time {
    Before,
    /// A command takes its time before it commits, and clocks differ a little: some see the end, and some do not yet.
    Near,
    After,
}

/// A request and its consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Model {
    request: Request,
    /// Whether a consent that was given was taken back.
    revoked: bool,
    uses: u32,
    limit: u32,
    time: Time,
}

impl Model {
    /// A request that was made, for a consent with so many uses.
    pub const fn requested(limit: u32) -> Self {
        Self {
            request: Request::Requested,
            revoked: false,
            uses: 0,
            limit,
            time: Time::Before,
        }
    }

    /// Every way in which `what` may go now: what it answers, and what is afterwards.
    pub fn ways(self, what: What) -> Vec<(Answer, Self)> {
        match self.time {
            Time::Before => vec![self.way(what, false)],
            Time::After => vec![self.way(what, true)],
            Time::Near => vec![self.way(what, false), self.way(what, true)],
        }
    }

    /// Whether something may still be answered so, now or later: what changed does not change back.
    pub const fn may_answer(self, answer: Answer) -> bool {
        let is_open = matches!(self.request, Request::Requested);
        match answer {
            Answer::Approved | Answer::Denied | Answer::Empty | Answer::Request(Request::Requested) => is_open,
            Answer::Deny(Why::NoConsent) => !matches!(self.request, Request::Granted),
            Answer::Revoked => !self.revoked,
            Answer::Permit { taken, left } => {
                let uses = if taken.is_some() { self.uses + 1 } else { self.uses };
                !self.revoked && left + uses <= self.limit
            }
            Answer::Consent(Consent::Granted, _) | Answer::Deny(Why::Spent) if self.revoked => false,
            Answer::Consent(_, Some(uses)) => uses >= self.uses,
            _ => true,
        }
    }

    /// The one way, for whom the consent's time is `over` or not.
    fn way(self, what: What, over: bool) -> (Answer, Self) {
        match what {
            What::Approve => self.approve(over),
            What::Deny => self.decided().unwrap_or((
                Answer::Denied,
                Self {
                    request: Request::Denied,
                    ..self
                },
            )),
            What::Revoke => self.revoke(over),
            What::Check => (self.check(over), self),
            What::Authorize => self.authorize(over),
            What::GetRequest => (Answer::Request(self.request), self),
            What::GetConsent => (self.read(over), self),
            What::EndNears => self.passed(Time::Near),
            What::End => self.passed(Time::After),
        }
    }

    /// The answer to whoever decides a request that was decided.
    fn decided(self) -> Option<(Answer, Self)> {
        (self.request != Request::Requested).then_some((Answer::Decided(self.request), self))
    }

    fn approve(self, over: bool) -> (Answer, Self) {
        let given = Self {
            request: Request::Granted,
            ..self
        };
        let open = if over {
            (Answer::Empty, self)
        } else {
            (Answer::Approved, given)
        };
        self.decided().unwrap_or(open)
    }

    fn revoke(self, over: bool) -> (Answer, Self) {
        match self.consent(over) {
            // Nobody can name it yet.
            None => (Answer::Deny(Why::NoConsent), self),
            Some(Consent::Granted) => (Answer::Revoked, Self { revoked: true, ..self }),
            Some(ended) => (Answer::Ended(ended), self),
        }
    }

    fn check(self, over: bool) -> Answer {
        let why = match self.consent(over) {
            None => Why::NoConsent,
            Some(Consent::Revoked) => Why::Revoked,
            Some(Consent::Expired) => Why::Expired,
            Some(Consent::Granted) if self.uses >= self.limit => Why::Spent,
            Some(Consent::Granted) => {
                return Answer::Permit {
                    taken: None,
                    left: self.limit - self.uses,
                };
            }
        };
        Answer::Deny(why)
    }

    fn authorize(self, over: bool) -> (Answer, Self) {
        let Answer::Permit { left, .. } = self.check(over) else {
            return (self.check(over), self);
        };
        let uses = self.uses + 1;
        let (taken, left) = (Some(uses), left - 1);
        (Answer::Permit { taken, left }, Self { uses, ..self })
    }

    fn read(self, over: bool) -> Answer {
        match self.consent(over) {
            None => Answer::Deny(Why::NoConsent),
            // A use that was decided before the end may be written after it.
            Some(Consent::Expired) => Answer::Consent(Consent::Expired, None),
            Some(state) => Answer::Consent(state, Some(self.uses)),
        }
    }

    fn consent(self, over: bool) -> Option<Consent> {
        (self.request == Request::Granted).then_some(match (self.revoked, over) {
            (true, _) => Consent::Revoked,
            (false, true) => Consent::Expired,
            (false, false) => Consent::Granted,
        })
    }

    const fn passed(self, time: Time) -> (Answer, Self) {
        (Answer::Passed, Self { time, ..self })
    }
}
