//! Finds the resource that a configured entry is about.

use domain::poll_url::PollUrl;
use domain::problem::{FieldProblem, Warning, below, nearest};

use super::Findings;
use crate::catalog::Element;

/// Finds the resource that the URL's path names, or, without a URL, the one that the entry's name names. Returns its
/// index in [`Element::resources`].
///
/// # Errors
/// There is no such resource.
pub(super) fn find_resource(
    element: &Element,
    name: &str,
    url: Option<&PollUrl>,
    findings: &mut Findings,
) -> Result<usize, FieldProblem> {
    let Some(url) = url else {
        return by_name(element, name).ok_or_else(|| no_such_name(element, name, &findings.path));
    };
    let path = url.path();
    let found = by_path(element, |pattern| pattern == path)
        .or_else(|| by_path(element, |pattern| matches(pattern, path)))
        .or_else(|| by_name(element, path))
        .ok_or_else(|| no_such_path(element, url, &findings.path))?;
    if by_name(element, name).is_some_and(|named| named != found) {
        let message =
            format!("the entry is named {name}, but its url lists {}; the url counts", element.resources[found].name);
        findings.warnings.push(Warning::new(below(&findings.path, "url"), message));
    }
    Ok(found)
}

fn by_name(element: &Element, name: &str) -> Option<usize> {
    let resource = element.resource(name)?;
    element.resources.iter().position(|other| std::ptr::eq(other, resource))
}

fn by_path(element: &Element, fits: impl Fn(&str) -> bool) -> Option<usize> {
    element.resources.iter().position(|resource| resource.hub_paths.iter().any(|pattern| fits(pattern)))
}

/// Returns true if a path fits a hub path, in which `{name}` stands for any segment.
fn matches(pattern: &str, path: &str) -> bool {
    pattern.split('/').count() == path.split('/').count()
        && pattern.split('/').zip(path.split('/')).all(|(part, asked)| part == asked || part.starts_with('{'))
}

fn no_such_name(element: &Element, name: &str, path: &str) -> FieldProblem {
    let names: Vec<&str> = element.resources.iter().map(|resource| resource.name.as_str()).collect();
    let near = nearest_hint(name, &names);
    FieldProblem::new(path, "{}", format!("an entry with a url, or the name of one of {}{near}", names.join(", ")))
}

fn no_such_path(element: &Element, url: &PollUrl, path: &str) -> FieldProblem {
    let paths = element.resources.iter().flat_map(|resource| &resource.hub_paths);
    let paths: Vec<&str> = paths.map(String::as_str).collect();
    let near = nearest_hint(url.path(), &paths);
    let expected = format!("a path of {}: {}{near}", element.key, paths.join(", "));
    FieldProblem::new(below(path, "url"), url.as_str(), expected)
}

fn nearest_hint(word: &str, candidates: &[&str]) -> String {
    nearest(word, candidates.iter().copied()).map_or(String::new(), |near| format!("; the nearest is {near}"))
}
