//! Every embedded element file can be read, and its default entries are valid.

use std::path::Path;

use domain::configuration::ResourceConfiguration;
use elements::catalog::{read, schema};
use elements::{Catalog, Plan};
use serde_json::{Map, Value};

#[test]
fn every_default_entry_is_a_plan() {
    for (key, text) in [
        ("square", include_str!("../square/element.toml")),
        ("maximizer", include_str!("../maximizer/element.toml")),
        ("googlesuite", include_str!("../googlesuite/element.toml")),
        ("revel", include_str!("../revel/element.toml")),
        ("icontact", include_str!("../icontact/element.toml")),
    ] {
        if let Err(problem) = read(Path::new(key), text) {
            panic!("{problem}");
        }
    }
    let catalog = Catalog::embedded();
    assert!(catalog.iter().count() >= 5);
    for element in catalog.iter() {
        for resource in &element.resources {
            Plan::resolve(element, &resource.name, &ResourceConfiguration::default(), &Map::new())
                .unwrap_or_else(|problems| panic!("{} {}: {problems:?}", element.key, resource.name));
        }
    }
}

/// The default entry that the API shows gives the same plan as the name alone.
#[test]
fn every_default_entry_can_be_configured_as_it_is_shown() {
    for element in Catalog::embedded().iter() {
        for resource in &element.resources {
            let at = format!("{} {}", element.key, resource.name);
            let (entry, _) = ResourceConfiguration::parse(&resource.poll, "entry")
                .unwrap_or_else(|problems| panic!("{at}: {problems:?}"));
            let (plan, warnings) = Plan::resolve(element, &resource.name, &entry, &Map::new())
                .unwrap_or_else(|problems| panic!("{at}: {problems:?}"));
            assert_eq!(plan.resource().name, resource.name, "{at}: {warnings:?}");
        }
    }
}

/// `UPDATE_SCHEMA=1 cargo test -p elements` writes it again.
#[test]
fn the_published_schema_is_that_of_the_vocabulary() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.json");
    let written = format!("{}\n", serde_json::to_string_pretty(&schema()).expect("JSON"));
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&file, &written).expect("the crate's folder is writable");
    }
    let published = std::fs::read_to_string(&file).unwrap_or_default();
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    assert_eq!(parse(&published), parse(&written), "run it with UPDATE_SCHEMA=1");
}

#[test]
fn a_bad_file_is_refused_with_line_and_nearest_word() {
    let good = include_str!("../square/element.toml");
    let table = [
        ("token_body_kind = 1\n[bases]", "[bases]", "unknown field"),
        ("kind = \"scan_dsc\"", "kind = \"scan_desc\"", "the nearest is `scan_desc`"),
        ("hub_pahts", "hub_paths", "the nearest is `hub_paths`"),
        ("\"${watermark|iso_mss}\"", "\"${watermark|iso_ms}\"", "the nearest is `iso_ms`"),
        ("${page_tokn}", "${page_token}", "the nearest is `page_token`"),
        ("pointer = \"timecards\"", "pointer = \"/timecards\"", "a pointer starts with `/`"),
        ("resource = \"location\"", "resource = \"locations\"", "no resource is named `location`"),
        ("overlap = \"2 minutes\"", "overlap = \"2m\"", "no duration"),
        ("action = \"reconect\"", "action = \"reconnect\"", "the nearest is `reconnect`"),
    ];
    for (wrong, right, expected) in table {
        let line = good[..good.find(right).expect(right)].lines().count();
        let text = good.replacen(right, wrong, 1);
        let problem = read(Path::new("square/element.toml"), &text).expect_err(wrong);
        assert!(problem.message.contains(expected), "{wrong}: {problem}");
        let reported = problem.line.expect("a line");
        assert!(reported.abs_diff(line) <= 1, "{wrong}: line {line}: {problem}");
    }
    let open_host = good.replace("host_suffix = [\".squareup.com\", \".squareupsandbox.com\"]\n", "");
    let problem = read(Path::new("square/element.toml"), &open_host).expect_err("any host");
    assert!(problem.message.contains("give it a pattern"), "{problem}");
}

#[test]
fn a_directory_adds_elements_and_one_bad_file_refuses_them_all() {
    let directory = tempfile::tempdir().expect("a folder");
    let put = |key: &str, text: &str| {
        std::fs::create_dir_all(directory.path().join(key)).expect("a folder");
        std::fs::write(directory.path().join(key).join("element.toml"), text).expect("a file");
    };
    put(
        "mine",
        &include_str!("../revel/element.toml")
            .replace("key = \"revel\"", "key = \"mine\"")
            .replace("ids = [5125, 8375]", "ids = [1]"),
    );
    let catalog = Catalog::embedded().with_directory(directory.path()).expect("elements");
    assert_eq!(catalog.get("1").expect("by its number").key, "mine");
    assert!(catalog.get("square").is_some());
    put("bad", "[element]\nkey = 1\n");
    let problems = catalog.with_directory(directory.path()).expect_err("a bad file");
    assert_eq!((problems.len(), problems[0].line), (1, Some(2)), "{problems:?}");
}
