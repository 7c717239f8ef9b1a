//! Paging by the timestamp of the last record, in ascending order.
//!
//! Each page begins at the last timestamp of the page before, so the records with that timestamp come twice. They are
//! removed by id.

use std::collections::BTreeSet;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

use super::{PageFields, PageRead, Pager, Position};
use crate::definition::{EqualStamps, KeysetPaging};
use crate::fault::Fault;

impl Pager for KeysetPaging {
    fn size(&self) -> u32 {
        self.size
    }

    fn want(&self, fields: &mut PageFields) {
        fields.next = self.more.as_ref().map(|more| fields.wanted.want(more));
    }

    fn first(&self, lower: Option<DateTime<Utc>>) -> Position {
        Position::Keyset { from: lower, offset: 0, given: BTreeSet::new() }
    }

    fn next(&self, page: &mut PageRead<'_>) -> Result<Position, Fault> {
        let Position::Keyset { from, offset, given } = page.position else {
            return Err(Fault::retry("the listing lost its place"));
        };
        let last = page.rows.iter().rev().find_map(|row| row.stamp);
        let boundary = last.map(|last| self.cut(last));
        let moved = boundary.is_some() && boundary > *from;
        // The vendor may cap pages below the requested size, so a short page need not be the last one. The last page has
        // no new timestamp and is short.
        let ended = match self.more {
            Some(_) => page.next.is_none() || page.count == 0,
            None => !moved && page.is_short(),
        };
        let next = match (ended, moved) {
            (true, _) => Position::End,
            (false, true) => {
                let at_boundary = page.rows.iter().filter(|row| row.stamp >= boundary);
                Position::Keyset {
                    from: boundary,
                    offset: 0,
                    given: at_boundary.map(|row| row.record.id.clone()).collect(),
                }
            }
            (false, false) => match self.equal_stamps {
                EqualStamps::Offset => {
                    Position::Keyset { from: *from, offset: offset + page.count as u64, given: given.clone() }
                }
                EqualStamps::Grow => {
                    grow(page)?;
                    let here = page.rows.iter().map(|row| row.record.id.clone());
                    Position::Keyset { from: *from, offset: 0, given: given.iter().cloned().chain(here).collect() }
                }
            },
        };
        page.rows.retain(|row| row.stamp.map(|stamp| self.cut(stamp)) != *from || !given.contains(&row.record.id));
        Ok(next)
    }

    fn is_ordered_by_stamp(&self) -> bool {
        true
    }
}

impl KeysetPaging {
    /// Rounds an instant down to the precision of the lower bound.
    fn cut(&self, instant: DateTime<Utc>) -> DateTime<Utc> {
        let grain = self.grain.map_or(TimeDelta::zero(), |span| TimeDelta::from_std(span.0).unwrap_or_default());
        if grain.is_zero() { instant } else { instant.duration_trunc(grain).unwrap_or(instant) }
    }
}

/// Doubles the page size, within the limit.
///
/// # Errors
/// The page has the largest size already.
fn grow(page: &mut PageRead<'_>) -> Result<(), Fault> {
    if *page.page_size >= page.largest_page {
        let reason = format!("more than {} records share one stamp", page.largest_page);
        return Err(Fault::ConfigError { reason });
    }
    *page.page_size = page.page_size.saturating_mul(2).min(page.largest_page);
    Ok(())
}
