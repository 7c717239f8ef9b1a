//! Paging by the `rel=next` URL of the `Link` header.

use http::HeaderMap;
use http::header::LINK;

use super::{PageFields, PageRead, Pager, Position};
use crate::definition::LinkHeaderPaging;
use crate::fault::Fault;

impl Pager for LinkHeaderPaging {
    fn size(&self) -> u32 {
        self.size
    }

    fn want(&self, _: &mut PageFields) {}

    fn next(&self, page: &mut PageRead<'_>) -> Result<Position, Fault> {
        next_link(page.headers).map_or(Position::End, Position::Url).after(page.position)
    }
}

/// The `rel=next` URL of RFC 8288.
fn next_link(headers: &HeaderMap) -> Option<String> {
    let texts = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).find_map(|link| {
        let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let next = parameters.split(';').any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            let words = value.trim().trim_matches(['"', '\'']);
            name.trim().eq_ignore_ascii_case("rel") && words.split(' ').any(|word| word.eq_ignore_ascii_case("next"))
        });
        next.then(|| url.to_owned())
    })
}
