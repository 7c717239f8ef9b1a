//! Puts mutants into a source behind switches: `a < b` becomes `(if ::mutant::on(7) { (a) <= (b) } else { (a < b) })`.
//! The text is edited in place and not printed again. So the lines of the copy and of the source agree, and what the
//! compiler refuses is traced to its mutant. At most one mutant is on, so a mutated branch needs no switches inside.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;

use anyhow::{Context, Result};
use proc_macro2::LineColumn;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Expr, Pat};

use super::{Mutant, Place};

/// A part that is removed if it does not compile: a mutant by its number, or the use of a constant, which has no mutant
/// of its own.
pub type Number = usize;

/// A use of a constant is numbered from here on, by its place in the file.
const USES_FROM: Number = 1_000_000;

#[derive(Debug, PartialEq, Eq)]
enum Form {
    /// `(if on(1) { alternative } else { original })`
    Expression,
    /// At the beginning of a function: `if on(1) { return alternative; }`
    Body,
    /// After the pattern of an arm: ` if !on(1)`
    Arm,
    /// Around the guard of an arm: `!on(1) && (original)`
    GuardedArm,
    /// After a constant: a function that returns its value
    Constant { name: String, kind: String },
    /// A use of a constant: the function that replaces it
    Use { function: String },
}

#[derive(Debug)]
struct Construct {
    range: Range<usize>,
    form: Form,
    alternatives: Alternatives,
}

/// A constant with mutants, and the function that returns its value.
#[derive(Debug, Clone)]
pub struct Constant {
    /// Its package.
    pub package: String,
    /// Its file.
    pub file: String,
    /// Its name.
    pub name: String,
}

impl Constant {
    fn function(&self, from: &str) -> String {
        let (_, path) = self.file.split_once("/src/").unwrap_or_default();
        let path = path.trim_end_matches(".rs").trim_end_matches("/mod").trim_end_matches("lib");
        let start = if from == self.package { "crate".to_owned() } else { format!("::{}", self.package) };
        let modules = path.split('/').filter(|part| !part.is_empty());
        let modules = modules.fold(start, |path, part| format!("{path}::{part}"));
        format!("{modules}::{}", switch_of(&self.name))
    }
}

fn switch_of(constant: &str) -> String {
    format!("switched_{}", constant.to_lowercase())
}

/// A source with the places of its mutants.
#[derive(Debug)]
pub struct Source {
    text: String,
    constructs: Vec<Construct>,
    /// Mutants that no switch can express.
    pub impossible: Vec<Number>,
    /// Mutants that the language refuses.
    pub refused: Vec<Number>,
}

/// A source with its switches, and the owners of each part of the text.
#[derive(Debug, Default)]
pub struct Rewritten {
    /// The text.
    pub text: String,
    owners: Vec<(Range<usize>, Vec<Number>)>,
}

impl Rewritten {
    /// The owners of a byte: the mutants of the smallest branch or construct around it.
    pub fn owners_at(&self, byte: usize) -> &[Number] {
        let around = self.owners.iter().filter(|(range, _)| range.contains(&byte));
        around.min_by_key(|(range, _)| range.len()).map_or(&[], |(_, owners)| owners)
    }
}

/// The constants of a file that have mutants.
///
/// # Errors
/// The file is no Rust.
pub fn constants(text: &str, mutants: &[&Mutant]) -> Result<Vec<Constant>> {
    let Some(first) = mutants.first() else { return Ok(Vec::new()) };
    let source = Source::read(text, mutants, &first.package, &[])?;
    let name = |construct: &Construct| match &construct.form {
        Form::Constant { name, .. } => Some(name.clone()),
        _ => None,
    };
    let constant = |name| Constant { package: first.package.clone(), file: first.file.clone(), name };
    Ok(source.constructs.iter().filter_map(name).map(constant).collect())
}

impl Source {
    /// Finds the place of each mutant of a file, and the uses of constants that have mutants.
    ///
    /// # Errors
    /// The file is no Rust.
    pub fn read(text: &str, mutants: &[&Mutant], package: &str, constants: &[Constant]) -> Result<Self> {
        let file = syn::parse_file(text).context("a source that does not parse")?;
        let mut wanted: BTreeMap<(String, Place), Alternatives> = BTreeMap::new();
        for mutant in mutants {
            let there = wanted.entry((mutant.genre.clone(), mutant.place())).or_default();
            there.push((mutant.number, mutant.replacement.clone()));
        }
        let constants = constants.iter().map(|constant| (constant.name.clone(), constant.function(package))).collect();
        let mut finder = Finder {
            text,
            wanted,
            constants,
            found: Vec::new(),
            impossible: Vec::new(),
            refused: Vec::new(),
            constant: None,
        };
        finder.visit_file(&file);
        let Finder { wanted, mut found, mut impossible, refused, .. } = finder;
        impossible.extend(wanted.into_values().flatten().map(|(number, _)| number));
        // Outer before inner, what is put in before what stands there; of equals the one that was found first.
        found.sort_by_key(|construct: &Construct| {
            let range = &construct.range;
            (range.start, !range.is_empty(), std::cmp::Reverse(range.end))
        });
        Ok(Self { text: text.to_owned(), constructs: found, impossible, refused })
    }

    /// Writes the source with switches for all mutants but the removed ones.
    pub fn switched(&self, given_up: &BTreeSet<Number>) -> Rewritten {
        let mut out = Rewritten::default();
        self.write(&mut out, 0..self.text.len(), &self.constructs, given_up);
        out
    }

    fn write(&self, out: &mut Rewritten, range: Range<usize>, inside: &[Construct], given_up: &BTreeSet<Number>) {
        let (mut at, mut rest) = (range.start, inside);
        while let [construct, others @ ..] = rest {
            let within = others.iter().take_while(|other| other.range.start < construct.range.end).count();
            out.text.push_str(&self.text[at..construct.range.start]);
            self.write_one(out, construct, &others[..within], given_up);
            (at, rest) = (construct.range.end, &others[within..]);
        }
        out.text.push_str(&self.text[at..range.end]);
    }

    fn write_one(&self, out: &mut Rewritten, it: &Construct, inside: &[Construct], given_up: &BTreeSet<Number>) {
        let left: Vec<_> = it.alternatives.iter().filter(|(number, _)| !given_up.contains(number)).collect();
        let begin = out.text.len();
        let inner = |out: &mut Rewritten| self.write(out, it.range.clone(), inside, given_up);
        if left.is_empty() {
            return inner(out);
        }
        let branch = |out: &mut Rewritten, number: Number, text: String| {
            let begin = out.text.len();
            out.text.push_str(&text);
            out.owners.push((begin..out.text.len(), vec![number]));
        };
        match &it.form {
            Form::Expression => {
                out.text.push('(');
                for (number, alternative) in &left {
                    branch(out, *number, format!("if ::mutant::on({number}) {{ {alternative} }} else "));
                }
                out.text.push_str("{ (");
                inner(out);
                out.text.push_str(") })");
            }
            Form::Body => {
                for (number, alternative) in &left {
                    branch(out, *number, format!("if ::mutant::on({number}) {{ return {alternative}; }} "));
                }
            }
            Form::Arm => branch(out, left[0].0, format!(" if !::mutant::on({})", left[0].0)),
            Form::GuardedArm => {
                branch(out, left[0].0, format!("!::mutant::on({}) && (", left[0].0));
                inner(out);
                out.text.push(')');
            }
            Form::Constant { name, kind } => {
                let _ = write!(out.text, " #[doc(hidden)] pub fn {}() -> &'static {kind} {{ ", switch_of(name));
                for (number, value) in &left {
                    let text = format!("if ::mutant::on({number}) {{ const V: {kind} = {value}; return &V; }} ");
                    branch(out, *number, text);
                }
                let _ = write!(out.text, "&{name} }}");
            }
            Form::Use { function } => {
                let _ = write!(out.text, "(*{function}())");
            }
        }
        out.owners.push((begin..out.text.len(), left.iter().map(|(number, _)| *number).collect()));
    }
}

/// The texts that mutants insert.
type Alternatives = Vec<(Number, String)>;

struct Finder<'a> {
    text: &'a str,
    wanted: BTreeMap<(String, Place), Alternatives>,
    constants: BTreeMap<String, String>,
    found: Vec<Construct>,
    impossible: Vec<Number>,
    refused: Vec<Number>,
    /// While inside a constant: its value's range and the values that mutants give it.
    constant: Option<(Range<usize>, Alternatives)>,
}

fn place_of(at: LineColumn) -> Place {
    Place { line: at.line, column: at.column + 1 }
}

/// Answers true if a condition binds: `a && let Some(b) = c`.
fn binds(condition: &Expr) -> bool {
    match condition {
        Expr::Let(_) => true,
        Expr::Binary(binary) if matches!(binary.op, BinOp::And(_)) => binds(&binary.left) || binds(&binary.right),
        _ => false,
    }
}

impl Finder<'_> {
    fn take(&mut self, genre: &str, it: &impl Spanned) -> Alternatives {
        self.wanted.remove(&(genre.to_owned(), place_of(it.span().start()))).unwrap_or_default()
    }

    fn of(&self, it: &impl Spanned) -> &str {
        &self.text[it.span().byte_range()]
    }

    fn push(&mut self, range: Range<usize>, form: Form, alternatives: Alternatives) {
        if alternatives.is_empty() {
            return;
        }
        match &mut self.constant {
            // In a constant there are no switches: each mutant is another constant.
            Some((whole, values)) if form == Form::Expression => {
                let (before, after) = (&self.text[whole.start..range.start], &self.text[range.end..whole.end]);
                let value = |(number, text): (Number, String)| (number, format!("{before}({text}){after}"));
                values.extend(alternatives.into_iter().map(value));
            }
            Some(_) => self.impossible.extend(alternatives.into_iter().map(|(number, _)| number)),
            None => self.found.push(Construct { range, form, alternatives }),
        }
    }

    fn body(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let Some(first) = block.stmts.first() else { return };
        let values = self.take("FnValue", first);
        if self.of(&signature.output).contains("impl ") {
            // Two ways out would be of two types.
            return self.impossible.extend(values.into_iter().map(|(number, _)| number));
        }
        let begin = block.brace_token.span.open().byte_range().end;
        self.push(begin..begin, Form::Body, values);
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_fn(&mut self, it: &'ast syn::ItemFn) {
        self.body(&it.sig, &it.block);
        visit::visit_item_fn(self, it);
    }

    fn visit_impl_item_fn(&mut self, it: &'ast syn::ImplItemFn) {
        self.body(&it.sig, &it.block);
        visit::visit_impl_item_fn(self, it);
    }

    fn visit_trait_item_fn(&mut self, it: &'ast syn::TraitItemFn) {
        if let Some(block) = &it.default {
            self.body(&it.sig, block);
        }
        visit::visit_trait_item_fn(self, it);
    }

    fn visit_expr_binary(&mut self, it: &'ast syn::ExprBinary) {
        let operators = self.take("BinaryOperator", &it.op);
        if binds(&it.left) || binds(&it.right) {
            // Either of two things may be, but only what is can be given a name.
            self.refused.extend(operators.into_iter().map(|(number, _)| number));
        } else {
            let assigns = matches!(
                it.op,
                BinOp::AddAssign(_)
                    | BinOp::SubAssign(_)
                    | BinOp::MulAssign(_)
                    | BinOp::DivAssign(_)
                    | BinOp::RemAssign(_)
                    | BinOp::BitXorAssign(_)
                    | BinOp::BitAndAssign(_)
                    | BinOp::BitOrAssign(_)
                    | BinOp::ShlAssign(_)
                    | BinOp::ShrAssign(_)
            );
            let (left, right) = (self.of(&it.left), self.of(&it.right));
            let changed = |(number, operator)| {
                let text = if assigns {
                    format!("{left} {operator} {right}")
                } else {
                    format!("({left}) {operator} ({right})")
                };
                (number, text)
            };
            let alternatives = operators.into_iter().map(changed).collect();
            self.push(it.span().byte_range(), Form::Expression, alternatives);
        }
        visit::visit_expr_binary(self, it);
    }

    fn visit_expr_unary(&mut self, it: &'ast syn::ExprUnary) {
        let removed = self.take("UnaryOperator", &it.op);
        let operand = self.of(&it.expr);
        let alternatives = removed.into_iter().map(|(number, _)| (number, format!("({operand})"))).collect();
        self.push(it.span().byte_range(), Form::Expression, alternatives);
        visit::visit_expr_unary(self, it);
    }

    fn visit_expr_match(&mut self, it: &'ast syn::ExprMatch) {
        if !it.arms.iter().any(|arm| matches!(arm.pat, Pat::Wild(_))) {
            // Without an arm for all the rest, none can go.
            for arm in &it.arms {
                let deleted = self.take("MatchArm", arm);
                self.refused.extend(deleted.into_iter().map(|(number, _)| number));
            }
        }
        visit::visit_expr_match(self, it);
    }

    fn visit_arm(&mut self, it: &'ast syn::Arm) {
        let deleted = self.take("MatchArm", it);
        match &it.pat {
            Pat::Guard(guarded) => {
                let range = guarded.guard.span().byte_range();
                let replaced = self.take("MatchArmGuard", &guarded.guard);
                if binds(&guarded.guard) {
                    self.impossible.extend(deleted.iter().chain(&replaced).map(|(number, _)| *number));
                } else {
                    self.push(range.clone(), Form::GuardedArm, deleted);
                    self.push(range, Form::Expression, replaced);
                }
                self.visit_expr(&guarded.guard);
            }
            pattern => {
                let end = pattern.span().byte_range().end;
                self.push(end..end, Form::Arm, deleted);
            }
        }
        self.visit_expr(&it.body);
    }

    fn visit_expr_struct(&mut self, it: &'ast syn::ExprStruct) {
        let whole = it.span().byte_range();
        let mut without = Vec::new();
        for field in &it.fields {
            for (number, _) in self.take("StructField", field) {
                let others = it.fields.iter().filter(|other| other.member != field.member);
                let others: String = others.map(|other| format!("{}, ", self.of(other))).collect();
                let rest = it.rest.as_ref().map(|rest| self.of(rest)).unwrap_or_default();
                without.push((number, format!("{} {{ {others}..{rest} }}", self.of(&it.path))));
            }
        }
        self.push(whole, Form::Expression, without);
        visit::visit_expr_struct(self, it);
    }

    fn visit_item_const(&mut self, it: &'ast syn::ItemConst) {
        self.constant = Some((it.expr.span().byte_range(), Vec::new()));
        self.visit_expr(&it.expr);
        let (_, values) = self.constant.take().unwrap_or_default();
        let end = it.span().byte_range().end;
        // A constant's references last for ever; a function has to say so. It answers a reference itself, so that what
        // is taken of a list lasts, too.
        let kind = self.of(&it.ty).replace("&'static ", "&").replace('&', "&'static ");
        self.push(end..end, Form::Constant { name: it.ident.to_string(), kind }, values);
    }

    fn visit_expr_path(&mut self, it: &'ast syn::ExprPath) {
        let last = it.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if let Some(function) = self.constants.get(&last) {
            let (range, function) = (it.span().byte_range(), function.clone());
            if self.constant.is_none() {
                let number = USES_FROM + range.start;
                self.push(range, Form::Use { function }, vec![(number, String::new())]);
            }
        }
    }

    // Where nothing is worked out while the program runs.
    fn visit_pat(&mut self, _: &'ast Pat) {}
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_variant(&mut self, _: &'ast syn::Variant) {}
    fn visit_expr_repeat(&mut self, it: &'ast syn::ExprRepeat) {
        self.visit_expr(&it.expr);
    }
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::numbered;
    use serde_json::json;

    const SOURCE: &str = r#"
const LIMIT: u64 = 60 * 60;
fn late(age: u64, steady: bool) -> bool {
    age + 1 > LIMIT && !steady
}
fn named(kind: Kind, name: Option<&str>) -> u8 {
    match kind {
        Kind::New => 1,
        Kind::Old | Kind::Odd if name == Some("ü") || name.is_none() => 2,
        _ => 3,
    }
}
fn next(state: State) -> State {
    if state.count > 2 && let Some(at) = state.at { return at; }
    State { count: 1, ..state }
}
"#;

    /// Mutants at the places of texts in the source: kind, the text before the place, replacement.
    fn mutants(of: &[(&str, &str, &str)]) -> Vec<Mutant> {
        let listed = of.iter().map(|(genre, before, replacement)| {
            let at = SOURCE.find(before).expect("a place in the source") + before.len();
            let line = SOURCE[..at].lines().count();
            let column = SOURCE[..at].lines().last().unwrap_or_default().chars().count() + 1;
            json!({
                "file": "shared/flow/src/a/mod.rs", "package": "flow", "genre": genre, "replacement": replacement,
                "name": format!("shared/flow/src/a/mod.rs:{line}:{column}: {genre}"),
                "span": {"start": {"line": line, "column": column}},
            })
        });
        numbered(serde_json::from_value(listed.collect()).expect("mutants")).expect("names")
    }

    fn read(mutants: &[Mutant]) -> Source {
        let mutants: Vec<&Mutant> = mutants.iter().collect();
        let constants = constants(SOURCE, &mutants).expect("Rust");
        Source::read(SOURCE, &mutants, "flow", &constants).expect("Rust")
    }

    fn check(of: &[(&str, &str, &str)], from: &str, to: &str) {
        let source = read(&mutants(of));
        assert!(source.impossible.is_empty() && source.refused.is_empty(), "{of:?}");
        let text = source.switched(&BTreeSet::new()).text;
        assert_eq!(text, SOURCE.replace(from, to), "{of:?}");
        assert_eq!(text.lines().count(), SOURCE.lines().count());
        syn::parse_file(&text).expect("it is still Rust");
    }

    #[test]
    fn every_kind_of_mutant_gets_its_switch() {
        check(
            &[("BinaryOperator", "age + 1 ", ">="), ("BinaryOperator", "age + 1 ", "==")],
            "age + 1 > LIMIT",
            "(if ::mutant::on(1) { (age + 1) >= (LIMIT) } else if ::mutant::on(2) { (age + 1) == (LIMIT) } else { (age + 1 > LIMIT) })",
        );
        // What stands inside has its switches only where the outer one is off.
        check(
            &[("BinaryOperator", "LIMIT ", "||"), ("UnaryOperator", "&& ", "")],
            "age + 1 > LIMIT && !steady",
            "(if ::mutant::on(1) { (age + 1 > LIMIT) || (!steady) } else { (age + 1 > LIMIT && (if ::mutant::on(2) { (steady) } else { (!steady) })) })",
        );
        check(&[("FnValue", "-> bool {\n    ", "true")], "-> bool {", "-> bool {if ::mutant::on(1) { return true; } ");
        check(&[("MatchArm", "match kind {\n        ", "")], "Kind::New =>", "Kind::New if !::mutant::on(1) =>");
        check(
            &[("MatchArm", "New => 1,\n        ", ""), ("MatchArmGuard", "Kind::Odd if ", "true")],
            "name == Some(\"ü\") || name.is_none()",
            "!::mutant::on(1) && ((if ::mutant::on(2) { true } else { (name == Some(\"ü\") || name.is_none()) }))",
        );
        check(
            &[("BinaryOperator", "Some(\"ü\") ", "&&")],
            "name == Some(\"ü\") || name.is_none()",
            "(if ::mutant::on(1) { (name == Some(\"ü\")) && (name.is_none()) } else { (name == Some(\"ü\") || name.is_none()) })",
        );
        check(
            &[("StructField", "State { ", "")],
            "State { count: 1, ..state }",
            "(if ::mutant::on(1) { State { ..state } } else { (State { count: 1, ..state }) })",
        );
    }

    #[test]
    fn a_constant_is_asked_for_where_it_is_used() {
        let of = mutants(&[("BinaryOperator", "60 ", "+")]);
        let text = read(&of).switched(&BTreeSet::new()).text;
        let switched = "60 * 60; #[doc(hidden)] pub fn switched_limit() -> &'static u64 { \
                    if ::mutant::on(1) { const V: u64 = ((60) + (60)); return &V; } &LIMIT }";
        let used = "> (*crate::a::switched_limit()) &&";
        assert_eq!(text, SOURCE.replace("60 * 60;", switched).replace("> LIMIT &&", used));
    }

    #[test]
    fn what_the_compiler_refuses_is_traced_and_given_up() {
        let of = mutants(&[
            ("BinaryOperator", "LIMIT ", "||"),
            ("UnaryOperator", "&& ", ""),
            ("BinaryOperator", "state.count > 2 ", "||"),
        ]);
        let source = read(&of);
        assert_eq!(source.refused, [3], "what binds a name has no other side");
        let rewritten = source.switched(&BTreeSet::new());
        let at = |text: &str| rewritten.owners_at(rewritten.text.find(text).expect("it stands there"));
        assert_eq!(at(") || (!steady)"), [1]);
        assert_eq!(at("(steady)"), [2]);
        assert!(at("fn named").is_empty());
        let left = source.switched(&BTreeSet::from([1, 2]));
        assert_eq!(left.text, SOURCE);
    }
}
