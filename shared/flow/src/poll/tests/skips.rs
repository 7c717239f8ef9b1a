//! Tests of the reasons not to poll, and of what a poll reads first.

use futures::FutureExt;
use store::records::resource::{PassProgress, Resume};
use store::records::tokens::{self, PauseRecord};

use super::super::Outcome;
use super::*;
use crate::ports::QueueName;

/// Somebody else commits while the vendor answers, so many times.
fn outrun(world: &PollHarness, times: usize) {
    let (store, key) = (Arc::clone(&world.test.store), world.state_key());
    let mut left = times;
    world.intercept(move |_| {
        if left > 0 {
            left -= 1;
            let stored = key.get(&*store).now_or_never()?.ok()??;
            let _ = commit(&*store, &[stored.replace(&stored.record)]).now_or_never()?.ok()?;
        }
        None
    });
}

#[tokio::test]
async fn whoever_waits_is_polled_for_again_when_outrun_and_not_for_ever() {
    for (mode, times, wanted) in [
        (NOW, 1, (Outcome::Committed, 2)),
        (NOW, 4, (Outcome::Committed, 5)),
        (NOW, 100, (Outcome::OutrunByAnother, 5)),
        (Mode::Scheduled, 1, (Outcome::OutrunByAnother, 1)),
    ] {
        let world = PollHarness::polled("ledger", "balances", json!({}), 2).await;
        world.pass(MINUTE * 5);
        let before = world.vendor().listed;
        outrun(&world, times);
        let report = world.poll(mode).await;
        assert_eq!((report.outcome, world.vendor().listed - before), wanted, "{mode:?}, outrun {times} times");
    }
}

#[tokio::test]
async fn whoever_waits_reads_what_was_just_written_and_a_schedule_pays_half_for_a_moment_old() {
    for (mode, wanted) in [(NOW, Outcome::Committed), (Mode::Scheduled, Outcome::OutrunByAnother)] {
        let world = PollHarness::polled("ledger", "balances", json!({}), 2).await;
        world.pass(MINUTE * 5);
        world.test.store.lag();
        world.set_state(|state| state.entries = 2).await;
        let before = world.vendor().listed;
        let report = world.poll(mode).await;
        assert_eq!((report.outcome, world.vendor().listed - before), (wanted, 1), "{mode:?}");
    }
}

#[tokio::test]
async fn a_poll_says_how_late_it_comes() {
    let world = PollHarness::new("ledger", "entries", json!({})).await;
    assert_eq!(world.poll(Mode::Scheduled).await.overdue_ms, None, "nothing was promised yet");
    world.pass(MINUTE * 5);
    assert_eq!(world.poll(Mode::Scheduled).await.overdue_ms, Some(0), "the interval is five minutes");
    world.pass(MINUTE * 12);
    assert_eq!(world.poll(Mode::Scheduled).await.overdue_ms, Some(7 * 60_000));
    world.pass(MINUTE * 4);
    assert_eq!(world.poll(NOW).await.overdue_ms, Some(0), "sooner is not late");
}

#[tokio::test]
async fn a_poll_that_a_later_one_covers_is_not_made() {
    let world = PollHarness::polled("ledger", "entries", json!({}), 1).await;
    assert_eq!(world.poll(Mode::Scheduled).await.outcome, Outcome::AlreadyCovered);
    assert_eq!(world.poll(NOW).await.outcome, Outcome::Committed);
    world.pass(MINUTE);
    assert_eq!(world.poll(Mode::Scheduled).await.outcome, Outcome::Committed);
}

#[tokio::test]
async fn what_keeps_a_poll_back_ends_to_the_millisecond() {
    let tick = TimeDelta::milliseconds(1);
    for (left, wanted) in [(tick, false), (TimeDelta::zero(), true)] {
        let outcome = |kept_back| if wanted { Outcome::Committed } else { kept_back };
        let at_work = PollHarness::polled("ledger", "entries", json!({}), 1).await;
        at_work.pass(MINUTE * 5);
        let now = at_work.now();
        at_work.set_state(|state| state.leased_until = Some(now + left)).await;
        assert_eq!(at_work.poll(Mode::Scheduled).await.outcome, outcome(Outcome::UnderWay), "taken for {left}");

        let pausing = PollHarness::polled("ledger", "entries", json!({}), 1).await;
        pausing.pass(MINUTE * 5);
        pausing.set_state(|state| state.skip_until = Some(now + left)).await;
        assert_eq!(pausing.poll(Mode::Scheduled).await.outcome, outcome(Outcome::BackingOff), "own pause of {left}");

        let paused = PollHarness::polled("ledger", "entries", json!({}), 1).await;
        paused.pass(MINUTE * 5);
        paused.write(&[tokens::pause_key(ID).put(&PauseRecord { until: now + left })]).await;
        assert_eq!(
            paused.poll(Mode::Scheduled).await.outcome,
            outcome(Outcome::BackingOff),
            "account's pause of {left}"
        );

        // A pass that another job began belongs to that job for five minutes.
        let handed_on = PollHarness::polled("ledger", "entries", json!({}), 1).await;
        handed_on.pass(MINUTE * 5);
        let minute = handed_on.service.wheel.minute_of(now);
        let resume = |minute| Resume {
            partition: String::new(),
            listing: String::new(),
            complete: false,
            newest: None,
            lower: None,
            seen_pieces: 0,
            progress: PassProgress::beginning(now),
            minute,
            saved: now + left - MINUTE * 5,
        };
        handed_on.set_state(|state| state.resume = Some(resume(minute - 5))).await;
        assert_eq!(handed_on.poll(Mode::Scheduled).await.outcome, outcome(Outcome::UnderWay), "saved, {left} left");
        handed_on.set_state(|state| state.resume = Some(resume(minute))).await;
        assert_eq!(handed_on.poll(Mode::Scheduled).await.outcome, Outcome::Committed, "its own job goes on at once");
    }
}

#[tokio::test]
async fn jobs_come_back_after_the_pause_and_not_within_it() {
    let world = PollHarness::polled("ledger", "entries", json!({}), 1).await;
    world.pass(MINUTE * 5);
    world.refuses(503);
    let report = world.poll(Mode::Scheduled).await;
    let waiting = world.test.queue.waiting(QueueName::Polls);
    let ([(due, _)], Some(skip_until)) = (&waiting[..], report.skip_until) else { panic!("{waiting:?} {report:?}") };
    assert!(*due >= skip_until && *due <= skip_until + TimeDelta::seconds(1), "{due} and {skip_until}");
}
