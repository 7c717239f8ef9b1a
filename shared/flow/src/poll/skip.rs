//! The reasons not to make a poll that was asked for.

use store::records::poll_input::PollInput;

use super::lease;
use super::report::Outcome;
use super::request::{Mode, PollRequest};

/// The reason to skip the poll, if there is one.
pub(super) fn reason(request: &PollRequest<'_>, input: &PollInput) -> Option<Outcome> {
    let PollRequest { service, job, mode, began: now, .. } = *request;
    let (instance, state) = (&input.instance.record, &input.state.record);
    let is_covered = match mode {
        Mode::Scheduled => state.covers(service.wheel.start_of(job.minute)),
        Mode::Baseline => state.has_baseline,
        Mode::Now { .. } => false,
    };
    let is_scheduled = mode == Mode::Scheduled;
    if !instance.resources.contains_key(&job.resource) {
        Some(Outcome::Gone)
    } else if instance.disabled || !instance.events_enabled {
        Some(Outcome::Disabled)
    } else if instance.reconnect.is_some() {
        Some(Outcome::NeedsLogin)
    } else if is_covered {
        Some(Outcome::AlreadyCovered)
    } else if is_scheduled && state.skip_until.max(input.paused_until).is_some_and(|until| until > now) {
        Some(Outcome::BackingOff)
    } else if is_scheduled && lease::is_held(state, job, now) {
        Some(Outcome::UnderWay)
    } else {
        None
    }
}

/// The time by which the poll is overdue; see [`super::PollReport::overdue_ms`].
pub(super) fn overdue_ms(request: &PollRequest<'_>, input: &PollInput) -> Option<u64> {
    let interval_minutes = input.instance.record.interval_of(&request.job.resource);
    let interval = request.service.wheel.minute() * u32::from(interval_minutes);
    let uncovered = request.began - input.state.record.coverage.until()?;
    Some(uncovered.to_std().unwrap_or_default().saturating_sub(interval).as_millis() as u64)
}
