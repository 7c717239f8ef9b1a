//! How often vendors may be called: the windows of an element's `budget`, counted before each call.
//!
//! The counts are held by the process: many at once spend many times the budget, and the vendor's own refusals, which
//! every step obeys, stay the last word. What this spares a vendor is the burst of one process that lists a large
//! account. A call over the budget is not waited for: whoever asked suspends its work and comes back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::id::InstanceId;
use elements::connection::Connection;
use elements::definition::{Budget, BudgetScope};
use elements::{Bases, Element};

/// Accounts that are counted before those are forgotten whose windows are over.
const ACCOUNTS_KEPT: usize = 1000;

/// The calls that were spent, shared by all steps of a process.
#[derive(Debug, Clone, Default)]
pub struct Budgets {
    spent: Arc<Mutex<HashMap<Payer, Vec<Spent>>>>,
}

/// The owner of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Payer {
    element: String,
    who: String,
}

impl Payer {
    /// The payer of the calls of an instance: its account at the vendor where that is known. `None` where nothing
    /// limits them. An element that is called elsewhere than its file says (a sandbox, a proxy) has no budget: the
    /// file knows nothing of that place.
    pub fn of(
        element: &Element,
        bases: &Bases,
        instance: InstanceId,
        account: Option<String>,
        connection: &Connection,
    ) -> Option<Self> {
        let scope = element.budget.as_ref().filter(|_| !bases.overrides.contains_key(&element.key))?.scope;
        let who = match scope {
            BudgetScope::Instance | BudgetScope::User => account.unwrap_or_else(|| instance.to_string()),
            BudgetScope::App => format!("app {}", connection.value("client_id").unwrap_or_default()),
        };
        Some(Self { element: element.key.clone(), who })
    }
}

/// Calls since a window began.
#[derive(Debug, Clone, Copy)]
struct Spent {
    since: DateTime<Utc>,
    calls: u32,
}

impl Budgets {
    /// The time until there is room for a call; `None` where there is.
    pub fn full_for(&self, payer: &Payer, budget: &Budget, now: DateTime<Utc>) -> Option<Duration> {
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let windows = budget.windows.iter().zip(spent.get(payer)?);
        windows
            .filter(|(window, spent)| spent.calls >= window.calls)
            .filter_map(|(window, spent)| (end(spent, window.per.0) - now).to_std().ok())
            .filter(|left| !left.is_zero())
            .max()
    }

    /// Counts a call, if there is room for it.
    ///
    /// # Errors
    /// How long to wait.
    pub fn spend(&self, payer: &Payer, budget: &Budget, now: DateTime<Utc>) -> Result<(), Duration> {
        if let Some(wait) = self.full_for(payer, budget, now) {
            return Err(wait);
        }
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.len() > ACCOUNTS_KEPT {
            let longest = TimeDelta::days(1);
            spent.retain(|_, windows| windows.iter().any(|window| window.since + longest > now));
        }
        let fresh = || budget.windows.iter().map(|_| Spent { since: now, calls: 0 }).collect();
        let windows = spent.entry(payer.clone()).or_insert_with(fresh);
        for (window, spent) in budget.windows.iter().zip(windows) {
            if end(spent, window.per.0) <= now {
                *spent = Spent { since: now, calls: 0 };
            }
            spent.calls += 1;
        }
        Ok(())
    }
}

fn end(spent: &Spent, per: Duration) -> DateTime<Utc> {
    spent.since + TimeDelta::from_std(per).unwrap_or(TimeDelta::days(1))
}

#[cfg(test)]
mod tests {
    use elements::definition::{Span, Window};

    use super::*;

    #[test]
    fn every_window_must_have_room_and_opens_again() {
        let window = |calls, seconds| Window { calls, per: Span(Duration::from_secs(seconds)) };
        let budget = Budget { windows: vec![window(2, 10), window(3, 60)], scope: BudgetScope::Instance };
        let payer = |who: &str| Payer { element: "books".into(), who: who.into() };
        let (budgets, start) = (Budgets::default(), DateTime::<Utc>::UNIX_EPOCH);
        let spend = |who: &str, second: i64| {
            budgets.spend(&payer(who), &budget, start + TimeDelta::seconds(second)).map_err(|wait| wait.as_secs())
        };
        assert_eq!([spend("a", 0), spend("a", 1), spend("a", 4)], [Ok(()), Ok(()), Err(6)]);
        assert_eq!(spend("b", 4), Ok(()), "another account has its own");
        assert_eq!([spend("a", 10), spend("a", 11)], [Ok(()), Err(49)], "the longer window is full");
        assert_eq!(spend("a", 60), Ok(()));
    }

    #[test]
    fn those_whose_windows_are_over_are_forgotten_when_there_are_many() {
        let window = Window { calls: 2, per: Span(Duration::from_secs(10)) };
        let budget = Budget { windows: vec![window], scope: BudgetScope::Instance };
        let (budgets, start) = (Budgets::default(), DateTime::<Utc>::UNIX_EPOCH);
        let spend = |who: &str, at: DateTime<Utc>| {
            budgets.spend(&Payer { element: "books".into(), who: who.into() }, &budget, at).expect("room");
            budgets.spent.lock().unwrap_or_else(PoisonError::into_inner).len()
        };
        for n in 0..ACCOUNTS_KEPT {
            assert_eq!(spend(&n.to_string(), start), n + 1);
        }
        let next_day = start + TimeDelta::days(1);
        assert_eq!(spend("x", next_day), ACCOUNTS_KEPT + 1, "so many are kept whatever their age");
        assert_eq!(spend("y", next_day), 2);
    }

    #[test]
    fn whoever_shares_a_limit_pays_together() {
        let catalog = elements::Catalog::embedded();
        let element = |key: &str| catalog.get(key).expect("an element").as_ref().clone();
        let of = |element: &Element, bases: &Bases, account: Option<&str>| {
            Payer::of(element, bases, InstanceId(5), account.map(str::to_owned), &Connection::default())
        };
        let payer = |element: &str, who: &str| Some(Payer { element: element.into(), who: who.into() });
        let google = element("googlesuite");
        assert_eq!(of(&google, &Bases::default(), Some("me")), payer("googlesuite", "me"));
        assert_eq!(of(&google, &Bases::default(), None), payer("googlesuite", "5"));
        let mut shared = google.clone();
        shared.budget.iter_mut().for_each(|budget| budget.scope = BudgetScope::App);
        assert_eq!(of(&shared, &Bases::default(), Some("me")), payer("googlesuite", "app "));
        assert_eq!(of(&Element { budget: None, ..google.clone() }, &Bases::default(), None), None);
        let mut elsewhere = Bases::default();
        elsewhere.overrides.insert("googlesuite".into(), "http://127.0.0.1/".parse().expect("a URL"));
        assert_eq!(of(&google, &elsewhere, Some("me")), None, "the file knows nothing of that place");
    }
}
