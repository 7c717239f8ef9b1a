//! Tests of CEQL: what is parsed, refused, mapped and written.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(text: &str, canonical: &str) {
    assert_eq!(parse(text).map(|expression| expression.to_string()).as_deref(), Ok(canonical), "{text}");
    assert_eq!(parse(canonical), parse(text), "the canonical form says the same");
}

#[track_caller]
fn check_refused(text: &str, problem: &str) {
    assert_eq!(parse(text).expect_err("not CEQL").to_string(), problem, "{text}");
}

#[test]
fn documented_forms_are_read() {
    check("LastModifyDate>'2026-08-01T10:00:00Z'", "LastModifyDate > '2026-08-01T10:00:00Z'");
    check("updated_date__gte='2026-08-01T10:00:00.000'", "updated_date__gte = '2026-08-01T10:00:00.000'");
    check("update_time >= '2026-08-01 10:00:00'", "update_time >= '2026-08-01 10:00:00'");
    check("mdate>=2017-02-28T16:11:29-06:00", "mdate >= 2017-02-28T16:11:29-06:00");
    check("`metaData.lastUpdateTime` > 'x'", "metaData.lastUpdateTime > 'x'");
    check("properties.a.b = 1", "properties.a.b = 1");
    check(
        "channel='webhook' and status='queued' and config.url='https://example.com/?a=b&c'",
        "channel = 'webhook' AND status = 'queued' AND config.url = 'https://example.com/?a=b&c'",
    );
    check("a=1 or b=2 and c=3", "a = 1 OR (b = 2 AND c = 3)");
    check("(a=1 or b=2) and (c=3 and d=4)", "(a = 1 OR b = 2) AND c = 3 AND d = 4");
    check("((a=1))", "a = 1");
    check("name like '%O''Neil%'", "name LIKE '%O''Neil%'");
    check("id in (1,'2' , -3.5)", "id IN (1, '2', -3.5)");
    check("id In('x')", "id IN ('x')");
    check("a is null OR b IS not NULL", "a IS NULL OR b IS NOT NULL");
    check("a <> true AND `or``der`!=''", "a != true AND `or``der` != ''");
    check("`and`=1", "`and` = 1");
    check("name='日本' ", "name = '日本'");
}

#[test]
fn problems_say_where_and_what_would_go_on() {
    check_refused("", "at character 1: expected the name of an attribute, found the end");
    check_refused("a", "at character 2: expected one of = != < > <= >= LIKE IN IS, found the end");
    check_refused("a = ", "at character 5: expected a number or a text in single quotes, found the end");
    check_refused("ä = 'x", "at character 7: expected the closing quote, found the end");
    check_refused("a=1 b=2", "at character 5: expected AND, OR or the end, found \"b=2\"");
    check_refused("d>2017-02-28 16:11", "at character 14: expected AND, OR or the end, found \"16:11\"");
    check_refused("(a=1", "at character 5: expected AND, OR or a closing bracket, found the end");
    check_refused("a=1)", "at character 4: expected AND, OR or the end, found \")\"");
    check_refused("a is 1", "at character 6: expected NULL or NOT NULL, found \"1\"");
    check_refused("and=1", "at character 1: expected the name of an attribute, found \"and=1\"");
    check_refused("a in 1", "at character 6: expected an opening bracket and values, as in ('a', 'b'), found \"1\"");
    check_refused("a==1", "at character 3: expected a number or a text in single quotes, found \"=1\"");
    check_refused("a=1 and", "at character 8: expected the name of an attribute, found the end");
    assert!(parse(&"(".repeat(5000)).expect_err("too deep").expected.contains("32"));
    assert!(parse(&"a".repeat(9000)).expect_err("too long").expected.contains("8192"));
    let nested = |depth| format!("{}a=1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(parse(&nested(32)).is_ok());
    assert!(parse(&nested(33)).is_err());
    let long = |length: usize| format!("a={}", "1".repeat(length - 2));
    assert!(parse(&long(8192)).is_ok());
    assert!(parse(&long(8193)).is_err());
    check_refused("``=1", "at character 3: expected the name of an attribute, found \"=1\"");
}

#[test]
fn bare_values_keep_their_kind() {
    let json = |text: &str| parse(text).map(|e| e.comparisons()[0].values[0].to_json()).expect("CEQL");
    assert_eq!(json("a=1"), serde_json::json!(1));
    assert_eq!(json("a=-1.5"), serde_json::json!(-1.5));
    assert_eq!(json("a=True"), serde_json::json!(true));
    assert_eq!(json("a=FALSE"), serde_json::json!(false));
    assert_eq!(json("a=null"), Json::Null);
    assert_eq!(json("a='1'"), serde_json::json!("1"));
    assert_eq!(json("a=2017-02-28"), serde_json::json!("2017-02-28"));
}

#[test]
fn conjunctions_are_lists() {
    let attributes = |text: &str| {
        let expression = parse(text).expect("CEQL");
        let all = expression.all_of().map(|all| all.iter().map(|c| c.attribute.clone()).collect::<Vec<_>>().concat());
        (all, expression.comparisons().len())
    };
    assert_eq!(attributes("a=1 and (b=1 and c=1)"), (Some("abc".into()), 3));
    assert_eq!(attributes("a=1 and (b=1 or c=1)"), (None, 3));
}

#[test]
fn one_condition_that_is_left_is_no_list() {
    let left = |text: &str, keep: &[&str]| {
        let expression = parse(text).expect("CEQL");
        expression.filter_map(&|value: &String| keep.contains(&value.as_str()).then(|| value.clone()))
    };
    assert_eq!(left("a=1 and b=2", &["1"]), parse("a=1").ok());
    assert_eq!(left("a=1 and b=2 and c=3", &["1", "3"]), parse("a=1 and c=3").ok());
    assert_eq!(left("a=1 and b=2", &[]), None);
    assert_eq!(left("a=1 or b=2", &["1"]), None);
}

#[test]
fn a_macro_is_one_piece_only_where_it_is_asked_for() {
    let text = "a>'${date:yyyy-MM-dd'T'HH:mm}' and b=${epoch:s}";
    assert!(parse(text).is_err());
    let expression = parse_with_macros(text).expect("CEQL");
    let values = expression.comparisons().iter().map(|c| c.values[0].clone()).collect::<Vec<_>>();
    assert_eq!(values, [Value::Quoted("${date:yyyy-MM-dd'T'HH:mm}".to_owned()), Value::Bare("${epoch:s}".to_owned())]);
}

fn expressions() -> impl Strategy<Value = Expression> {
    let bare = "[-A-Za-z0-9_.:+%]{1,12}".prop_map(Value::Bare);
    let value = prop_oneof!["\\PC{0,12}".prop_map(Value::Quoted), bare];
    let simple = prop::sample::select(vec![
        Operator::Equal,
        Operator::NotEqual,
        Operator::Less,
        Operator::Greater,
        Operator::LessOrEqual,
        Operator::GreaterOrEqual,
        Operator::Like,
    ]);
    let null = prop::sample::select(vec![Operator::IsNull, Operator::IsNotNull]);
    let right = prop_oneof![
        (simple, value.clone()).prop_map(|(operator, value)| (operator, vec![value])),
        prop::collection::vec(value, 1..4).prop_map(|values| (Operator::In, values)),
        null.prop_map(|operator| (operator, Vec::new())),
    ];
    let attribute = prop_oneof!["[a-z.@]{1,8}", "\\PC{1,8}", "and|OR|In|is|null"];
    let comparison = (attribute, right)
        .prop_map(|(attribute, (operator, values))| Expression::Comparison(Comparison { attribute, operator, values }));
    comparison.prop_recursive(4, 24, 3, |inner| {
        let list = prop::collection::vec(inner, 2..4);
        (any::<bool>(), list).prop_map(|(and, parts)| {
            let flat = parts.into_iter().flat_map(|part| match part {
                Expression::And(inner) if and => inner,
                Expression::Or(inner) if !and => inner,
                other => vec![other],
            });
            if and { Expression::And(flat.collect()) } else { Expression::Or(flat.collect()) }
        })
    })
}

proptest! {
    #[test]
    fn what_was_shown_is_read_again(expression in expressions()) {
        prop_assert_eq!(parse(&expression.to_string()), Ok(expression));
    }

    #[test]
    fn no_text_makes_reading_panic(text in "\\PC{0,40}|[a-c =<>!'`()$\\{}%,1ANDORINLIKE]{0,40}") {
        let _ = parse(&text);
        let _ = parse_with_macros(&text);
    }
}
