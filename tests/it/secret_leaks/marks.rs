//! Marked secrets, the forms in which one could leak, and the views of the bytes that are searched.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

/// A marked secret, and every form in which it would be a leak.
pub(super) struct Mark {
    pub(super) name: String,
    forms: Vec<String>,
}

impl Mark {
    pub(super) fn new(name: &str, secret: &str) -> Self {
        let bytes = secret.as_bytes();
        let hex = |upper: bool| -> String {
            bytes.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
        };
        let quoted = json!(secret).to_string();
        let mut forms: Vec<String> = vec![
            secret.to_owned(),
            quoted.trim_matches('"').to_owned(),
            json!(quoted).to_string().trim_matches(['"', '\\']).to_owned(),
            utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
            url::form_urlencoded::byte_serialize(bytes).collect(),
            hex(false),
            hex(true),
            format!("{bytes:?}").trim_matches(['[', ']']).to_owned(),
        ];
        // Inside a longer encoded text there are three alignments. The letters that neighbours affect are cut.
        for shift in 0..3 {
            let shifted = [&vec![0; shift], bytes].concat();
            let (from, to) = ((shift * 8).div_ceil(6), shifted.len() * 8 / 6);
            for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
                forms.push(encoded[from..to].to_owned());
            }
        }
        forms.sort();
        forms.dedup();
        Self { name: name.to_owned(), forms }
    }

    pub(super) fn is_in(&self, view: &str) -> bool {
        self.forms.iter().any(|form| view.contains(form))
    }
}

/// The bytes as they are, decompressed and decoded.
pub(super) fn views(bytes: &[u8]) -> Vec<String> {
    let mut views = vec![bytes.to_vec()];
    views.extend(zstd::bulk::decompress(bytes, 1 << 22).ok());
    // Runs that may be base64, such as a sealed secret or a page token.
    let is_of_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    let runs = views.iter().flat_map(|view| view.split(|byte| !is_of_base64(byte))).filter(|run| run.len() >= 16);
    let decoded: Vec<Vec<u8>> = runs
        .flat_map(|run| [run, &run[..run.len() / 4 * 4]])
        .flat_map(|run| [STANDARD_NO_PAD.decode(run).ok(), URL_SAFE_NO_PAD.decode(run).ok()])
        .flatten()
        .collect();
    views.extend(decoded);
    views.iter().map(|view| String::from_utf8_lossy(view).into_owned()).collect()
}
