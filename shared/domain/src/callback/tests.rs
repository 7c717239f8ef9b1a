//! A callback's circuit and backlog together, as deliveries come, fail and arrive.

use chrono::TimeDelta;

use super::*;
use crate::backlog::{MOST_TRACKED, ReleasedFrom};
use crate::retry_schedule::STEPS;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_603_600 + seconds, 0).unwrap_or_default()
}

/// Without jitter.
const EVEN: u64 = 200;

fn fail(state: &mut CallbackState, text: &str, record: u64, seconds: i64) -> AfterFailure {
    state.failed((&key(text), &[record]), Some(at(seconds + 300)), FailurePolicy::Retry, at(seconds), EVEN)
}

fn key(text: &str) -> DeliveryKey {
    DeliveryKey::new(text)
}

fn waiting(text: &str, record: u64) -> Waiting {
    Waiting { key: key(text), records: vec![record] }
}

/// A release out of the backlog.
fn out(text: &str, seconds: i64) -> Release {
    Release { key: key(text), from: ReleasedFrom::Backlog, at: at(seconds) }
}

/// A release of one in flight.
fn moved_up(text: &str, seconds: i64) -> Release {
    Release { from: ReleasedFrom::Flight, ..out(text, seconds) }
}

/// The keys of those that were released, all of which waited in the backlog.
fn left(released: &[Release]) -> Vec<&str> {
    let key = |one: &'_ Release| one.from == ReleasedFrom::Backlog;
    assert!(released.iter().all(key), "{released:?}");
    released.iter().map(|one| one.key.as_str()).collect()
}

fn opened() -> CallbackState {
    let mut state = CallbackState::default();
    for n in 1..=5 {
        fail(&mut state, &n.to_string(), n, n as i64);
    }
    state
}

#[test]
fn five_failures_in_a_row_open_it_and_four_never_do() {
    let mut state = CallbackState::default();
    for round in 0..10 {
        for n in 0..4 {
            assert_eq!(fail(&mut state, "b", n, round), AfterFailure::RetryAt(at(round + 300)));
        }
        assert!(state.circuit.open().is_none());
        state.succeeded(&key("a"), at(0));
    }
    state.succeeded(&key("b"), at(0));
    assert!(state.is_healthy());
    assert!(opened().circuit.open().is_some());
}

#[test]
fn while_open_one_probes_and_the_rest_wait() {
    let mut state = opened();
    let next = at(5 + 30);
    assert_eq!(state.admit(&key("6"), &[6], at(6)), Admission::ComeBack(next), "the first to come is the probe");
    assert_eq!(state.admit(&key("7"), &[7], at(6)), Admission::JoinBacklog);
    assert_eq!(
        state.admit(&key("1"), &[1], at(20)),
        Admission::JoinBacklog,
        "a failed one whose time has come waits, too"
    );
    assert_eq!(state.backlog.waiting, 2);
    assert_eq!(state.admit(&key("6"), &[6], at(10)), Admission::ComeBack(next));
    assert_eq!(state.admit(&key("6"), &[6], next), Admission::Send);
    // The probe fails: the first in the backlog is the next one, a minute later.
    assert_eq!(fail(&mut state, "6", 6, 35), AfterFailure::RetryAt(at(335)));
    assert_eq!(state.wants(), 1);
    let front = [waiting("1", 1), waiting("7", 7)];
    assert_eq!(state.release(&front, at(35)), [out("1", 35 + 60)]);
    assert_eq!(state.admit(&key("6"), &[6], at(335)), Admission::JoinBacklog);
    assert_eq!(state.admit(&key("1"), &[1], at(95)), Admission::Send);
    assert_eq!(fail(&mut state, "1", 1, 95), AfterFailure::RetryAt(at(395)));
    assert_eq!(state.circuit.open().map(|open| open.next_probe), Some(at(95 + 120)));
}

#[test]
fn the_pace_of_probes_slows_down_to_a_quarter_of_an_hour() {
    let mut state = opened();
    let paces: Vec<i64> = (0..7)
        .map(|_| {
            let now = state.circuit.open().map_or(at(0), |open| open.next_probe);
            assert_eq!(state.admit(&key("9"), &[9], now), Admission::Send, "with nobody waiting, whoever comes probes");
            let due = now + TimeDelta::hours(24);
            let next = state.failed((&key("9"), &[9]), Some(due), FailurePolicy::Retry, now, EVEN);
            assert_eq!(next, AfterFailure::RetryAt(due), "its own schedule is not touched");
            state.circuit.open().map_or(0, |open| (open.next_probe - now).num_seconds())
        })
        .collect();
    assert_eq!(paces, [60, 120, 240, 480, 900, 900, 900]);
}

#[test]
fn when_it_closes_the_backlog_drains_in_order_and_newcomers_join_its_end() {
    let mut state = opened();
    assert_eq!(state.admit(&key("05"), &[5], at(6)), Admission::ComeBack(at(35)));
    for n in 6..=12 {
        assert_eq!(state.admit(&key(&format!("{n:02}")), &[n], at(6)), Admission::JoinBacklog);
    }
    // Those on their schedule are not in this story.
    state.backlog.in_flight.retain(|one| one.key == key("05"));
    state.succeeded(&key("05"), at(40));
    assert!(state.circuit.open().is_none());
    assert_eq!(state.admit(&key("13"), &[13], at(40)), Admission::JoinBacklog);
    let front: Vec<Waiting> = (6..=13).map(|n| waiting(&format!("{n:02}"), n)).collect();
    let released = state.release(&front, at(40));
    assert_eq!(left(&released), ["06", "07", "08", "09"]);
    assert_eq!(state.admit(&key("06"), &[6], at(41)), Admission::Send);
    state.succeeded(&key("06"), at(0));
    assert_eq!(state.release(&front[4..], at(42)).len(), 1);
    assert_eq!(state.backlog.waiting, 3);
}

#[test]
fn a_newer_delivery_of_a_failed_record_follows_it_and_others_pass() {
    let mut state = CallbackState::default();
    assert_eq!(fail(&mut state, "1", 77, 0), AfterFailure::RetryAt(at(300)));
    assert_eq!(state.admit(&key("2"), &[78], at(1)), Admission::Send);
    assert_eq!(state.admit(&key("3"), &[5, 77], at(1)), Admission::ComeBack(at(360)));
    assert_eq!(state.admit(&key("4"), &[5], at(1)), Admission::ComeBack(at(420)), "behind the one that is behind");
    assert_eq!(state.admit(&key("1"), &[77], at(300)), Admission::Send);
    state.succeeded(&key("1"), at(0));
    assert_eq!(state.admit(&key("3"), &[5, 77], at(301)), Admission::Send);
}

#[test]
fn when_it_closes_those_on_their_schedule_go_first_and_none_overtakes_within_its_record() {
    let mut state = opened();
    assert_eq!(state.admit(&key("6"), &[6], at(6)), Admission::ComeBack(at(35)));
    for (text, record) in [("7", 1), ("8", 1), ("9", 2)] {
        assert_eq!(state.admit(&key(text), &[record], at(6)), Admission::JoinBacklog);
    }
    state.succeeded(&key("6"), at(40));
    let mut backlog = vec![waiting("7", 1), waiting("8", 1), waiting("9", 2)];
    let go = |state: &mut CallbackState, backlog: &mut Vec<Waiting>| -> Vec<String> {
        let released = state.release(backlog, at(40));
        assert!(released.iter().all(|one| one.at == at(40)), "at once");
        backlog.retain(|waiting| released.iter().all(|one| one.key != waiting.key));
        released.iter().map(|one| one.key.to_string()).collect()
    };
    assert_eq!(go(&mut state, &mut backlog), ["1", "2", "3", "4"]);
    assert_eq!(state.admit(&key("1"), &[1], at(40)), Admission::Send, "ahead of the time it was filed for");
    state.succeeded(&key("3"), at(41));
    assert_eq!(go(&mut state, &mut backlog), ["5"]);
    state.succeeded(&key("4"), at(41));
    assert_eq!(go(&mut state, &mut backlog), [""; 0], "all in the backlog wait for one that is under way");
    state.succeeded(&key("1"), at(42));
    assert_eq!(go(&mut state, &mut backlog), ["7"]);
    state.succeeded(&key("2"), at(43));
    assert_eq!(go(&mut state, &mut backlog), ["9"]);
    state.succeeded(&key("7"), at(44));
    assert_eq!(go(&mut state, &mut backlog), ["8"]);
    ["5", "8", "9"].iter().for_each(|text| state.succeeded(&key(text), at(45)));
    assert!(state.is_healthy(), "{state:?}");
}

#[test]
fn if_all_wait_for_one_on_its_schedule_that_one_probes() {
    let mut state = CallbackState::default();
    for second in 0..5 {
        let due = Some(at(7200));
        assert_eq!(
            state.failed((&key("1"), &[1]), due, FailurePolicy::Retry, at(second), EVEN),
            AfterFailure::RetryAt(at(7200))
        );
    }
    state.circuit.open_mut().into_iter().for_each(|open| open.probe = Some(key("2")));
    assert_eq!(state.admit(&key("3"), &[1], at(6)), Admission::JoinBacklog);
    state.withdraw(&key("2"));
    let released = state.release(&[waiting("3", 1)], at(6));
    assert_eq!(released, [moved_up("1", 4 + 30)]);
    assert_eq!((state.backlog.due_of(&key("1")), state.backlog.waiting, state.wants()), (Some(at(34)), 1, 0));
    assert_eq!(state.admit(&key("1"), &[1], at(34)), Admission::Send);
    state.succeeded(&key("1"), at(35));
    assert_eq!(left(&state.release(&[waiting("3", 1)], at(35))), ["3"]);
}

#[test]
fn one_that_waits_for_another_does_not_hold_up_the_backlog() {
    let mut state = with(&[], 2);
    fail(&mut state, "0", 77, 0);
    let front = [waiting("1", 77), waiting("2", 78)];
    let released = state.release(&front, at(10));
    assert_eq!(released, [out("1", 360), out("2", 10)]);
    assert_eq!(state.backlog.waiting, 0);
}

#[test]
fn of_those_that_wait_the_newest_takes_the_place_of_the_older() {
    let mut state = CallbackState::default();
    fail(&mut state, "1", 7, 0);
    assert_eq!(state.admit(&key("2"), &[7], at(1)), Admission::ComeBack(at(360)));
    let older = |older: &[&str], at| Coalesced::Supersedes { older: older.iter().map(|one| key(one)).collect(), at };
    assert_eq!(state.coalesce(&key("2"), &[7], 9, at(1)), older(&["1"], Some(at(300))));
    assert_eq!(state.backlog.due_of(&key("2")), Some(at(300)));
    // One that tells of less takes nobody's place and waits behind the others.
    assert_eq!(state.admit(&key("3"), &[7, 8], at(2)), Admission::ComeBack(at(360)));
    assert_eq!(state.coalesce(&key("3"), &[7, 8], 9, at(2)), older(&["2"], Some(at(300))));
    assert_eq!(state.admit(&key("4"), &[8], at(3)), Admission::ComeBack(at(360)));
    assert_eq!(state.coalesce(&key("4"), &[8], 9, at(3)), older(&[], None));
    // What is being sent is let be, and an old one that comes back finds that it is superseded.
    assert_eq!(state.coalesce(&key("5"), &[7, 8], 9, at(301)), older(&["4"], None));
    fail(&mut state, "3", 8, 302);
    state.backlog.track(&key("5"), &[7, 8], at(900), false);
    assert_eq!(state.coalesce(&key("3"), &[7, 8], 9, at(302)), Coalesced::Superseded);
    assert_eq!(state.backlog.in_flight.len(), 1);
}

fn flight(text: &str, record: u64, due: i64) -> InFlight {
    InFlight { key: key(text), records: vec![record], due: at(due), released: false, release_early: false }
}

fn with(in_flight: &[InFlight], waiting: u32) -> CallbackState {
    let backlog = Backlog { in_flight: in_flight.to_vec(), waiting };
    CallbackState { backlog, ..CallbackState::default() }
}

fn open_without_probe() -> Circuit {
    let open = Open { since: at(0), probes: 0, probe: None, next_probe: at(30) };
    Circuit::Open(Failures::default(), open)
}

fn go_early(state: &CallbackState) -> Vec<&str> {
    state.backlog.in_flight.iter().filter(|one| one.release_early).map(|one| one.key.as_str()).collect()
}

#[test]
fn so_many_are_tracked_and_what_comes_out_of_the_backlog() {
    let mut state = CallbackState::default();
    for n in 0..100 {
        fail(&mut state, &format!("{n:03}"), n, 0);
    }
    assert_eq!(state.backlog.in_flight.len(), MOST_TRACKED);
    state.resume(at(1000));
    state.backlog.waiting = 1;
    assert_eq!(left(&state.release(&[waiting("999", 999)], at(1000))), ["999"]);
    assert_eq!(state.backlog.in_flight.len(), MOST_TRACKED + 1);
}

#[test]
fn a_success_lets_its_followers_go_early_but_for_what_is_due() {
    let mut state = with(&[flight("0", 5, 300), flight("1", 77, 300), flight("2", 77, 360), flight("3", 5, 360)], 0);
    state.succeeded(&key("1"), at(1));
    assert_eq!(go_early(&state), ["2"]);
    let mut state = with(&[flight("1", 1, 99), flight("2", 2, 100), flight("3", 3, 101)], 0);
    state.resume(at(100));
    assert_eq!(go_early(&state), ["3"]);
}

#[test]
fn how_long_is_long_depends_on_whether_a_schedule_ended() {
    let schedule: i64 = STEPS.iter().sum();
    let after = |seconds: i64, due: Option<i64>| {
        let mut state = opened();
        // The first failure was in second 1.
        let now = at(1 + seconds);
        let next = state.failed((&key("5"), &[5]), due.map(at), FailurePolicy::Retry, now, EVEN);
        (next, state.is_disabled())
    };
    assert_eq!(after(schedule * 4 / 5 - 1, None), (AfterFailure::JoinBacklog, false));
    assert_eq!(after(schedule * 4 / 5, None), (AfterFailure::JoinBacklog, true));
    assert_eq!(after(schedule * 6 / 5 - 1, Some(9)), (AfterFailure::RetryAt(at(9)), false));
    assert_eq!(after(schedule * 6 / 5, Some(9)), (AfterFailure::JoinBacklog, true));
}

#[test]
fn another_that_fails_does_not_slow_the_probe() {
    let mut state = opened();
    assert_eq!(state.admit(&key("6"), &[6], at(6)), Admission::ComeBack(at(35)));
    let before = state.circuit.open().cloned();
    assert_eq!(fail(&mut state, "1", 1, 7), AfterFailure::RetryAt(at(307)));
    assert_eq!(state.circuit.open().cloned(), before);
}

#[test]
fn if_all_wait_the_oldest_that_is_not_under_way_probes() {
    let mut state = with(&[InFlight { released: true, ..flight("1", 1, 300) }, flight("2", 1, 300)], 1);
    state.circuit = open_without_probe();
    let released = state.release(&[waiting("3", 1)], at(6));
    assert_eq!(released, [moved_up("2", 30)]);
}

#[test]
fn behind_what_goes_soon_one_stays_in_the_backlog() {
    let head = [waiting("2", 1)];
    for soon in [
        InFlight { released: true, ..flight("1", 1, 300) },
        InFlight { release_early: true, ..flight("1", 1, 300) },
        flight("1", 1, 10),
    ] {
        // There is a vacancy for one: what goes early takes it.
        let mut state = with(std::slice::from_ref(&soon), 1);
        let released = state.release(&head, at(10));
        assert!(released.iter().all(|one| *one == moved_up("1", 10)), "{soon:?}: {released:?}");
        assert_eq!(state.backlog.waiting, 1, "{soon:?}");
    }
    let mut state = with(&[flight("1", 1, 300)], 1);
    assert_eq!(state.release(&head, at(10)), [out("2", 360)]);
}

#[test]
fn one_that_follows_another_on_its_schedule_does_not_go_before_it() {
    let mut state =
        with(&[flight("1", 1, 300), InFlight { release_early: true, ..flight("2", 1, 360) }, flight("3", 9, 360)], 0);
    assert_eq!(state.release(&[], at(10)), []);
    assert!(go_early(&state).is_empty());
    assert_eq!(state.backlog.due_of(&key("2")), Some(at(360)));
}

#[test]
fn the_newest_takes_a_time_only_where_it_may_be_sent() {
    let due = |state: &mut CallbackState, now| match state.coalesce(&key("2"), &[7], 9, at(now)) {
        Coalesced::Supersedes { older, at } => (older.len(), at),
        Coalesced::Superseded => panic!("there is none newer"),
    };
    let both = [flight("1", 7, 300), flight("2", 7, 360)];
    assert_eq!(due(&mut with(&both, 0), 299), (1, Some(at(300))));
    assert_eq!(due(&mut with(&both, 0), 300), (0, None), "it is being sent");
    let mut waits = with(&both[..1], 1);
    assert_eq!(due(&mut waits, 1), (1, None));
    assert!(!waits.backlog.is_in_flight(&key("2")));
    let circuit = open_without_probe();
    assert_eq!(due(&mut CallbackState { circuit, ..with(&both, 0) }, 1), (1, None));
    let follows = [flight("0", 7, 300), flight("1", 7, 320), flight("2", 7, 360)];
    let mut state = with(&follows, 0);
    state.backlog.in_flight[0].records.push(8);
    assert_eq!(due(&mut state, 1), (1, None), "it follows one that it does not replace");
}

#[test]
fn a_backlog_that_expired_is_empty_but_for_those_that_join_it() {
    let mut state = with(&[], 3);
    state.backlog_is_empty(1);
    assert_eq!(state.backlog.waiting, 1);
}

#[test]
fn gone_means_gone_until_resumed() {
    let mut state = CallbackState::default();
    state.refused(&key("1"), "410", at(0));
    assert_eq!(state.admit(&key("2"), &[2], at(1)), Admission::JoinBacklog);
    assert_eq!((state.wants(), state.backlog.waiting), (0, 2));
    state.resume(at(3));
    assert_eq!((state.wants(), state.circuit.failures().count), (2, 0));
    // A second attempt that was already under way changes nothing of that.
    assert_eq!(fail(&mut state, "3", 3, 5), AfterFailure::RetryAt(at(305)));
}

#[test]
fn after_a_whole_schedule_of_failures_it_is_disabled() {
    let mut state = opened();
    let late = 91 * 3600;
    assert_eq!(fail(&mut state, "5", 5, late), AfterFailure::JoinBacklog);
    assert!(state.is_disabled());
    assert_eq!(state.backlog.waiting, 1);
}

#[test]
fn a_single_delivery_at_its_end_is_queued_and_the_queue_policy_does_not_probe() {
    let mut state = CallbackState::default();
    let mut end = |text: &str, policy| state.failed((&key(text), &[1]), None, policy, at(0), EVEN);
    assert_eq!(end("1", FailurePolicy::Retry), AfterFailure::Queue);
    for n in 2..5 {
        assert_eq!(end(&n.to_string(), FailurePolicy::Queue), AfterFailure::Queue);
    }
    assert_eq!(end("5", FailurePolicy::Queue), AfterFailure::JoinBacklog);
    assert!(state.is_disabled() && state.backlog.in_flight.is_empty());
}

/// What is stored is read by older releases: these texts may never change.
#[test]
fn states_are_stored_in_the_words_of_the_first_release() {
    let open = |since: &str| format!(r#"{{"since":"{since}","probes":2,"probe":"1","nextProbe":"{since}"}}"#);
    let since = "2026-01-05T09:00:00Z";
    let flight = format!(r#"{{"ticket":"1","records":[7],"due":"{since}","released":true,"woken":true}}"#);
    for text in [
        r#"{"failures":0,"waiting":3}"#.to_owned(),
        format!(r#"{{"failures":5,"failingSince":"{since}","open":{},"flight":[{flight}],"waiting":0}}"#, open(since)),
        format!(r#"{{"failures":1,"disabled":{{"since":"{since}","reason":"410"}},"waiting":1}}"#),
        format!(r#"{{"failures":0,"flight":[{}],"waiting":0}}"#, flight.replace(r#","woken":true"#, "")),
    ] {
        let state: CallbackState = serde_json::from_str(&text).expect("a state");
        assert_eq!(serde_json::to_string(&state).expect("serializes"), text);
    }
    assert_eq!(
        serde_json::from_str::<CallbackState>(r#"{"failures":0,"waiting":0}"#).ok(),
        Some(CallbackState::default())
    );
    let both = format!(
        r#"{{"failures":1,"open":{},"disabled":{{"since":"{since}","reason":"410"}},"waiting":0}}"#,
        open(since)
    );
    assert!(serde_json::from_str::<CallbackState>(&both).expect("a state").is_disabled());
}
