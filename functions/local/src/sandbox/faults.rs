//! The faults of a sandbox vendor. The seed and the number of the request alone decide them, so that a run can be
//! repeated.

use chrono::Duration;
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// The faults and switchable behavior of one vendor, for one account or for all of them.
/// Everything is off by default. `…_every: n` hits one request in every `n`, at a place that the seed chooses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Decides which of every `n` requests a fault hits, and how late each change is indexed.
    pub seed: u64,
    /// A change shows up in lists only this many seconds after its date: at least the first, at most the second number.
    pub late_indexing: Option<(u32, u32)>,
    /// Rows inserted (positive: rows come twice) or removed (negative: rows are skipped) before each page after the first,
    /// wherever pages go by offset.
    pub page_shift: i32,
    /// Every n-th request is refused as too many, in the vendor's own words.
    pub rate_limit_every: Option<u32>,
    /// Every n-th answer breaks off in the middle of its body.
    pub cut_connection_every: Option<u32>,
    /// Every n-th request finds its access token expired; a refresh helps.
    pub expire_tokens_every: Option<u32>,
    /// Every n-th answer is status 200 with an error inside.
    pub error_200: Option<u32>,
    /// Every n-th row of a page comes twice.
    pub duplicate_rows: Option<u32>,
    /// Seconds that the vendor's clock is ahead of ours.
    pub clock_skew_s: i64,
    /// Milliseconds that every answer takes.
    pub latency_ms: u64,
    /// Every n-th request is answered with a server error: JSON and a proxy's bare text by turns.
    pub status_5xx_every: Option<u32>,
    /// Seconds in the `Retry-After` header of 429 and 503 answers; without it, no such header.
    pub retry_after: Option<u32>,
    /// A refresh returns a new refresh token and ends the old one.
    pub rotate_refresh: bool,
    /// Local time zone of the vendor's dates (Revel, Maximizer, iContact), in place of the usual one.
    pub zone: Option<String>,
    /// Maximizer: dates are really UTC.
    pub true_utc: bool,
    /// Maximizer: 408 for a page larger than this.
    pub slow_above_page_size: Option<u32>,
    /// Maximizer: `core` allows 30 calls in 10 s, `business` 90 in 30 s; otherwise no limit.
    pub edition: Option<String>,
    /// Google: every second page after the first is empty, yet has a next page.
    pub empty_pages: bool,
    /// Revel: every fifth row was created on `0001-01-01T00:00:00`.
    pub odd_dates: bool,
    /// iContact: the `spamCheck` of a message is different at every read.
    pub spam_check_flaps: bool,
    /// iContact: of every 50 requests, this many in a row are answered 503.
    pub busy_burst: Option<u32>,
}

/// The fault of one request: at most one, in this order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The access token has expired.
    TokenExpired,
    /// Too many requests.
    RateLimited,
    /// The vendor is broken.
    ServerError,
    /// Status 200, but an error.
    ErrorIn200,
    /// The answer breaks off.
    Cut,
}

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::TokenExpired => "tokenExpired",
            Fault::RateLimited => "rateLimited",
            Fault::ServerError => "serverError",
            Fault::ErrorIn200 => "errorIn200",
            Fault::Cut => "cut",
        }
    }
}

impl Faults {
    /// The names of all faults and switches.
    pub fn names() -> Vec<String> {
        match serde_json::to_value(Self::default()) {
            Ok(serde_json::Value::Object(fields)) => fields.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// The fault that hits the request with this number.
    pub(crate) fn fault_of(&self, request: u64) -> Option<Fault> {
        let burst = self.busy_burst.is_some_and(|length| (request + mix(self.seed, 6)) % 50 < u64::from(length));
        [
            (self.hits(self.expire_tokens_every, request, 1), Fault::TokenExpired),
            (self.hits(self.rate_limit_every, request, 2), Fault::RateLimited),
            (burst || self.hits(self.status_5xx_every, request, 3), Fault::ServerError),
            (self.hits(self.error_200, request, 4), Fault::ErrorIn200),
            (self.hits(self.cut_connection_every, request, 5), Fault::Cut),
        ]
        .into_iter()
        .find_map(|(hit, fault)| hit.then_some(fault))
    }

    fn hits(&self, every: Option<u32>, request: u64, salt: u64) -> bool {
        every.is_some_and(|every| (request + mix(self.seed, salt)).is_multiple_of(u64::from(every)))
    }

    /// The time between the date of the change with this number and its appearance in lists.
    pub(crate) fn lateness(&self, serial: u64) -> Duration {
        let Some((least, most)) = self.late_indexing else { return Duration::zero() };
        let span = u64::from(most.saturating_sub(least)) + 1;
        Duration::seconds(i64::from(least) + (mix(self.seed, serial) % span) as i64)
    }

    /// The local zone: the one set here, or the vendor's usual one.
    pub(crate) fn zone(&self, usual: Tz) -> Tz {
        self.zone.as_deref().and_then(|name| name.parse().ok()).unwrap_or(usual)
    }
}

/// A well-spread number from two others (the finalizer of splitmix64).
pub(crate) fn mix(seed: u64, salt: u64) -> u64 {
    let mut x = seed ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) >> 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_hits_one_request_in_every_n_requests_and_the_seed_chooses_where() {
        for seed in 0..5 {
            let faults = Faults { seed, rate_limit_every: Some(4), ..Faults::default() };
            let hit: Vec<u64> =
                (1..=12).filter(|request| faults.fault_of(*request) == Some(Fault::RateLimited)).collect();
            assert_eq!(hit.len(), 3, "seed {seed}: {hit:?}");
            assert!(hit.windows(2).all(|pair| pair[1] - pair[0] == 4));
        }
        assert_eq!(Faults::default().fault_of(1), None);
    }

    #[test]
    fn lateness_stays_in_its_range_and_uses_it() {
        let faults = Faults { seed: 7, late_indexing: Some((2, 5)), ..Faults::default() };
        let seen: std::collections::BTreeSet<i64> =
            (0..100).map(|serial| faults.lateness(serial).num_seconds()).collect();
        assert_eq!(seen, (2..=5).collect());
    }

    #[test]
    fn faults_are_read_by_the_names_that_are_listed() {
        assert!(Faults::names().contains(&"status_5xx_every".to_owned()));
        let read: Faults = serde_json::from_str(r#"{"late_indexing":[1,3],"status_5xx_every":9}"#).unwrap();
        assert_eq!((read.late_indexing, read.status_5xx_every), (Some((1, 3)), Some(9)));
        assert!(serde_json::from_str::<Faults>(r#"{"lateIndexing":[1,3]}"#).is_err());
    }
}
