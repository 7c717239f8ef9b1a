//! The retry schedule, and what follows from an attempt: delivered, again later, never again, or enough.
//!
//! | Answer | Verdict |
//! | --- | --- |
//! | 2xx | delivered |
//! | 410 | the callback is switched off (Standard Webhooks: the receiver wants no more) |
//! | 429, 503 with `Retry-After` | again at that time, within bounds |
//! | anything else, 3xx included, or no answer | again after the next step |
//! | the same when the steps are used up, or under [`FailurePolicy::Queue`] | enough: queued until somebody asks |

use chrono::{DateTime, TimeDelta, Utc};

use crate::configuration::FailurePolicy;

/// Seconds between one failed attempt and the next, before jitter: the example schedule of Standard Webhooks.
/// Ten attempts over 75 hours and 35 minutes, so that a callback may be down from Friday to Monday.
pub const STEPS: [i64; 9] = [5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600];

/// The longest time from a failed attempt to the next: a receiver may ask for twice the last step.
pub const LONGEST_WAIT: TimeDelta = TimeDelta::seconds(2 * STEPS[STEPS.len() - 1]);

/// The seconds of an hour: a receiver may ask to be left alone for so long even on an early step.
const LONGEST_ASKED: i64 = 3600;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome<'a> {
    /// With a complete head of an answer.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The `Retry-After` header as it stands.
        retry_after: Option<&'a str>,
    },
    /// Refused, reset, too late, not HTTP, or an address that is not allowed.
    NoAnswer,
}

/// What follows from an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Delivered,
    /// Try again at this instant, not before.
    RetryAt(DateTime<Utc>),
    /// The receiver wants no more, of this or any other. Says why.
    Disable(&'static str),
    /// No further attempt by itself.
    Exhausted,
}

/// Where a delivery stands in the retry schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Failed attempts that count; a probe ahead of its step does not.
    pub steps: u32,
    /// When the present step is waited out.
    pub step_ends: Option<DateTime<Utc>>,
}

impl Progress {
    /// Takes note of a failed attempt, and answers when the next is due. None: the schedule has ended.
    ///
    /// A probe that came ahead of its step does not count: what was tried every quarter of an hour for the sake of all
    /// must not come to its own end sooner for it.
    pub fn advance(&mut self, verdict: &Verdict, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if let Some(ends) = self.step_ends.filter(|ends| *ends > now) {
            return Some(ends);
        }
        self.steps += 1;
        self.step_ends = if let Verdict::RetryAt(at) = verdict { Some(*at) } else { None };
        self.step_ends
    }
}

/// Whether the answer says that the receiver has it.
pub fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// Judges attempt number `attempt`, counted from 1, that ended at `now`. `jitter` is 64 random bits.
///
/// A step is waited out with up to 20 % more or less, so that what failed together does not return together. A time
/// asked for by `Retry-After` (seconds or an HTTP date; 429 and 503 only) is kept as it is if it lies between the step
/// and the larger of twice the step and an hour, else the nearer bound is taken.
pub fn judge(
    outcome: AttemptOutcome<'_>,
    attempt: u32,
    now: DateTime<Utc>,
    jitter: u64,
    policy: FailurePolicy,
) -> Verdict {
    let asked = match outcome {
        AttemptOutcome::Answered { status, .. } if is_success(status) => return Verdict::Delivered,
        AttemptOutcome::Answered { status: 410, .. } => return Verdict::Disable("the callback answered 410 Gone"),
        AttemptOutcome::Answered { status: 429 | 503, retry_after } => {
            retry_after.and_then(|text| seconds_asked(text, now))
        }
        _ => None,
    };
    let index = usize::try_from(attempt.max(1) - 1).unwrap_or(usize::MAX);
    let Some(step) = STEPS.get(index).filter(|_| policy == FailurePolicy::Retry) else {
        return Verdict::Exhausted;
    };
    let wait = match asked {
        Some(asked) => TimeDelta::seconds(asked.clamp(*step, LONGEST_ASKED.max(step * 2))),
        None => spread(TimeDelta::seconds(*step), jitter),
    };
    Verdict::RetryAt(now + wait)
}

/// The time with up to 20 % more or less.
pub fn spread(wait: TimeDelta, jitter: u64) -> TimeDelta {
    // 80 % to 120 % in steps of a thousandth.
    let permille = 800 + (jitter % 401) as i64;
    TimeDelta::milliseconds(wait.num_milliseconds() / 1000 * permille)
}

fn seconds_asked(text: &str, now: DateTime<Utc>) -> Option<i64> {
    let text = text.trim();
    match text.parse::<u32>() {
        Ok(seconds) => Some(i64::from(seconds)),
        // RFC 9110's preferred date form is that of RFC 2822.
        Err(_) => DateTime::parse_from_rfc2822(text).ok().map(|date| (date.to_utc() - now).num_seconds()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: u64 = 200;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_603_600, 0).unwrap_or_default() // 2026-01-05T09:00:00Z
    }

    /// One line an answer: what the verdict is on the first attempt, in seconds from now.
    fn check(status: u16, retry_after: Option<&str>, expected: &str) {
        let verdict = judge(AttemptOutcome::Answered { status, retry_after }, 1, now(), MIDDLE, FailurePolicy::Retry);
        let text = match verdict {
            Verdict::RetryAt(at) => format!("retry in {} s", (at - now()).num_seconds()),
            Verdict::Disable(_) => "disable".into(),
            other => format!("{other:?}").to_lowercase(),
        };
        assert_eq!(text, expected, "{status} {retry_after:?}");
    }

    #[test]
    fn answers_are_judged_by_the_table() {
        for status in [200, 201, 202, 204, 299] {
            check(status, None, "delivered");
        }
        for status in [100, 199, 300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 408, 409, 422, 429, 500, 502, 503] {
            check(status, None, "retry in 5 s");
        }
        check(410, None, "disable");
        check(429, Some("120"), "retry in 120 s");
        check(503, Some(" 3600 "), "retry in 3600 s");
        check(503, Some("1"), "retry in 5 s");
        check(429, Some("86400"), "retry in 3600 s");
        check(429, Some("Mon, 05 Jan 2026 09:10:00 GMT"), "retry in 600 s");
        check(429, Some("Mon, 05 Jan 2026 08:00:00 GMT"), "retry in 5 s");
        check(429, Some("soon"), "retry in 5 s");
        check(429, Some("-5"), "retry in 5 s");
        check(500, Some("120"), "retry in 5 s");
    }

    #[test]
    fn the_schedule_has_nine_steps_and_then_ends() {
        let waits: Vec<i64> = (1..)
            .map_while(|attempt| match judge(AttemptOutcome::NoAnswer, attempt, now(), MIDDLE, FailurePolicy::Retry) {
                Verdict::RetryAt(at) => Some((at - now()).num_seconds()),
                verdict => {
                    assert_eq!(verdict, Verdict::Exhausted);
                    None
                }
            })
            .collect();
        assert_eq!(waits, [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]);
        assert_eq!(waits.iter().sum::<i64>(), (75 * 60 + 35) * 60 + 5);
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        for (jitter, seconds) in [(0, 240), (200, 300), (400, 360), (401, 240)] {
            let verdict = judge(AttemptOutcome::NoAnswer, 2, now(), jitter, FailurePolicy::Retry);
            assert_eq!(verdict, Verdict::RetryAt(now() + TimeDelta::seconds(seconds)));
        }
    }

    #[test]
    fn what_is_asked_for_on_a_late_step_is_at_most_twice_the_step() {
        let asked = AttemptOutcome::Answered { status: 503, retry_after: Some("99999999") };
        let verdict = judge(asked, 4, now(), 0, FailurePolicy::Retry);
        assert_eq!(verdict, Verdict::RetryAt(now() + TimeDelta::hours(4)));
    }

    #[test]
    fn the_queue_policy_tries_once() {
        let failed = AttemptOutcome::Answered { status: 500, retry_after: None };
        assert_eq!(judge(failed, 1, now(), 0, FailurePolicy::Queue), Verdict::Exhausted);
        let fine = AttemptOutcome::Answered { status: 200, retry_after: None };
        assert_eq!(judge(fine, 1, now(), 0, FailurePolicy::Queue), Verdict::Delivered);
    }

    #[test]
    fn an_attempt_ahead_of_its_step_does_not_count() {
        let at = |seconds| now() + TimeDelta::seconds(seconds);
        let again = |seconds| Verdict::RetryAt(at(seconds));
        let mut progress = Progress::default();
        assert_eq!((progress.advance(&again(5), now()), progress.steps), (Some(at(5)), 1));
        assert_eq!((progress.advance(&again(300), at(4)), progress.steps), (Some(at(5)), 1));
        assert_eq!((progress.advance(&again(300), at(5)), progress.steps), (Some(at(300)), 2));
        assert_eq!((progress.advance(&Verdict::Exhausted, at(300)), progress.steps), (None, 3));
    }
}
