//! The conditions of a poll URL, as the vendor's parameters.

use domain::ceql::{Expression, Operator};
use domain::poll_url::PollUrl;
use domain::problem::{FieldProblem, Warning, below};
use domain::zone::Zone;

use super::Findings;
use crate::definition::{ConditionTarget, ConditionTargets, Resource};

/// A comparison of `where=`, or a query parameter, and its target in the vendor's request. Each poll fills its text in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    /// The part of the vendor's request that it sets.
    pub target: ConditionTarget,
    /// The attribute of the comparison, or the name of the parameter.
    pub attribute: String,
    /// The operator of the comparison; `None` for a parameter.
    pub operator: Option<Operator>,
}

/// The conditions of a poll URL.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    pub all: Vec<Condition>,
    /// The zone of the macro that sets the lower bound, if it is not GMT.
    pub zone: Option<Zone>,
}

/// Reads the conditions of a URL. A bound set by a macro is the one that the listing sets anyway.
pub(super) fn read_conditions(resource: &Resource, url: &PollUrl, findings: &mut Findings) -> Conditions {
    let field = below(&findings.path, "url");
    let mut conditions = Conditions::default();
    let comparisons = match url.where_clause().map(Expression::all_of) {
        None => Vec::new(),
        Some(Some(comparisons)) => comparisons,
        Some(None) => {
            let expected = "conditions joined by AND; the vendor has no OR";
            findings.problems.push(FieldProblem::new(field, url.as_str(), expected));
            return conditions;
        }
    };
    for comparison in comparisons {
        match find_target(resource, &comparison.attribute, comparison.operator) {
            Err(expected) => {
                let read = format!("{} {}", comparison.attribute, comparison.operator.as_str());
                findings.problems.push(FieldProblem::new(&field, read, expected));
            }
            Ok(target) => {
                let value = comparison.values.first().map(|value| value.text());
                if let (ConditionTarget::Watermark, Some(only)) =
                    (&target, value.and_then(|value| value.single_macro()))
                {
                    conditions.zone =
                        Some(only.zone().clone()).filter(|zone| *zone != Zone::GMT && zone.as_str() != "UTC");
                }
                let attribute = comparison.attribute.clone();
                conditions.all.push(Condition { target, attribute, operator: Some(comparison.operator) });
            }
        }
    }
    for (name, _) in url.query() {
        match find_target(resource, name, Operator::Equal) {
            Ok(target) => conditions.all.push(Condition { target, attribute: name.clone(), operator: None }),
            Err(_) => {
                let message = format!("the parameter {name} means nothing here and is left out");
                findings.warnings.push(Warning::new(&field, message));
            }
        }
    }
    conditions
}

/// Finds the target of a comparison.
///
/// # Errors
/// A description of the comparisons that the resource has.
fn find_target(resource: &Resource, attribute: &str, operator: Operator) -> Result<ConditionTarget, String> {
    let makes_sense = |target: &ConditionTarget| match target {
        ConditionTarget::Watermark => {
            matches!(operator, Operator::Equal | Operator::Greater | Operator::GreaterOrEqual)
        }
        ConditionTarget::Upper => matches!(operator, Operator::Equal | Operator::Less | Operator::LessOrEqual),
        ConditionTarget::Query(_) | ConditionTarget::Body(_) => operator == Operator::Equal,
    };
    let found = match resource.conditions.get(attribute) {
        Some(ConditionTargets::Any(target)) => Some(target).filter(|target| makes_sense(target)),
        Some(ConditionTargets::ByOperator(targets)) => targets.get(operator.as_str()),
        None => None,
    };
    found.cloned().ok_or_else(|| describe_conditions(resource))
}

/// Lists the comparisons that a resource has.
fn describe_conditions(resource: &Resource) -> String {
    let describe = |(name, targets): (&String, &ConditionTargets)| match targets {
        ConditionTargets::Any(ConditionTarget::Watermark) => format!("{name} with = > >="),
        ConditionTargets::Any(ConditionTarget::Upper) => format!("{name} with = < <="),
        ConditionTargets::Any(_) => format!("{name} with ="),
        ConditionTargets::ByOperator(targets) => {
            format!("{name} with {}", targets.keys().map(String::as_str).collect::<Vec<_>>().join(" "))
        }
    };
    let works: Vec<String> = resource.conditions.iter().map(describe).collect();
    match works.is_empty() {
        true => format!("no condition: {} cannot be filtered", resource.name),
        false => format!("one of {}", works.join(", ")),
    }
}
