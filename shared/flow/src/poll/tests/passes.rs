//! Tests of one pass over what a vendor lists, and of what is concluded from it.

use std::time::Duration;

use domain::wheel::Wheel;
use futures::FutureExt;
use store::records::resource::Held;

use super::super::Outcome;
use super::super::report::PROBLEMS_SHOWN;
use super::super::run::CONFIRMATIONS_PER_POLL;
use super::*;

#[tokio::test]
async fn a_report_counts_what_was_read_and_what_came_of_it() {
    let world = PollHarness::new("ledger", "entries", json!({})).await;
    world.vendor().rows = (0..5).map(|n| row(&format!("r{n}"), n - 100)).collect();
    world.vendor().most = 2;
    let report = world.poll(Mode::Scheduled).await;
    assert_eq!((report.baseline, report.complete_listing), (true, true));
    assert_eq!((report.pages, report.records, report.suppressed), (3, 5, 5));

    world.pass(MINUTE * 5);
    {
        let mut vendor = world.vendor();
        for (place, second) in [(1, 150), (3, 160)] {
            vendor.rows[place]["at"] = row("", second)["at"].clone();
        }
        vendor.rows.extend([row("new", 170), row("newer", 180), row("newest", 190)]);
        vendor.most = 0;
    }
    let report = world.poll(Mode::Scheduled).await;
    assert_eq!((report.baseline, report.complete_listing), (false, false));
    assert_eq!((report.pages, report.records, report.suppressed), (1, 8, 3));
    assert_eq!((report.created, report.updated, report.deleted), (3, 2, 0));
    assert_eq!(report.notifications, 1);
}

#[tokio::test]
async fn what_lies_below_the_bound_was_judged_before_and_the_bound_itself_was_not() {
    let world = PollHarness::polled("ledger", "entries", json!({}), 40).await;
    // The newest is a minute old, and a quarter of an hour is read again: down to 9:00 less sixteen minutes.
    world.pass(MINUTE * 5);
    world.vendor().deaf = true;
    world.vendor().rows.extend([row("below", -16 * 60 - 1), row("bound", -16 * 60)]);
    let report = world.poll(Mode::Scheduled).await;
    assert_eq!(world.emitted().await, ["CREATED bound #1"]);
    assert_eq!((report.records, report.suppressed), (42, 41));
}

#[tokio::test]
async fn what_cannot_be_read_is_told_of_and_makes_a_listing_no_proof() {
    let world = PollHarness::new("ledger", "entries", json!({})).await;
    world.vendor().rows = (0..3).map(|n| row(&format!("r{n}"), n - 100)).collect();
    world.vendor().rows.extend((0..12).map(|n| json!({"nameless": n})));
    let report = world.poll(Mode::Scheduled).await;
    assert_eq!((report.complete_listing, report.problem_count, report.problems.len()), (false, 12, PROBLEMS_SHOWN));
    let state = world.state().await;
    assert_eq!((state.has_baseline, state.index_is_complete, state.swept_at), (true, false, None));

    // Whole once, and then not again: what the second listing lacks may be one of the nameless.
    world.pass(MINUTE * 90);
    world.vendor().rows.truncate(3);
    assert!(world.poll(SWEEP).await.complete_listing);
    assert_eq!(world.state().await.swept_at, Some(world.now()));
    world.pass(MINUTE * 90);
    world.vendor().rows[0] = json!({"nameless": 1});
    let report = world.poll(SWEEP).await;
    assert_eq!((report.complete_listing, report.deleted, report.problem_count), (false, 0, 1));
    assert_eq!(world.state().await.swept_at, Some(world.now() - MINUTE * 90));
}

#[tokio::test]
async fn missing_records_are_no_deletions_where_nothing_proves_it() {
    let world = PollHarness::polled("ledger", "postings", json!({}), 3).await;
    world.pass(MINUTE * 5);
    world.vendor().rows.clear();
    let report = world.poll(SWEEP).await;
    assert_eq!((report.complete_listing, report.deleted), (true, 0), "nobody can be asked");

    let world = PollHarness::polled("ledger", "entries", json!({}), 3).await;
    world.pass(MINUTE * 5);
    world.set_state(|state| state.index_is_complete = false).await;
    world.vendor().rows.clear();
    let report = world.poll(SWEEP).await;
    assert_eq!((report.complete_listing, report.deleted), (true, 0), "not all that existed was known");
    assert_eq!(world.poll(SWEEP).await.deleted, 3, "but now it is");
}

#[tokio::test]
async fn a_poll_confirms_a_thousand_deletions_and_the_next_one_the_rest() {
    let (known, gone) = (2100, CONFIRMATIONS_PER_POLL + 5);
    let world = PollHarness::polled("ledger", "entries", json!({}), known).await;
    let based = world.now();
    assert_eq!(world.state().await.swept_at, Some(based), "a first pass is a complete one");
    assert_eq!(world.state().await.sweep_tried, Some(based));
    world.pass(MINUTE * 90);
    world.vendor().rows.drain(..gone);
    let report = world.poll(SWEEP).await;
    assert_eq!((report.deleted, world.vendor().read), (1000, 1000));
    let state = world.state().await;
    assert_eq!((state.swept_at, state.sweep_tried), (Some(based), None), "it is not through");

    // The schedule would make a complete listing tomorrow only.
    world.pass(MINUTE * 5);
    let report = world.poll(Mode::Scheduled).await;
    assert_eq!((report.complete_listing, report.deleted), (false, 0));
    world.pass(TimeDelta::days(1));
    let report = world.poll(Mode::Scheduled).await;
    assert_eq!((report.complete_listing, report.deleted), (true, 5));
    assert_eq!(world.state().await.swept_at, Some(world.now()));
}

#[tokio::test]
async fn confirming_ends_when_the_time_is_up_and_an_approval_holds_until_all_is_told() {
    let world = PollHarness::polled("ledger", "entries", json!({}), 30).await;
    world.pass(MINUTE * 5);
    world.vendor().rows.drain(..20);
    assert_eq!(world.poll(SWEEP).await.held, 20, "more than half of them");
    let held = world.state().await.held.expect("it waits");
    assert_eq!((held.missing, held.known, held.approved, held.sample.len()), (20, 30, false, PROBLEMS_SHOWN));

    world.set_state(|state| state.held = Some(Held { approved: true, ..held })).await;
    world.pass(MINUTE * 90);
    world.slow(MINUTE * 10);
    let report = world.poll(SWEEP).await;
    assert_eq!(report.deleted, 5, "an hour has room for a page and five questions");
    let held = world.state().await.held.expect("it still holds");
    assert_eq!((held.approved, held.missing), (true, 20));
    world.vendor().intercept = None;
    world.pass(MINUTE * 90);
    assert_eq!(world.poll(SWEEP).await.deleted, 15);
    assert_eq!(world.state().await.held, None);
}

#[tokio::test]
async fn records_known_by_another_id_start_anew_and_only_what_changed_since_is_told() {
    let world = PollHarness::polled("ledger", "entries", json!({}), 40).await;
    world.pass(MINUTE * 5);
    world.vendor().rows.iter_mut().enumerate().for_each(|(place, row)| row["code"] = json!(format!("c{place}")));
    assert_eq!(world.poll(Mode::Scheduled).await.updated, 40, "every one has a member more");
    let before = world.state().await;
    assert_eq!((before.lateness.samples(), before.first_revision), (40, 0));

    world.pass(MINUTE * 10);
    world.configure(json!({"idField": "code"})).await;
    world.vendor().rows[7]["at"] = row("", 600)["at"].clone();
    world.vendor().rows[7]["made"] = row("", 600)["made"].clone();
    let report = world.poll(Mode::Scheduled).await;
    assert!(report.baseline);
    // Made on the first day, fifteen minutes ago: nine thousand tenths of seconds.
    assert_eq!(world.emitted().await[40..], ["CREATED c7 #9001"], "the others are as they were");
    let state = world.state().await;
    assert_eq!((state.first_revision, state.lateness.samples()), (9000, 40));
    assert_eq!(state.coverage.stretches().len(), 1, "what was covered stays covered");
    assert_eq!(state.coverage.stretches()[0].from, before.coverage.stretches()[0].from);
    world.pass(MINUTE * 5);
    assert_eq!(world.poll(Mode::Scheduled).await.created, 0);
}

/// From now on the date of making is the stamp.
async fn read_otherwise(world: &PollHarness) {
    world.configure(json!({"updated": {"field": "made", "pattern": "yyyy-MM-dd'T'HH:mm:ssXXX"}})).await;
}

#[tokio::test]
async fn versions_told_by_another_rule_are_remembered_in_silence() {
    let world = PollHarness::polled("ledger", "entries", json!({}), 40).await;
    world.pass(MINUTE * 5);
    // What a new rule for fingerprints does to all of them, as far as the index can see.
    world.vendor().rows.iter_mut().for_each(|row| row["more"] = json!(true));
    read_otherwise(&world).await;
    let report = world.poll(Mode::Scheduled).await;
    assert_eq!((report.complete_listing, report.baseline, report.updated), (true, false, 0));
    world.pass(MINUTE * 5);
    let report = world.poll(Mode::Scheduled).await;
    assert_eq!((report.complete_listing, report.updated), (false, 0), "once");
}

#[tokio::test]
async fn reading_all_by_another_rule_leaves_out_nothing_and_ends() {
    let world = PollHarness::polled("ledger", "entries", json!({}), 12).await;
    world.pass(MINUTE * 5);
    world.vendor().most = 2;
    world.slow(MINUTE);
    let report = world.poll_until(Mode::Scheduled, world.now() + MINUTE * 2).await;
    assert_eq!((report.outcome, report.records), (Outcome::Suspended, 4));
    // The rule changes while a pass is under way: that pass knows nothing of it.
    world.vendor().rows.iter_mut().for_each(|row| row["more"] = json!(true));
    read_otherwise(&world).await;
    for outcome in [Outcome::Suspended, Outcome::Suspended, Outcome::Committed] {
        let report = world.poll_until(NOW, world.now() + MINUTE * 2).await;
        assert_eq!((report.outcome, report.records, report.updated), (outcome, 4, 0), "all of them, each once");
    }
    world.vendor().intercept = None;
    let report = world.poll(SWEEP).await;
    assert_eq!((report.outcome, report.updated), (Outcome::Committed, 0));
}

#[tokio::test]
async fn what_a_suspended_listing_has_seen_is_forgotten_some_days_later() {
    let world = PollHarness::polled("ledger", "entries", json!({}), 4).await;
    world.pass(MINUTE * 5);
    world.vendor().most = 1;
    world.slow(MINUTE);
    assert_eq!(world.poll_until(SWEEP, world.now() + MINUTE * 2).await.outcome, Outcome::Suspended);
    let items = world.test.store.items();
    let seen: Vec<_> = items.iter().filter(|item| item.key.sk.starts_with("SEEN#")).collect();
    let [piece] = seen[..] else { panic!("{seen:?}") };
    assert_eq!(piece.body.len(), 2 * 8, "two records");
    let kept = piece.expires_at.expect("it ends") - world.now();
    assert!(kept > TimeDelta::days(1) && kept < TimeDelta::days(30), "{kept}");
}

#[tokio::test]
async fn a_forgotten_cursor_is_a_gap_only_where_the_listing_cannot_show_what_was_missed() {
    for (index_is_complete, gaps) in [(true, 0), (false, 1)] {
        let world = PollHarness::new("ledger", "feed", json!({})).await;
        world.vendor().rows = (0..4).map(|n| json!({"id": format!("r{n}"), "v": 1})).collect();
        world.poll(Mode::Scheduled).await;
        world.pass(MINUTE * 5);
        world.poll(Mode::Scheduled).await;
        world.set_state(|state| state.index_is_complete = index_is_complete).await;
        world.pass(MINUTE * 5);
        world.vendor().rows.remove(0);
        world.vendor().rows[0]["v"] = json!(2);
        world.intercept(|request| {
            let expired = request.uri().query().unwrap_or_default().contains("token");
            expired.then(|| Ok(answer(409, &json!({"message": "expired"}))))
        });
        let report = world.poll(Mode::Scheduled).await;
        assert_eq!((report.outcome, report.complete_listing, report.updated), (Outcome::Committed, true, 1));
        assert_eq!(report.deleted, u64::from(index_is_complete));
        assert_eq!(world.state().await.coverage.gaps().len(), gaps, "index complete: {index_is_complete}");
    }
    // A first pass has nothing to miss.
    let world = PollHarness::new("ledger", "feed", json!({})).await;
    let mut asked = 0;
    world.intercept(move |_| {
        asked += 1;
        (asked == 1).then(|| Ok(answer(409, &json!({"message": "expired"}))))
    });
    assert_eq!(world.poll(Mode::Scheduled).await.outcome, Outcome::Committed);
    world.pass(MINUTE * 5);
    world.poll(Mode::Scheduled).await;
    assert_eq!(world.state().await.coverage.gaps().len(), 0);
}

#[tokio::test]
async fn a_listing_starts_over_three_times_and_no_more() {
    for (status, words) in [
        (409, "the vendor's cursor expires again and again: 409 said with 409"),
        (410, "the listing had to start anew too often: 410 said with 410"),
    ] {
        for (refusals, wanted) in [(3, Outcome::Committed), (4, Outcome::Failed), (100, Outcome::Failed)] {
            let world = PollHarness::polled("ledger", "feed", json!({}), 4).await;
            world.pass(MINUTE * 5);
            let (before, mut asked) = (world.vendor().listed, 0);
            world.intercept(move |_| {
                asked += 1;
                let refusal = json!({"message": format!("said with {status}")});
                (asked <= refusals).then(|| Ok(answer(status, &refusal)))
            });
            let report = world.poll(Mode::Scheduled).await;
            assert_eq!((report.outcome, world.vendor().listed - before), (wanted, 4), "{refusals} times {status}");
            let failure = (wanted == Outcome::Failed).then_some(words);
            assert_eq!(report.failure.as_deref(), failure);
        }
    }
}

#[tokio::test]
async fn what_was_listed_before_a_start_over_is_no_proof_of_what_is_there() {
    let world = PollHarness::polled("ledger", "balances", json!({}), 4).await;
    world.pass(MINUTE * 5);
    world.vendor().most = 2;
    let rows = world.vendor().rows[1..3].to_vec();
    let mut asked = 0;
    // The first page is listed, the second one's place is lost, and when the first is listed again its first record is gone.
    world.intercept(move |_| {
        asked += 1;
        match asked {
            2 => Some(Ok(answer(410, &json!({"message": "lost"})))),
            3 => Some(Ok(answer(200, &json!({"rows": rows, "next": "2"})))),
            5 => Some(Ok(answer(404, &json!({"message": "no such record"})))),
            _ => None,
        }
    });
    let report = world.poll(Mode::Scheduled).await;
    assert_eq!((report.outcome, report.pages, report.deleted), (Outcome::Committed, 4, 1));
    assert_eq!(world.emitted().await, ["DELETED r0 #1"]);
}

#[tokio::test]
async fn what_names_the_partitions_starts_over_and_shrinks_like_any_listing() {
    let world = PollHarness::new("ledger", "chapters", json!({})).await;
    world.vendor().rows = (0..4).map(|n| json!({"id": format!("v{n}")})).collect();
    world.vendor().rows.extend((0..4).map(|n| json!({"id": format!("c{n}"), "book": format!("v{n}")})));
    world.vendor().most = 2;
    let mut asked = 0;
    world.intercept(move |_| {
        asked += 1;
        let refusal = match asked {
            1 => 413,
            3 => 410,
            _ => return None,
        };
        Some(Ok(answer(refusal, &json!({"message": "not so"}))))
    });
    let report = world.poll(Mode::Scheduled).await;
    assert_eq!((report.outcome, report.records, report.pages), (Outcome::Committed, 4, 3 + 2 + 4), "{report:?}");
    let state = world.state().await;
    assert_eq!(state.cursors.keys().collect::<Vec<_>>(), ["v0", "v1", "v2", "v3"]);
}

#[tokio::test]
async fn a_page_shrinks_until_the_vendor_can_bear_it() {
    for (bearable, pages) in [(4, Some(3)), (1, Some(10)), (0, None)] {
        let world = PollHarness::new("ledger", "balances", json!({"pageSize": 100})).await;
        world.vendor().rows = (0..10).map(|n| row(&format!("r{n}"), n - 100)).collect();
        world.intercept(move |request| {
            let query = request.uri().query().unwrap_or_default();
            let limit = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "limit");
            let limit: u32 = limit.expect("a limit").1.parse().expect("a number");
            (limit > bearable).then(|| Ok(answer(413, &json!({"message": "too much"}))))
        });
        let report = world.poll(Mode::Scheduled).await;
        match pages {
            Some(pages) => {
                assert_eq!((report.outcome, report.records), (Outcome::Committed, 10));
                let good = world.vendor().listed as u64 - pages;
                assert!(good <= 6, "halved each time from a hundred: {good} refusals");
            }
            None => {
                assert_eq!(report.failure.as_deref(), Some("the vendor cannot even list one record"));
                assert_eq!(world.vendor().listed, 7, "100, 50, 25, 12, 6, 3 and 1");
            }
        }
    }
}

#[tokio::test]
async fn a_listing_that_broke_off_late_goes_on_where_it_stopped() {
    for (good, kept) in [(4, false), (5, true), (6, true)] {
        let world = PollHarness::new("ledger", "entries", json!({})).await;
        world.vendor().rows = (0..10).map(|n| row(&format!("r{n}"), n - 100)).collect();
        world.vendor().most = 1;
        let mut asked = 0;
        world.intercept(move |_| {
            asked += 1;
            (asked > good).then(|| Ok(answer(503, &json!({"message": "not now"}))))
        });
        assert_eq!(world.poll(NOW).await.outcome, Outcome::Failed);
        world.vendor().intercept = None;
        let report = world.poll(NOW).await;
        let wanted = if kept { 10 - good } else { 10 };
        assert_eq!((report.outcome, report.records), (Outcome::Committed, wanted as u64), "after {good} pages");
        assert_eq!(world.state().await.entries, 10);
    }
}

#[tokio::test]
async fn a_first_pass_that_takes_long_tells_what_is_stamped_after_its_first_answer() {
    let world = PollHarness::new("ledger", "entries", json!({})).await;
    {
        let mut vendor = world.vendor();
        vendor.rows = (0..6).map(|n| row(&format!("r{n}"), n - 100)).collect();
        (vendor.most, vendor.date) = (1, Some("Mon, 05 Jan 2026 09:00:30 GMT"));
    }
    world.slow(MINUTE);
    let report = world.poll_until(Mode::Scheduled, world.now() + MINUTE * 2).await;
    assert_eq!(report.outcome, Outcome::Suspended);
    let until = "2026-01-05T09:00:29.999999Z".parse().expect("a date");
    assert_eq!(world.state().await.emitted_until, Some(until), "what is stamped 9:00:30 is emitted");
    world.vendor().date = Some("Mon, 05 Jan 2026 09:04:00 GMT");
    let report = world.poll_until(NOW, world.now() + MINUTE * 2).await;
    assert_eq!((report.outcome, world.state().await.emitted_until), (Outcome::Suspended, Some(until)));
    world.vendor().rows.push(row("new", 30));
    world.vendor().intercept = None;
    assert_eq!(world.poll(NOW).await.outcome, Outcome::Committed);
    assert_eq!(world.emitted().await, ["CREATED new #1"]);
    assert_eq!(world.state().await.emitted_until, None);

    // Later passes have their cursor.
    world.vendor().rows.extend((0..6).map(|n| row(&format!("later{n}"), 900 + n)));
    world.pass(MINUTE * 20);
    world.slow(MINUTE);
    let report = world.poll_until(Mode::Scheduled, world.now() + MINUTE * 2).await;
    assert_eq!((report.outcome, world.state().await.emitted_until), (Outcome::Suspended, None));
}

#[tokio::test]
async fn a_first_pass_that_commits_on_the_way_and_has_time_promises_nothing() {
    let world = PollHarness::new("ledger", "entries", json!({"initialPoll": "emit"})).await;
    {
        let mut vendor = world.vendor();
        vendor.rows = (0..2001).map(|n| row(&format!("r{n}"), n - 3000)).collect();
        (vendor.most, vendor.date) = (2000, Some("Mon, 05 Jan 2026 09:00:30 GMT"));
    }
    let mut asked = 0;
    world.intercept(move |_| {
        asked += 1;
        (asked == 2).then(|| Ok(answer(503, &json!({"message": "not now"}))))
    });
    assert_eq!(world.poll(NOW).await.outcome, Outcome::Failed);
    assert_eq!((world.emitted().await.len(), world.state().await.emitted_until), (2000, None));
}

/// A poll follows that reads a page with one new record in each of these many milliseconds. For how long the resource is taken
/// at each page, in milliseconds from now.
fn taken(world: &PollHarness, steps: &'static [u64]) -> Arc<Mutex<Vec<Option<i64>>>> {
    world.pass(MINUTE * 20);
    world.vendor().rows = (0..steps.len()).map(|n| row(&format!("r{n}"), 900 + n as i64)).collect();
    world.vendor().most = 1;
    let (clock, store, began) = (Arc::clone(&world.test.ambient), Arc::clone(&world.test.store), world.now());
    let key = resource::key(ID, "entries");
    let taken = Arc::<Mutex<Vec<Option<i64>>>>::default();
    let of_vendor = Arc::clone(&taken);
    let mut steps = steps.iter().copied();
    world.intercept(move |_| {
        let state = key.get(&*store).now_or_never()?.ok()??.record;
        of_vendor.lock().ok()?.push(state.leased_until.map(|until| (until - began).num_milliseconds()));
        clock.advance(Duration::from_millis(steps.next()?));
        None
    });
    taken
}

#[tokio::test]
async fn a_long_poll_takes_the_resource_for_a_minute_and_renews_that() {
    let world = PollHarness::polled("ledger", "entries", json!({}), 0).await;
    let taken = taken(&world, &[1999, 1, 1000, 28_999, 1, 1000, 1000, 1000, 1000]);
    assert_eq!(world.poll(Mode::Scheduled).await.outcome, Outcome::Committed);
    // After two seconds it is taken for sixty; with half of them left it is renewed.
    let renewed = Some(92_000);
    let wanted = [None, None, Some(62_000), Some(62_000), Some(62_000), renewed, renewed, renewed, renewed];
    assert_eq!(*taken.lock().expect("whole"), wanted);
    assert_eq!(world.state().await.leased_until, None, "and left in the end");
}

#[tokio::test]
async fn in_a_fast_schedule_a_poll_is_long_after_a_quarter_of_its_minute() {
    let mut world = PollHarness::polled("ledger", "entries", json!({}), 0).await;
    world.service.wheel = Wheel::turning(Duration::from_secs(4));
    let taken = taken(&world, &[999, 1, 0, 0]);
    world.poll(Mode::Scheduled).await;
    assert_eq!(*taken.lock().expect("whole"), [None, None, Some(31_000), Some(31_000)]);
}

#[tokio::test]
async fn how_late_records_come_is_learned_from_those_that_came_late() {
    let world = PollHarness::polled("ledger", "entries", json!({}), 40).await;
    let samples = || async { world.state().await.lateness.samples() };
    assert_eq!(samples().await, 0, "what existed before the first poll is not late");
    world.pass(MINUTE * 5);
    world.vendor().rows.extend([row("a", 100), row("b", 200), row("c", 210)]);
    world.poll(Mode::Scheduled).await;
    assert_eq!(samples().await, 3, "every change that a cursor finds is a measure");

    // The first pass was at 9:00. A complete listing finds two that should have come by the polls since (one of them is known
    // in an earlier version), three of before, and two edits without a new stamp.
    world.pass(MINUTE * 5);
    world.vendor().rows[40]["edited"] = json!(true);
    world.vendor().rows[42]["edited"] = json!(true);
    world.vendor().rows[41]["at"] = row("", 250)["at"].clone();
    world.vendor().rows.extend([row("late", 0), row("before", -1), row("earlier", -2), row("earliest", -3)]);
    let report = world.poll(SWEEP).await;
    assert_eq!((report.created + report.updated, samples().await), (7, 5), "{:?}", world.emitted().await);
}

#[tokio::test]
async fn a_deletion_is_another_version_though_its_mark_is_the_same() {
    let world = PollHarness::new("ledger", "feed", json!({})).await;
    world.vendor().rows = vec![json!({"id": "a", "v": 1}), json!({"id": "b", "v": 1})];
    world.poll(Mode::Scheduled).await;
    world.pass(MINUTE * 5);
    world.vendor().rows.push(json!({"id": "a", "v": 1, "gone": true}));
    assert_eq!(world.poll(Mode::Scheduled).await.deleted, 1);
    world.pass(MINUTE * 5);
    world.vendor().rows.push(json!({"id": "a", "v": 1, "gone": true}));
    assert_eq!(world.poll(Mode::Scheduled).await.deleted, 0, "once");
    assert_eq!(world.emitted().await, ["DELETED a #1"]);
}

#[tokio::test]
async fn why_looks_into_partitions_and_knows_the_minute() {
    let world = PollHarness::new("ledger", "pages", json!({})).await;
    world.vendor().rows = vec![json!({"id": "p1", "book": "left"}), json!({"id": "p1", "book": "another"})];
    assert_eq!(world.poll(Mode::Scheduled).await.records, 1);
    let record = world.instance().await;
    let why = super::super::why::why(&world.service, &record, "pages", "p1").await.expect("an answer");
    let known: Vec<_> = why.known.iter().map(|known| (known.partition.as_str(), known.seen)).collect();
    assert_eq!(known, [("left", Some(world.now()))]);

    let world = PollHarness::polled("ledger", "balances", json!({}), 1).await;
    let why = super::super::why::why(&world.service, &record, "balances", "r0").await.expect("an answer");
    assert_eq!(why.known.len(), 1, "no partition, no second look");
}
