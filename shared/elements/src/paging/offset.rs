//! Paging by an offset, until the total is reached or a page is short.

use chrono::{DateTime, Utc};

use super::{PageFields, PageRead, Pager, Position};
use crate::definition::OffsetPaging;
use crate::fault::Fault;

impl Pager for OffsetPaging {
    fn size(&self) -> u32 {
        self.size
    }

    fn want(&self, fields: &mut PageFields) {
        fields.total = Some(fields.wanted.want(&self.total));
    }

    fn first(&self, _lower: Option<DateTime<Utc>>) -> Position {
        Position::Offset(0)
    }

    fn next(&self, page: &mut PageRead<'_>) -> Result<Position, Fault> {
        let offset = if let Position::Offset(offset) = page.position { *offset } else { 0 };
        let count = page.count as u64;
        let reached = offset + count;
        let ended = match page.total {
            Some(total) => reached >= total || count == 0,
            None => page.is_short(),
        };
        // The offset must grow, or the listing would never end.
        let back = u64::from(self.step_back).min(count.saturating_sub(1));
        Ok(if ended { Position::End } else { Position::Offset(reached - back) })
    }
}
