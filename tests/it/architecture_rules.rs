//! The rules of the workspace that no compiler checks: the dependencies between crates, and the places of files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use domain::configuration::keys::{KEYS, KeySpec, Kind, Offered};
use serde_json::Value;

/// The workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_owned()
}

/// The allowed dependencies of each crate: everything to its left in the one-way order.
const PICTURE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("elements", &["domain"]),
    ("store", &["domain", "elements"]),
    ("sqlite", &["store"]),
    ("flow", &["domain", "elements", "store"]),
    ("aws", &["domain", "elements", "store", "flow"]),
    ("instances", &["domain", "elements", "store", "flow", "aws"]),
    ("dispatcher", &["domain", "elements", "store", "flow", "aws"]),
    ("poller", &["domain", "elements", "store", "flow", "aws"]),
    ("local", &["domain", "elements", "store", "flow", "aws", "instances", "dispatcher", "poller"]),
    ("tests", &["domain", "elements", "store", "sqlite", "flow", "aws", "instances", "dispatcher", "poller", "local"]),
    ("durability", &["store", "sqlite"]),
    ("benches", &["domain", "elements", "store", "flow", "aws", "instances", "dispatcher", "poller", "local"]),
];

/// Runs cargo and returns its output.
fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

/// Reads `cargo metadata` of this platform, offline and from the lockfile.
fn metadata() -> Value {
    let version = cargo(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo names its host");
    let arguments = ["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", host];
    serde_json::from_str(&cargo(&arguments)).expect("cargo metadata writes JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("cargo metadata has a text here")
}

/// Names of the workspace's own packages by package id.
fn members(metadata: &Value) -> BTreeMap<&str, &str> {
    let ids: BTreeSet<&str> = metadata["workspace_members"].as_array().into_iter().flatten().map(text).collect();
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages.map(|package| (text(&package["id"]), text(&package["name"]))).filter(|(id, _)| ids.contains(id)).collect()
}

/// Names of every package that `name` is built with when it is built alone; what only a build script or a test needs
/// does not count.
fn closure(name: &str) -> BTreeSet<String> {
    let tree = cargo(&["tree", "--locked", "--offline", "--package", name, "--edges=normal", "--prefix=none"]);
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn dependencies_point_one_way() {
    let metadata = metadata();
    let members = members(&metadata);
    let names: BTreeSet<&str> = members.values().copied().collect();
    assert_eq!(names, PICTURE.iter().map(|(name, _)| *name).collect(), "the picture names every crate");
    let mut edges = 0;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let Some(name) = members.get(text(&package["id"])) else { continue };
        let allowed = PICTURE.iter().find(|(listed, _)| listed == name).expect("checked above").1;
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = text(&dependency["name"]);
            if names.contains(on) && on != *name {
                assert!(allowed.contains(&on), "{name} must not depend on {on}");
                edges += 1;
            }
        }
    }
    assert!(edges >= PICTURE.len(), "only {edges} edges seen: the check looks at the wrong thing");
}

#[test]
fn decisions_and_vendors_are_built_without_async_http_or_cloud() {
    for name in ["domain", "elements"] {
        let closure = closure(name);
        for forbidden in ["tokio", "reqwest", "hyper", "aws-config", "aws-sdk-dynamodb", "getrandom", "rand"] {
            assert!(!closure.contains(forbidden), "{name} is built with {forbidden}");
        }
    }
    let flow = closure("flow");
    for forbidden in ["reqwest", "aws-config", "aws-sdk-dynamodb", "aws-sdk-sqs", "aws-sdk-kms"] {
        assert!(!flow.contains(forbidden), "flow is built with {forbidden}");
    }
    // The names above are spelled as those who use them do.
    let aws = closure("aws");
    for present in
        ["tokio", "reqwest", "hyper", "aws-config", "aws-sdk-dynamodb", "aws-sdk-sqs", "aws-sdk-kms", "getrandom"]
    {
        assert!(aws.contains(present), "aws is built without {present}: the name in this test is wrong");
    }
}

/// Every Rust file of the repository, by its path from the root.
fn rust_files() -> Vec<PathBuf> {
    let root = root();
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(&root)
        .output()
        .expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).expect("file names are UTF-8");
    let files: Vec<PathBuf> = listed.lines().map(PathBuf::from).filter(|file| root.join(file).exists()).collect();
    assert!(files.len() > 20, "only {} files seen", files.len());
    files
}

#[test]
fn every_rust_file_opens_with_what_it_is_for() {
    for file in rust_files() {
        let text = std::fs::read_to_string(root().join(&file)).expect("a listed file can be read");
        let opening = text.lines().next().unwrap_or_default();
        let sentence = opening.strip_prefix("//! ").unwrap_or_default();
        assert!(sentence.len() > 10, "{} opens with {opening:?}", file.display());
    }
}

#[test]
fn every_rust_file_belongs_to_a_target() {
    let metadata = metadata();
    let targets: BTreeSet<PathBuf> = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|package| package["targets"].as_array().into_iter().flatten())
        .filter_map(|target| Path::new(text(&target["src_path"])).canonicalize().ok())
        .collect();
    let declares = |parent: &Path, name: &str| {
        std::fs::read_to_string(parent).is_ok_and(|text| {
            text.lines().any(|line| line.trim_start().trim_start_matches("pub ").starts_with(&format!("mod {name};")))
                || text.contains(&format!("pub(crate) mod {name};"))
                || text.contains(&format!("pub(super) mod {name};"))
        })
    };
    for file in rust_files() {
        let path = root().join(&file).canonicalize().expect("a listed file exists");
        // A module is declared in the file of its parent module, which has the folder's name, or in a target beside it.
        let module = if path.ends_with("mod.rs") { path.parent().expect("a folder") } else { path.as_path() };
        let name = module.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let folder = module.parent().expect("a folder");
        let beside = targets.iter().filter(|target| target.parent() == Some(folder)).cloned();
        let mut parents = beside.chain([folder.with_extension("rs"), folder.join("mod.rs")]);
        let belongs = targets.contains(&path) || parents.any(|parent| declares(&parent, name));
        assert!(belongs, "{} belongs to no target", file.display());
    }
}

// ---------------------------------------------------------------- One table of configuration keys

/// The code of a Rust or JavaScript file, without its unit tests and its comments.
fn code_of(file: &Path) -> String {
    let text = std::fs::read_to_string(root().join(file)).expect("a listed file can be read");
    let code = text.split_once("\n#[cfg(test)]\nmod tests {").map_or(text.as_str(), |(code, _)| code);
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn configuration_keys_stand_in_their_table_alone() {
    let table = Path::new("shared/domain/src/configuration/keys.rs");
    let is_test = |file: &Path| {
        file.starts_with("tests") || file.iter().any(|part| part == "tests" || part == "tests.rs" || part == "testing")
    };
    let mut files = rust_files();
    let console = std::fs::read_dir(root().join("functions/instances/console")).expect("the console's folder");
    let scripts =
        console.map(|entry| entry.expect("an entry").path()).filter(|path| path.extension() == Some("js".as_ref()));
    files.extend(scripts);
    files.retain(|file| !is_test(file) && file != table);
    assert!(files.len() > 150, "only {} files seen: the check looks at the wrong thing", files.len());
    let quoted: Vec<[String; 2]> =
        KEYS.iter().map(|key| [format!("\"{}", key.name), format!("'{}", key.name)]).collect();
    for file in files {
        let code = code_of(&file);
        for key in quoted.iter().flatten() {
            assert!(!code.contains(key), "{} spells {key}: take its constant from {}", file.display(), table.display());
        }
    }
    let code = code_of(table);
    assert!(quoted.iter().all(|[key, _]| code.contains(key)), "the check does not see what stands in the table itself");
}

/// A row of the manual's table of configuration keys.
fn row_of(key: &KeySpec) -> String {
    let mut value = match key.kind {
        Kind::Boolean => "true or false".to_owned(),
        Kind::Integer { least, most, unit } => format!("{least} to {most} {unit}"),
        Kind::Url => "http or https URL".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::Choice(words) => format!("`{}`", words().join("`, `")),
        Kind::Headers => "object, or lines of `Name: value`".to_owned(),
        Kind::Resources => "object".to_owned(),
        Kind::Instant => "instant, RFC 3339".to_owned(),
        Kind::Anything => "anything".to_owned(),
    };
    if key.secret {
        value += ", secret";
    }
    let default = key.default.map_or_else(String::new, |default| format!("`{default}`"));
    let offered = match key.offered {
        Offered::Form(_) => "form, API".to_owned(),
        Offered::LoginForm(_) => "form where users log in, API".to_owned(),
        Offered::ApiOnly(reason) => format!("API: {reason}"),
        Offered::ReadAndIgnored(reason) => format!("no effect: {reason}"),
    };
    format!("| `{}` | {value} | {default} | {} | {offered} |", key.name, key.help)
}

#[test]
fn the_handbook_has_the_table_of_configuration_keys() {
    let handbook = std::fs::read_to_string(root().join("docs/api.md")).expect("docs/api.md");
    let (_, section) = handbook.split_once("\n## Configuration keys\n").expect("its section");
    let (section, _) = section.split_once("\n## ").expect("the next section");
    let written: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let rows: Vec<String> = KEYS.iter().map(row_of).collect();
    assert_eq!(written, rows, "docs/api.md differs from the table; this is what it should have:\n{}", rows.join("\n"));
}

// ---------------------------------------------------------------- What others made

/// Licences under which the binaries may be given to anybody. Add one after reading it.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Answers true if the licences above satisfy an SPDX expression. Old manifests write `/` for `OR`.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.trim();
    // The outermost operator, `OR` before `AND`, outside of parentheses.
    for (operator, all) in [(" OR ", false), ("/", false), (" AND ", true)] {
        let mut depth = 0;
        let mut parts = vec![String::new()];
        let mut rest = expression;
        while let Some(letter) = rest.chars().next() {
            if depth == 0 && rest.starts_with(operator) {
                parts.push(String::new());
                rest = &rest[operator.len()..];
                continue;
            }
            depth += i32::from(letter == '(') - i32::from(letter == ')');
            parts.last_mut().expect("there is one").push(letter);
            rest = &rest[letter.len_utf8()..];
        }
        if parts.len() > 1 {
            let mut parts = parts.iter();
            return if all { parts.all(|part| is_allowed(part)) } else { parts.any(|part| is_allowed(part)) };
        }
    }
    match expression.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => is_allowed(inner),
        None => LICENCES.contains(&expression),
    }
}

#[test]
fn every_dependency_may_be_given_on_and_comes_from_the_registry() {
    for (expression, allowed) in [
        ("MIT OR Apache-2.0", true),
        ("MIT/GPL-3.0", true),
        ("GPL-3.0", false),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
        ("GPL-3.0 OR (MIT AND AGPL-3.0)", false),
        ("Apache-2.0 WITH LLVM-exception", true),
    ] {
        assert_eq!(is_allowed(expression), allowed, "{expression}");
    }
    let metadata = metadata();
    let members = members(&metadata);
    let mut others = 0;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        if members.contains_key(text(&package["id"])) {
            continue;
        }
        others += 1;
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        let licence = package["license"].as_str().unwrap_or("none that it names");
        assert!(is_allowed(licence), "{name} {version} is under {licence}");
        let source = package["source"].as_str().unwrap_or("a folder");
        assert!(source.starts_with("registry+"), "{name} {version} comes from {source}");
    }
    assert!(others > 100, "only {others} dependencies seen: the check looks at the wrong thing");
}

#[test]
fn no_crate_of_ours_may_be_unsafe() {
    let read = |path: PathBuf| -> toml::Table {
        std::fs::read_to_string(&path).expect("a manifest").parse().expect("a manifest is TOML")
    };
    let lints = &read(root().join("Cargo.toml"))["workspace"]["lints"]["rust"];
    assert_eq!(lints["unsafe_code"].as_str(), Some("forbid"), "no crate can allow it again");
    let metadata = metadata();
    let members = members(&metadata);
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let Some(name) = members.get(text(&package["id"])) else { continue };
        let manifest = read(PathBuf::from(text(&package["manifest_path"])));
        let follows = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
        assert_eq!(follows, Some(true), "{name} does not follow the workspace's lints");
    }
}
