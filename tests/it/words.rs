//! The project's words and sizes: retired words stay retired, files and functions stay short, and doc comments say what
//! an item is. `tests/words/retired.toml` lists the words, the exceptions and the folders that are still pending.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;

use proc_macro2::LineColumn;
use serde::Deserialize;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use tests::planted::root;

/// The most lines of a Rust file whose first comment gives no reason for more.
const MOST_LINES: usize = 600;
/// The most lines of a function. The lines of its tables do not count.
const MOST_FUNCTION_LINES: usize = 80;
/// The endings of the files that are searched for words.
const ENDINGS: [&str; 9] = [".rs", ".md", ".js", ".mjs", ".html", ".toml", ".sh", ".py", ".yaml"];
/// Files that hold stored data, or the words themselves.
const NOT_SEARCHED: [&str; 4] = ["tests/words/", "tests/it/words.rs", "tests/fuzz/", "tests/it/upgrade/"];
/// The beginnings of doc comments that ask instead of saying.
const RIDDLES: [&str; 9] = ["What ", "Whether ", "Who ", "Whose ", "Whom ", "Which ", "Why ", "How ", "Where "];

// ---------------------------------------------------------------- The data file

/// The data file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    retired: Vec<Retired>,
    #[serde(default)]
    exception: Vec<Exception>,
    #[serde(default)]
    pending: Vec<Pending>,
}

/// Retired words with the same replacement.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Retired {
    word: Vec<String>,
    phrase: Vec<String>,
    identifier: Vec<String>,
    code: Vec<String>,
    r#type: Vec<String>,
    file: Vec<String>,
    unless: Vec<String>,
    instead: String,
}

/// A retired word that stays in a file or folder.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    word: String,
    path: String,
    reason: String,
}

/// A file or folder in which rules do not hold yet.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    path: String,
    rules: Vec<Rule>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
enum Rule {
    Words,
    FileLength,
    FunctionLength,
    DocComments,
}

/// A breach of a rule.
struct Violation {
    path: String,
    line: usize,
    text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

impl Rules {
    fn read() -> Self {
        let text = std::fs::read_to_string(root().join("tests/words/retired.toml")).expect("the data file");
        toml::from_str(&text).unwrap_or_else(|problem| panic!("retired.toml: {problem}"))
    }

    /// The tracked files in which a rule must hold, with their texts.
    fn files(&self, rule: Rule, endings: &[&str]) -> Vec<(String, String)> {
        let is_pending = |path: &str| {
            self.pending.iter().any(|pending| path.starts_with(&pending.path) && pending.rules.contains(&rule))
        };
        let files = tracked().into_iter().filter(|path| endings.iter().any(|ending| path.ends_with(ending)));
        let files = files.filter(|path| !is_pending(path) && !NOT_SEARCHED.iter().any(|it| path.starts_with(it)));
        files.filter_map(|path| std::fs::read_to_string(root().join(&path)).ok().map(|text| (path, text))).collect()
    }

    fn is_exception(&self, word: &str, path: &str) -> bool {
        self.exception.iter().any(|exception| exception.word == word && path.starts_with(&exception.path))
    }

    /// Finds the retired words in the text of a file.
    fn retired_words(&self, path: &str, text: &str) -> Vec<Violation> {
        let is_rust = path.ends_with(".rs");
        let (all, code) = (Words::of(text), if is_rust { Words::of(&code_of(text)) } else { Words::default() });
        let mut violations = Vec::new();
        for retired in &self.retired {
            let kept: Vec<Vec<&str>> = retired.unless.iter().map(|text| parts(text)).collect();
            let kinds = [
                (&retired.word, &all, Gap::Any),
                (&retired.phrase, &all, Gap::Space),
                (&retired.identifier, &all, Gap::Joined),
                (&retired.code, &code, Gap::Joined),
                (&retired.r#type, &code, Gap::WholeIdentifier),
            ];
            for (words, searched, gap) in kinds {
                for word in words.iter().filter(|word| !self.is_exception(word, path)) {
                    violations.extend(searched.lines_with(word, gap, &kept).map(|line| Violation {
                        path: path.to_owned(),
                        line,
                        text: format!("{word:?} is retired; write: {}", retired.instead),
                    }));
                }
            }
        }
        violations
    }

    /// Finds a retired file name.
    fn retired_name(&self, path: &str) -> Option<Violation> {
        let name = path.rsplit('/').next()?.split('.').next()?;
        let retired = self.retired.iter().find(|retired| retired.file.iter().any(|file| file == name))?;
        let text = format!("the file name {name:?} is retired; use: {}", retired.instead);
        (!self.is_exception(name, path)).then(|| Violation { path: path.to_owned(), line: 1, text })
    }
}

/// The paths of all files that git tracks or would track.
fn tracked() -> Vec<String> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let output = git.output().expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let paths: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    assert!(paths.len() > 200, "only {} files are tracked", paths.len());
    paths
}

// ---------------------------------------------------------------- Words

/// The text between two parts of a retired word.
#[derive(Clone, Copy)]
enum Gap {
    /// A single part: no gap.
    Any,
    /// White space, also across the lines of a comment.
    Space,
    /// Nothing or an underscore: parts of one identifier.
    Joined,
    /// As `Joined`, and the identifier has no other part.
    WholeIdentifier,
}

/// A text, split into the parts of its words: `RungState` and `rung_state` have two parts each.
#[derive(Default)]
struct Words {
    text: String,
    /// Start, end and line of each part.
    parts: Vec<(usize, usize, usize)>,
    /// The places of a part in the list above, by its text in lower case.
    places: BTreeMap<String, Vec<usize>>,
}

impl Words {
    fn of(text: &str) -> Self {
        let text = without_stored_names(text);
        let mut words = Self::default();
        let (mut start, mut line, mut before) = (None, 1, ' ');
        for (place, letter) in text.char_indices().chain([(text.len(), ' ')]) {
            let is_part = letter.is_alphanumeric();
            let is_hump = letter.is_uppercase() && before.is_lowercase();
            if let Some(from) = start.filter(|_| !is_part || is_hump) {
                words.places.entry(text[from..place].to_lowercase()).or_default().push(words.parts.len());
                words.parts.push((from, place, line));
                start = None;
            }
            start = start.or(is_part.then_some(place));
            line += usize::from(letter == '\n');
            before = letter;
        }
        words.text = text;
        words
    }

    /// The lines that contain a word, but for the places where it is part of one of the kept phrases.
    fn lines_with(&self, word: &str, gap: Gap, kept: &[Vec<&str>]) -> impl Iterator<Item = usize> {
        let parts: Vec<String> = parts(word).into_iter().map(str::to_lowercase).collect();
        let places = self.places.get(&parts[0]).cloned().unwrap_or_default().into_iter();
        let found = places.filter(move |place| self.matches(*place, &parts, gap) && !self.is_kept(*place, kept));
        found.map(|place| self.parts[place].2).collect::<Vec<_>>().into_iter()
    }

    fn part(&self, place: usize) -> String {
        self.parts.get(place).map_or_else(String::new, |(start, end, _)| self.text[*start..*end].to_lowercase())
    }

    fn gap_after(&self, place: usize) -> &str {
        match (self.parts.get(place), self.parts.get(place + 1)) {
            (Some((_, end, _)), Some((start, ..))) => &self.text[*end..*start],
            _ => "\n",
        }
    }

    fn matches(&self, place: usize, parts: &[String], gap: Gap) -> bool {
        let joined = |gap: &str| gap.is_empty() || gap == "_";
        let same = parts.iter().enumerate().all(|(nth, part)| self.part(place + nth) == *part);
        let last = place + parts.len() - 1;
        same && (place..last).all(|place| match gap {
            Gap::Any => true,
            Gap::Space => self.gap_after(place).chars().all(|letter| letter.is_whitespace() || "/!#*".contains(letter)),
            Gap::Joined | Gap::WholeIdentifier => joined(self.gap_after(place)),
        }) && match gap {
            Gap::WholeIdentifier => {
                let starts = place == 0 || !joined(self.gap_after(place - 1));
                let is_type = self.text[self.parts[place].0..].starts_with(char::is_uppercase);
                starts && is_type && !joined(self.gap_after(last))
            }
            _ => true,
        }
    }

    fn is_kept(&self, place: usize, kept: &[Vec<&str>]) -> bool {
        kept.iter().any(|phrase| {
            let starts = (0..phrase.len()).filter_map(|nth| place.checked_sub(nth));
            starts.into_iter().any(|start| phrase.iter().enumerate().all(|(nth, part)| self.part(start + nth) == *part))
        })
    }
}

/// The parts of a retired word as the data file writes it.
fn parts(word: &str) -> Vec<&str> {
    word.split([' ', '_', '\'']).filter(|part| !part.is_empty()).collect()
}

/// Blanks out the names in `#[serde(rename = "…")]` and `alias`: stored names never change.
fn without_stored_names(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        let stored = ["rename = \"", "alias = \""].iter().find_map(|it| Some(line.find(it)? + it.len()));
        let end = stored.and_then(|start| Some(start + line[start..].find('"')?));
        match (stored, end) {
            (Some(start), Some(end)) => format!("{}{}{}", &line[..start], " ".repeat(end - start), &line[end..]),
            _ => line.to_owned(),
        }
    });
    lines.collect()
}

/// Blanks out the comments and the strings of a Rust text, line by line.
fn code_of(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        let line = line.replace("'\"'", "   ").replace("\\\"", "  ");
        let pieces = line.split('"').enumerate().map(|(place, piece)| if place % 2 == 0 { piece } else { "" });
        let code = pieces.collect::<Vec<_>>().join("\"");
        let code = code.split("//").next().unwrap_or_default().trim_end().to_owned();
        code + "\n"
    });
    lines.collect()
}

// ---------------------------------------------------------------- Sizes and doc comments

/// Finds a file that is too long and does not say why.
fn too_long(path: &str, text: &str) -> Option<Violation> {
    let lines = text.lines().count();
    let comment: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
    let has_reason = comment.contains("600 lines");
    let text = format!("{lines} lines, and the first comment does not say why the file has more than 600 lines");
    (lines > MOST_LINES && !has_reason).then(|| Violation { path: path.to_owned(), line: 1, text })
}

/// Finds the functions that are too long.
#[derive(Default)]
struct LongFunctions {
    found: Vec<(usize, String, usize)>,
    /// The lines of tables in the function that is read.
    table_lines: usize,
}

/// The number of line breaks in a span.
fn height(span: proc_macro2::Span) -> usize {
    let (LineColumn { line: first, .. }, LineColumn { line: last, .. }) = (span.start(), span.end());
    last - first
}

impl LongFunctions {
    fn function(&mut self, name: &syn::Ident, block: &syn::Block, walk: impl FnOnce(&mut Self)) {
        let outer = std::mem::take(&mut self.table_lines);
        walk(self);
        let lines = height(block.span()) + 1 - self.table_lines.min(height(block.span()));
        if lines > MOST_FUNCTION_LINES {
            self.found.push((name.span().start().line, name.to_string(), lines));
        }
        self.table_lines = outer;
    }
}

impl<'ast> Visit<'ast> for LongFunctions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig.ident, &item.block, |this| visit::visit_item_fn(this, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig.ident, &item.block, |this| visit::visit_impl_item_fn(this, item));
    }

    /// A table: a list of values.
    fn visit_expr_array(&mut self, table: &'ast syn::ExprArray) {
        self.table_lines += height(table.span());
    }

    /// A table in a macro, such as `vec!`, `json!` or a `concat!` of a text.
    fn visit_macro(&mut self, table: &'ast syn::Macro) {
        let name = table.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if ["vec", "json", "concat"].contains(&name.as_str()) {
            self.table_lines += height(table.tokens.span());
        }
    }

    /// A text of several lines.
    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        self.table_lines += height(text.span());
    }
}

fn long_functions(path: &str, text: &str) -> Vec<Violation> {
    let file = syn::parse_file(text).unwrap_or_else(|problem| panic!("{path}: {problem}"));
    let mut functions = LongFunctions::default();
    functions.visit_file(&file);
    let violation = |(line, name, lines)| Violation {
        path: path.to_owned(),
        line,
        text: format!("the function {name} has {lines} lines without its tables, {MOST_FUNCTION_LINES} at most"),
    };
    functions.found.into_iter().map(violation).collect()
}

/// Finds the doc comments that ask instead of saying.
fn riddles(path: &str, text: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut is_first = true;
    for (place, line) in text.lines().enumerate() {
        let doc = line.trim_start().strip_prefix("///").filter(|rest| !rest.starts_with('/')).map(str::trim);
        let is_word = |doc: &str| RIDDLES.iter().any(|word| doc.strip_suffix('.') == Some(word.trim_end()));
        let asks = |doc: &str| is_word(doc) || RIDDLES.iter().any(|word| doc.starts_with(word));
        if let Some(doc) = doc.filter(|doc| is_first && asks(doc)) {
            let text = format!("{doc:?} does not say what the item is");
            violations.push(Violation { path: path.to_owned(), line: place + 1, text });
        }
        is_first = doc.is_none();
    }
    violations
}

// ---------------------------------------------------------------- Tests

#[track_caller]
fn check(violations: Vec<Violation>) {
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} violations:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn retired_words_stay_retired() {
    let rules = Rules::read();
    let files = rules.files(Rule::Words, &ENDINGS);
    let names = files.iter().filter_map(|(path, _)| rules.retired_name(path));
    check(names.chain(files.iter().flat_map(|(path, text)| rules.retired_words(path, text))).collect());
}

#[test]
fn long_files_give_a_reason() {
    let files = Rules::read().files(Rule::FileLength, &[".rs"]);
    check(files.iter().filter_map(|(path, text)| too_long(path, text)).collect());
}

#[test]
fn functions_are_short() {
    let files = Rules::read().files(Rule::FunctionLength, &[".rs"]);
    check(files.iter().flat_map(|(path, text)| long_functions(path, text)).collect());
}

#[test]
fn doc_comments_say_what_an_item_is() {
    let files = Rules::read().files(Rule::DocComments, &[".rs"]);
    check(files.iter().flat_map(|(path, text)| riddles(path, text)).collect());
}

#[test]
fn exceptions_have_a_reason_and_a_retired_word() {
    let rules = Rules::read();
    let words = |retired: &Retired| {
        [&retired.word, &retired.phrase, &retired.identifier, &retired.code, &retired.r#type, &retired.file]
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
    };
    let known: Vec<String> = rules.retired.iter().flat_map(words).collect();
    assert!(known.len() > 60, "{} words are retired", known.len());
    let paths = tracked();
    for exception in &rules.exception {
        assert!(known.contains(&exception.word), "{} is not retired", exception.word);
        assert!(exception.reason.len() > 10, "the exception of {} in {}", exception.word, exception.path);
        assert!(paths.iter().any(|path| path.starts_with(&exception.path)), "{} does not exist", exception.path);
    }
}

/// Every word of the data file is found in a planted text, in every form of its kind.
#[test]
fn a_planted_word_is_found_with_its_line_and_its_replacement() {
    let rules = Rules { exception: Vec::new(), ..Rules::read() };
    for retired in &rules.retired {
        let camel = |word: &str| {
            let parts = parts(word).into_iter();
            parts.map(|part| part[..1].to_uppercase() + &part[1..]).collect::<String>()
        };
        let mut planted = Vec::new();
        for word in &retired.word {
            planted.extend([
                format!("// The {word}."),
                format!("let first_{word} = 1;"),
                format!("fn {}State", camel(word)),
            ]);
        }
        planted.extend(retired.phrase.iter().map(|phrase| format!("//! This, {}", phrase.replace(' ', "\n//! "))));
        for word in &retired.identifier {
            planted.extend([format!("let {word} = 1;"), format!("let x = Is{};", camel(word))]);
        }
        planted.extend(retired.code.iter().map(|word| format!("let all_{word} = \"\";")));
        planted.extend(retired.r#type.iter().map(|word| format!("struct {word} {{")));
        for text in planted {
            let found = rules.retired_words("planted.rs", &format!("//! A file.\n{text}\n"));
            let here = found.iter().map(ToString::to_string).filter(|it| it.starts_with("planted.rs:2: "));
            let with_replacement = here.filter(|it| it.ends_with(&retired.instead)).count();
            assert!(with_replacement > 0, "not found in {text:?}");
        }
        for name in &retired.file {
            assert!(rules.retired_name(&format!("planted/{name}.rs")).is_some(), "{name}");
        }
    }
    for fine in
        ["a message in flight", "is_in_flight", "#[serde(rename = \"rung\")]", "headline", "let x = \"told\"; // told"]
    {
        let found: Vec<String> = rules.retired_words("planted.rs", fine).iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn planted_lengths_and_riddles_are_found() {
    let long = "fn long() {\n".to_owned() + &"    run();\n".repeat(80) + "}\n";
    assert_eq!(long_functions("planted.rs", &long).len(), 1);
    let table = "fn table() {\n    let all = [\n".to_owned() + &"        1,\n".repeat(80) + "    ];\n}\n";
    assert_eq!(long_functions("planted.rs", &table).len(), 0);
    let lines = "//! A file.\n".to_owned() + &"\n".repeat(600);
    assert!(too_long("planted.rs", &lines).is_some());
    assert!(
        too_long("planted.rs", &lines.replace("A file.", "A file. It has more than 600 lines: a table.")).is_none()
    );
    for doc in ["/// Which.", "    /// What it holds.", "/// Whether it is there.\n/// Or not."] {
        assert_eq!(riddles("planted.rs", doc).len(), 1, "{doc}");
    }
    for doc in ["/// The item.\n/// What else.", "// What is it?", "/// Whatever is left."] {
        assert_eq!(riddles("planted.rs", doc).len(), 0, "{doc}");
    }
}
