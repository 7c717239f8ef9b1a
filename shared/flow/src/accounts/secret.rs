//! Replacing a secret: a new one takes its place, and the old one works for a while longer or stops at once.

use chrono::{DateTime, TimeDelta, Utc};
use store::Write;
use store::records::account::{Previous, Principal, PrincipalRecord, SecretSlot, put_secret, secret_key};

/// The way a secret is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// A new one takes its place; the old one works for this time still, or no longer.
    Rotate(TimeDelta),
    /// It works no longer, nor does one before it that still did. Nobody learns the new one.
    Revoke,
}

impl Renewal {
    /// A new one, and the old one stops at once.
    pub const AT_ONCE: Self = Self::Rotate(TimeDelta::zero());

    pub(super) fn grace(self) -> TimeDelta {
        match self {
            Self::Rotate(grace) => grace,
            Self::Revoke => TimeDelta::zero(),
        }
    }
}

/// The secret that a record knows by its hash, and the one before it.
pub(crate) struct Replaced<'a> {
    /// Hash of the secret.
    pub current: &'a mut String,
    /// The secret before it.
    pub previous: &'a mut Option<Previous>,
    /// Their owner.
    pub principal: Principal,
    /// The owner is disabled.
    pub disabled: bool,
}

/// Puts the secret with the hash `new` in the place of another, which works for `grace` still, or no longer. The one
/// before that stops at once. Answers the writes of the secrets; the record is the caller's to write.
pub(crate) fn replace_secret(of: Replaced<'_>, new: &str, grace: TimeDelta, now: DateTime<Utc>) -> Vec<Write> {
    let Replaced { current, previous, principal, disabled } = of;
    let old = std::mem::replace(current, new.to_owned());
    let record = |until| PrincipalRecord { principal: principal.clone(), until, disabled };
    let mut writes = vec![put_secret(new, &record(None))];
    writes.extend(previous.take().map(|before| secret_key(&before.hash).delete()));
    if grace > TimeDelta::zero() {
        let until = now + grace;
        writes.push(put_secret(&old, &record(Some(until))));
        *previous = Some(Previous { hash: old, until });
    } else {
        writes.push(secret_key(&old).delete());
    }
    writes
}

/// Writes the secrets of a slot as they are to be while their owner is `disabled`, or no longer.
pub(super) fn put_secrets(slot: &SecretSlot, principal: &Principal, disabled: bool) -> Vec<Write> {
    let record = |until| PrincipalRecord { principal: principal.clone(), until, disabled };
    let current = put_secret(&slot.secret_hash, &record(None));
    let previous = slot.previous.iter().map(|before| put_secret(&before.hash, &record(Some(before.until))));
    std::iter::once(current).chain(previous).collect()
}
