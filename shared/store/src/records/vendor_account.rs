//! The instances that share one account at a vendor, and the pause that its rate limit imposes on all of them.

use chrono::{DateTime, TimeDelta, Utc};
use domain::id::InstanceId;

use super::instance;
use super::tokens::{PauseRecord, pause_key};
use crate::keys;
use crate::pages::Section;
use crate::port::{Range, Write};
use crate::record::{RecordKey, Stored, expiring};

/// Key of an instance among those of its account.
pub fn member_key(element: &str, account: &str, instance: InstanceId) -> RecordKey<()> {
    RecordKey::of(keys::account_key(element, account, instance))
}

/// The instances of an account.
pub fn members(element: &str, account: &str) -> Section<()> {
    Section::of(keys::account_partition(element, account), Range::prefix(""))
}

/// The instance that a member of an account is. None: the key names none.
pub fn member_id(member: &Stored<()>) -> Option<InstanceId> {
    member.key().as_key().sk.parse().ok().map(InstanceId)
}

/// Writes that note at an instance that its vendor wants no calls until then. They fail where the instance is removed.
pub fn pause_writes(id: InstanceId, until: DateTime<Utc>) -> [Write; 2] {
    let pause = pause_key(id).put(&PauseRecord { until });
    [instance::key(id).must_exist(), expiring(pause, Some(until + TimeDelta::days(1)))]
}
