//! A review that is due is called to mind, once.

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::Refusal;
use sammati_server::event::system;
use sammati_store::View;

use crate::consent;
use crate::notification::{Recipients, notify};
use crate::rows::ConsentRow;

/// Tells operators that nobody has reviewed an opening in time. What is shown of it stays as it is, so a review that was
/// begun goes on.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn remind(view: &mut View<'_>, row: &mut ConsentRow) -> Result<(), Refusal> {
    let Some(glass) = &mut row.break_glass else {
        return Ok(());
    };
    match glass.review_due() {
        // Code that knows nothing of reminders leaves it in the index when it writes a review: it is taken out.
        None => {
            view.put(row);
            return Ok(());
        }
        Some(due) if view.now().0 < due => return Ok(()),
        Some(_) => {}
    }
    glass.reminded = view.now().0;
    view.put(row);
    let told = consent::about("access.break_glass_review_due", Action::Update, &system("consent"), row)?;
    let told = told.resource(&row.id()?.name(), row.version).emit(view);
    let (name, her) = (row.id()?.name(), Some(row.subject()?));
    notify(
        view,
        told,
        Kind::BreakGlassReviewDue,
        &name,
        &Recipients::new().operators(),
        her,
    );
    Ok(())
}
