//! Emergencies.

use sammati_api::consent::v1::break_glass::Outcome;
use sammati_tests::story::Failure;

use super::{Made, Stage, apart, made};

impl Stage {
    pub(super) async fn open_break_glass(&self) -> Result<Made, Failure> {
        let professional = self.story.professional().await?;
        self.until_known().await?;
        let (one, other) = self.two_people().await?;
        Ok(made(
            &self.story.clinic,
            self.story.emergency(&one, &professional),
            |r| r.patient = other.address(),
        ))
    }

    pub(super) async fn review_break_glass(&self) -> Result<Made, Failure> {
        let open = async || {
            let professional = self.story.professional().await?;
            self.until_known().await?;
            Ok(self.story.break_glass(&self.person().await?, &professional).await?)
        };
        let (one, other) = apart(open, |consent| &consent.name).await?;
        let request = self.story.review(&one.name, Outcome::Upheld);
        Ok(made(&self.story.operator, request, |r| r.name = other.name))
    }
}
