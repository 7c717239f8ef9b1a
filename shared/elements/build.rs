//! Lists the element files, so that a new folder is embedded without a line of code.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    println!("cargo::rerun-if-changed={}", here.display());
    let mut keys: Vec<String> = fs::read_dir(&here)
        .expect("the crate's folder is readable")
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            path.join("element.toml").is_file().then(|| path.file_name()?.to_str().map(str::to_owned))?
        })
        .collect();
    keys.sort();
    let mut code = String::from("pub(crate) const EMBEDDED: &[(&str, &str)] = &[\n");
    for key in keys {
        let file: &Path = &here.join(&key).join("element.toml");
        println!("cargo::rerun-if-changed={}", file.display());
        writeln!(code, "    ({key:?}, include_str!({file:?})),").expect("a string takes everything");
    }
    code.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("embedded.rs"), code).expect("the build folder is writable");
}
