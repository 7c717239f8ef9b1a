//! What the long runs leave behind for `docs/reliability.md`: one file of figures for each run.

use std::path::PathBuf;

use serde_json::Value;

/// Where the figures of the last runs lie.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/reliability")
}

/// Leaves the figures of a run. Where nothing can be written, the run is none the worse for it.
pub fn record(run: &str, figures: &Value) {
    let folder = folder();
    let _ = std::fs::create_dir_all(&folder);
    let _ = std::fs::write(folder.join(format!("{run}.json")), format!("{figures:#}\n"));
}
