//! The OpenAPI document agrees with the service: a property-based tester reads the document and calls the service over a
//! real socket, with valid and invalid values.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use local::system::{Options, System};
use tests::python;

/// The tester. It draws from a seed of its own, so that a failure comes back.
const TESTER: &str = "schemathesis==4.32.5";

/// Cases of each call in the phase of chance; the phase of boundaries has as many as the call has boundaries.
const CASES: &str = "8";

/// The checks that are left out, with their reasons.
const EXCLUDED: [(&str, &str); 3] = [
    (
        "positive_data_acceptance",
        "a body that has the right shape may still name credentials that the vendor refuses: no schema can say which",
    ),
    (
        "object_level_authorization",
        "it needs two users in the document; tenant isolation has a test of its own on every route",
    ),
    (
        "allow_header_conformance",
        "a path may be served without a hub, and then its methods are those of the hub's resources",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_tester_that_reads_the_document_finds_nothing_wrong_with_the_service() {
    let folder = tempfile::tempdir().expect("a directory");
    let options = Options {
        address: "127.0.0.1:0".parse().expect("an address"),
        data: folder.path().join("data"),
        vendors: Vec::new(),
        elements: None,
        minute: std::time::Duration::from_secs(60),
        allow_private: true,
        sandbox: true,
    };
    let system = System::start(&options).await.expect("it starts");
    let excluded: Vec<&str> = EXCLUDED.iter().map(|(check, _)| *check).collect();
    let mut tester = Command::new(python::with(TESTER));
    tester
        .args(["-m", "schemathesis.cli", "--config-file"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("it/openapi.toml"))
        .arg("run")
        .arg(format!("{}/elements/api-v2/openapi.json", system.url))
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", CASES, "--seed", "1"])
        .args(["--exclude-checks", &excluded.join(","), "--no-shrink", "--generation-database", "none"])
        .args(["--suppress-health-check", "all", "--request-timeout", "30", "--no-color", "--warnings", "off"])
        .env("SCHEMATHESIS_HOOKS", "openapi_hooks")
        .env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("it"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("POLLUX_URL", &system.url)
        .env("POLLUX_SECRETS", system.credentials.authorization())
        .current_dir(folder.path());
    let output = tokio::task::spawn_blocking(move || tester.output()).await.expect("it ends").expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // A run that tried nothing finds nothing: `4224 generated, …`.
    let tried = said.lines().find_map(|line| line.split_once(" generated")?.0.trim().parse::<u32>().ok());
    assert!(tried.is_some_and(|tried| tried > 2000), "{said}");
    system.stop().await;
}

#[test]
fn the_document_is_what_the_handbook_names() {
    let document = instances::document();
    let served: BTreeSet<String> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().into_iter().flatten();
            methods.map(move |(method, _)| format!("{} {path}", method.to_ascii_uppercase()))
        })
        .collect();
    let handbook = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md"));
    let handbook = handbook.expect("docs/api.md");
    // A line of a table: | `GET /path` | same or better | … |
    let named: BTreeSet<String> = handbook
        .lines()
        .filter(|line| line.starts_with("| `") && !line.contains("| not served |"))
        .flat_map(|line| line.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .filter(|call| call.split_once(" /").is_some_and(|(method, _)| method.bytes().all(|b| b.is_ascii_uppercase())))
        .collect();
    let missing: Vec<&String> = named.difference(&served).collect();
    assert!(missing.is_empty(), "docs/api.md names what is not served: {missing:?}");
    let unnamed: Vec<&String> = served.difference(&named).collect();
    assert!(unnamed.is_empty(), "docs/api.md does not name {unnamed:?}");
    let limits = domain::limits::ALL;
    for (what, figure, unit) in limits {
        let row = format!("| {what} | {figure} | {unit} |");
        assert!(handbook.contains(&row), "docs/api.md lacks the limit {row}");
    }
    let schemas = document["components"]["schemas"].as_object().map(serde_json::Map::len);
    assert!(schemas.is_some_and(|count| count > 40) && document["openapi"] == "3.1.0");
}
