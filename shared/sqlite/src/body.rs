//! The form in which a body is stored: text as it is where packing gains nothing, otherwise bytes whose first one says
//! what follows. The table in the cloud stores the same form.

use bytes::Bytes;
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use store::port::{Item, Key};

/// Items above this size are packed: the unit in which the cloud's table charges writes.
const PACK_ABOVE: usize = 1024;
/// No body unpacks to more; a frame that claims to is damaged.
const LARGEST_BODY: usize = 64 * 1024 * 1024;
/// First byte of a body that follows as it is.
const PLAIN: u8 = 0;
/// First byte of a body that follows as a zstd frame.
const ZSTD: u8 = 1;

/// A body as it is stored.
#[derive(Debug, PartialEq)]
pub(crate) enum Stored {
    /// UTF-8, stored as SQLite's text.
    Text(Bytes),
    /// Stored as a blob: a byte that names the form, and the rest.
    Blob(Vec<u8>),
}

impl Stored {
    /// Bytes that it takes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Stored::Text(text) => text.len(),
            Stored::Blob(blob) => blob.len(),
        }
    }
}

impl ToSql for Stored {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Stored::Text(text) => ValueRef::Text(text),
            Stored::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}

/// Bytes of an item as the cloud's table counts them, a little too many: attribute names, keys, two numbers, the body.
pub(crate) fn item_size(key: &Key, body: usize) -> usize {
    "pkskvbx".len() + key.pk.len() + key.sk.len() + 2 * 21 + body
}

/// Chooses the smaller form.
pub(crate) fn pack(item: &Item) -> Stored {
    let body = &item.body;
    let packed = (item_size(&item.key, body.len()) > PACK_ABOVE && body.len() <= LARGEST_BODY)
        .then(|| zstd::bulk::compress(body, zstd::DEFAULT_COMPRESSION_LEVEL).ok())
        .flatten()
        .filter(|packed| packed.len() < body.len());
    let (form, bytes) = match &packed {
        Some(packed) => (ZSTD, packed.as_slice()),
        None if std::str::from_utf8(body).is_ok() => return Stored::Text(body.clone()),
        None => (PLAIN, body.as_ref()),
    };
    let mut blob = Vec::with_capacity(1 + bytes.len());
    blob.push(form);
    blob.extend_from_slice(bytes);
    Stored::Blob(blob)
}

/// The body again; none where it is damaged.
pub(crate) fn unpack(stored: ValueRef<'_>) -> Option<Bytes> {
    match stored {
        ValueRef::Text(text) => Some(Bytes::copy_from_slice(text)),
        ValueRef::Blob([PLAIN, plain @ ..]) => Some(Bytes::copy_from_slice(plain)),
        ValueRef::Blob([ZSTD, frame @ ..]) => {
            let size = zstd::zstd_safe::get_frame_content_size(frame).ok()??;
            let size = usize::try_from(size).ok().filter(|size| *size <= LARGEST_BODY)?;
            zstd::bulk::decompress(frame, size).ok().map(Bytes::from)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(body: &[u8]) -> Item {
        Item { key: Key::new("INST#1", "META"), version: 7, body: Bytes::copy_from_slice(body), expires_at: None }
    }

    fn value(stored: &Stored) -> ValueRef<'_> {
        match stored {
            Stored::Text(text) => ValueRef::Text(text),
            Stored::Blob(blob) => ValueRef::Blob(blob),
        }
    }

    #[test]
    fn bodies_come_back_as_they_were() {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(4000)
        .collect();
        let long = r#"{"name":"Ærøskøbing"},"#.repeat(200);
        let cases: [(&[u8], &str); 6] = [
            (b"", "text"),
            (br#"{"a":1}"#, "text"),
            (b"\xff\x00", "plain"),
            (&b"\x01".repeat(3000), "zstd"),
            (long.as_bytes(), "zstd"),
            (&noise, "plain"),
        ];
        for (body, form) in cases {
            let stored = pack(&item(body));
            let is = match &stored {
                Stored::Text(_) => "text",
                Stored::Blob(blob) if blob[0] == PLAIN => "plain",
                Stored::Blob(_) => "zstd",
            };
            assert_eq!(is, form, "{} bytes", body.len());
            assert!(stored.len() <= body.len() + 1);
            assert_eq!(unpack(value(&stored)).as_deref(), Some(body), "{form}");
        }
    }

    #[test]
    fn a_damaged_body_is_none() {
        for blob in [vec![], vec![9, 1, 2], vec![ZSTD], vec![ZSTD, 1, 2, 3]] {
            assert_eq!(unpack(ValueRef::Blob(&blob)), None, "{blob:?}");
        }
        assert_eq!(unpack(ValueRef::Null), None);
        assert_eq!(unpack(ValueRef::Integer(1)), None);
    }
}
