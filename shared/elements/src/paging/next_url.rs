//! Paging by a URL from the answer.

use super::{PageFields, PageRead, Pager, Position};
use crate::definition::NextUrlPaging;
use crate::fault::Fault;

impl Pager for NextUrlPaging {
    fn size(&self) -> u32 {
        self.size
    }

    fn want(&self, fields: &mut PageFields) {
        fields.next = Some(fields.wanted.want(&self.from));
    }

    fn next(&self, page: &mut PageRead<'_>) -> Result<Position, Fault> {
        page.next.take().map_or(Position::End, Position::Url).after(page.position)
    }
}
