//! The rules of the record layer and of `flow`'s files: who may touch keys, versions and conflicts, and that no files
//! import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_owned()
}

/// The Rust files below a folder, by path from the root, without those that hold only tests.
fn production_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() && !["tests", "target", "sandbox"].contains(&name.as_str()) {
                folders.push(path);
            } else if name.ends_with(".rs") && !["tests.rs", "testing.rs", "build.rs"].contains(&name.as_str()) {
                found.push(path.strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string().contains("test"))
    })
}

/// A file without what is compiled only for tests.
fn parse(file: &Path) -> syn::File {
    let text = std::fs::read_to_string(root().join(file)).expect("a listed file can be read");
    without_tests(&text, &file.display().to_string())
}

fn without_tests(text: &str, name: &str) -> syn::File {
    let mut parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    parsed.items.retain(|item| match item {
        syn::Item::Mod(item) => !is_test(&item.attrs),
        syn::Item::Fn(item) => !is_test(&item.attrs),
        syn::Item::Impl(item) => !is_test(&item.attrs),
        syn::Item::Use(item) => !is_test(&item.attrs),
        _ => true,
    });
    parsed
}

// ---------------------------------------------------------------- The record layer

/// Paths that only the record layer and the adapters of the port may name.
const OF_THE_RECORD_LAYER: [&[&str]; 8] = [
    &["Condition"],
    &["StoreError", "Conflict"],
    &["Key", "new"],
    &["Write", "Put"],
    &["Write", "Delete"],
    &["Write", "Check"],
    &["store", "keys"],
    &["store", "codec"],
];

/// The starts of keys, as they stand in the table of `store`.
fn key_prefixes() -> BTreeSet<String> {
    let table = std::fs::read_to_string(root().join("shared/store/src/lib.rs")).expect("the record layer");
    let rows = table.lines().filter_map(|line| line.strip_prefix("//! | "));
    let words = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    words.filter_map(|word| Some(format!("{}#", word.split_once('#')?.0))).collect()
}

/// The names in a file that are the record layer's alone.
#[derive(Default)]
struct Trespasses {
    prefixes: BTreeSet<String>,
    found: Vec<String>,
}

impl Trespasses {
    fn of(file: &syn::File) -> Vec<String> {
        let mut trespasses = Self { prefixes: key_prefixes(), found: Vec::new() };
        assert!(
            trespasses.prefixes.contains("DLV#"),
            "{:?}: the table of keys is not where it was",
            trespasses.prefixes
        );
        trespasses.visit_file(file);
        trespasses.found
    }

    fn names(&mut self, segments: &[String]) {
        for forbidden in OF_THE_RECORD_LAYER {
            if segments.windows(forbidden.len()).any(|window| window.iter().zip(forbidden).all(|(a, b)| a == b)) {
                self.found.push(forbidden.join("::"));
            }
        }
    }
}

impl<'ast> Visit<'ast> for Trespasses {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.names(&path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>());
        visit::visit_path(self, path);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        for path in flat(&item.tree) {
            self.names(&path);
        }
    }

    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        let text = literal.value();
        self.found.extend(self.prefixes.iter().filter(|prefix| text.starts_with(prefix.as_str())).cloned());
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        let tokens = called.tokens.to_string();
        self.found.extend(self.prefixes.iter().filter(|prefix| tokens.contains(&format!("\"{prefix}"))).cloned());
    }
}

/// The paths of an import, each in full.
fn flat(tree: &syn::UseTree) -> Vec<Vec<String>> {
    match tree {
        syn::UseTree::Path(path) => flat(&path.tree)
            .into_iter()
            .map(|mut rest| {
                rest.insert(0, path.ident.to_string());
                rest
            })
            .collect(),
        syn::UseTree::Name(name) => vec![vec![name.ident.to_string()]],
        syn::UseTree::Rename(rename) => vec![vec![rename.ident.to_string()]],
        syn::UseTree::Glob(_) => vec![vec!["*".to_owned()]],
        syn::UseTree::Group(group) => group.items.iter().flat_map(flat).collect(),
    }
}

#[test]
fn only_the_record_layer_knows_keys_versions_and_conflicts() {
    let folders = ["shared/flow/src", "functions"];
    let files: Vec<PathBuf> = folders.into_iter().flat_map(production_files).collect();
    assert!(files.len() > 100, "only {} files seen", files.len());
    let trespasses: Vec<String> = files
        .iter()
        .flat_map(|file| {
            Trespasses::of(&parse(file)).into_iter().map(move |named| format!("{}: {named}", file.display()))
        })
        .collect();
    assert!(trespasses.is_empty(), "outside the record layer:\n{}", trespasses.join("\n"));
}

#[test]
fn a_trespass_is_noticed() {
    for text in [
        "use store::{Condition, Item};",
        "fn f() { let _ = Key::new(\"a\", \"b\"); }",
        "fn f(e: StoreError) { if let StoreError::Conflict { .. } = e {} }",
        "const A: &str = \"DLV#\";",
        "fn f() { g(format!(\"INST#{}\", 1)); }",
        "use store::keys::instance_key;",
    ] {
        assert!(!Trespasses::of(&without_tests(text, "planted")).is_empty(), "{text}");
    }
    let innocent = "#[cfg(test)]\nmod tests { use store::Condition; }\nuse store::Write;";
    assert!(Trespasses::of(&without_tests(innocent, "innocent")).is_empty());
}

// ---------------------------------------------------------------- Circles

/// A crate's modules that have a file of their own, and what each imports.
struct Modules {
    /// Path of a module from the crate's root, such as `["poll", "index"]`.
    files: BTreeMap<Vec<String>, syn::File>,
}

impl Modules {
    fn of(source: &str) -> Self {
        let files = production_files(source).into_iter().map(|file| {
            let below = file.strip_prefix(source).expect("below the source folder").with_extension("");
            let mut path: Vec<String> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if path.last().is_some_and(|last| last == "mod" || last == "lib") {
                path.pop();
            }
            (path, parse(&file))
        });
        Self { files: files.collect() }
    }

    /// Public re-exports of a module: the name, and the path it stands for.
    fn re_exports(&self, module: &[String]) -> Vec<(String, Vec<String>)> {
        let Some(file) = self.files.get(module) else { return Vec::new() };
        let public = file.items.iter().filter_map(|item| match item {
            syn::Item::Use(item) if !matches!(item.vis, syn::Visibility::Inherited) => Some(&item.tree),
            _ => None,
        });
        public.flat_map(flat).filter_map(|path| Some((path.last()?.clone(), self.absolute(module, &path)?))).collect()
    }

    /// A path as seen from a module, from the crate's root. None: it is another crate's or a name of the file itself.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let mut base = module.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (base, rest) = (Vec::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    base.pop()?;
                    rest = &rest[1..];
                }
            }
            first => {
                base.push(first.to_owned());
                if !self.files.contains_key(&base) {
                    return None;
                }
                base.pop();
            }
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    /// The module whose file defines what an absolute path names.
    fn definition(&self, path: &[String]) -> Option<Vec<String>> {
        let mut path = path.to_vec();
        for _ in 0..8 {
            let length = (0..=path.len()).rev().find(|length| self.files.contains_key(&path[..*length]))?;
            let (module, rest) = path.split_at(length);
            let exported = rest.first().and_then(|name| {
                self.re_exports(module).into_iter().find(|(exported, _)| exported == name).map(|(_, target)| target)
            });
            match exported {
                Some(target) if target != path => path = target.into_iter().chain(rest[1..].iter().cloned()).collect(),
                _ => return Some(module.to_vec()),
            }
        }
        None
    }

    /// The modules that a module's own code needs; its re-exports and the declarations of its children are no need.
    fn needs(&self, module: &[String]) -> BTreeSet<Vec<String>> {
        struct Paths(Vec<Vec<String>>);
        impl<'ast> Visit<'ast> for Paths {
            fn visit_path(&mut self, path: &'ast syn::Path) {
                self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
                visit::visit_path(self, path);
            }

            fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

            fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
                if matches!(item.vis, syn::Visibility::Inherited) {
                    self.0.extend(flat(&item.tree));
                }
            }
        }
        let mut paths = Paths(Vec::new());
        paths.visit_file(&self.files[module]);
        let absolute = paths.0.iter().filter_map(|path| self.absolute(module, path));
        absolute.filter_map(|path| self.definition(&path)).filter(|needed| needed != module).collect()
    }

    /// Modules that need each other, directly or through others.
    fn circles(&self) -> Vec<String> {
        let needs: BTreeMap<&Vec<String>, BTreeSet<Vec<String>>> =
            self.files.keys().map(|module| (module, self.needs(module))).collect();
        let reached = |from: &Vec<String>| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
            while let Some(module) = next.pop() {
                for needed in needs.get(&module).into_iter().flatten() {
                    if seen.insert(needed.clone()) {
                        next.push(needed.clone());
                    }
                }
            }
            seen
        };
        let in_circle = self.files.keys().filter(|module| reached(module).contains(*module));
        in_circle
            .map(|module| {
                let back = needs[module].iter().filter(|needed| reached(needed).contains(module));
                let back: Vec<String> = back.map(|needed| needed.join("::")).collect();
                format!("{} needs {}, which need it", module.join("::"), back.join(", "))
            })
            .collect()
    }
}

#[test]
fn no_files_of_flow_import_each_other_in_a_circle() {
    let modules = Modules::of("shared/flow/src");
    assert!(modules.files.len() > 30, "only {} files seen", modules.files.len());
    let needs = modules.files.keys().map(|module| modules.needs(module).len()).sum::<usize>();
    assert!(needs > 60, "only {needs} imports seen: the check looks at the wrong thing");
    let circles = modules.circles();
    assert!(circles.is_empty(), "circles:\n{}", circles.join("\n"));
}

#[test]
fn a_circle_is_noticed_through_re_exports_too() {
    let module = |text: &str| without_tests(text, "planted");
    let files = BTreeMap::from([
        (vec![], module("pub mod a; pub mod b;")),
        (vec!["a".to_owned()], module("mod inner; pub use inner::make;")),
        (vec!["a".to_owned(), "inner".to_owned()], module("use crate::b::take; pub fn make() { take() }")),
        (vec!["b".to_owned()], module("pub fn take() { crate::a::make() }")),
    ]);
    let circles = Modules { files }.circles();
    assert_eq!(circles, ["a::inner needs b, which need it", "b needs a::inner, which need it"]);
}
