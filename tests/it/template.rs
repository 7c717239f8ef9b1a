//! The rules of `template.yaml`, read as CloudFormation reads it: rules whose breach nobody notices until messages are
//! lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use aws::metrics;
use aws::settings::VARIABLES;
use elements::Catalog;
use serde_json::{Map, Value, json};
use serde_yaml_ng::Value as Yaml;
use tests::python;

/// The template in its long form: `!Ref x` is `{"Ref": "x"}`, `!GetAtt a.b` is `{"Fn::GetAtt": ["a", "b"]}`.
fn template() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../template.yaml");
    let text = std::fs::read_to_string(path).expect("the template lies at the root");
    long_form(serde_yaml_ng::from_str(&text).expect("the template is YAML"))
}

fn long_form(yaml: Yaml) -> Value {
    match yaml {
        Yaml::Tagged(tagged) => {
            let name = tagged.tag.to_string();
            let value = long_form(tagged.value);
            match name.trim_start_matches('!') {
                name @ ("Ref" | "Condition") => json!({ name: value }),
                "GetAtt" => {
                    let path = value.as_str().expect("GetAtt is written as one text");
                    let (resource, attribute) = path.split_once('.').expect("GetAtt names an attribute");
                    json!({ "Fn::GetAtt": [resource, attribute] })
                }
                name => json!({ format!("Fn::{name}"): value }),
            }
        }
        Yaml::Mapping(mapping) => {
            let entry =
                |(key, value): (Yaml, Yaml)| (key.as_str().expect("keys are texts").to_owned(), long_form(value));
            Value::Object(mapping.into_iter().map(entry).collect())
        }
        Yaml::Sequence(sequence) => sequence.into_iter().map(long_form).collect(),
        plain => serde_json::to_value(plain).expect("plain YAML values are JSON values"),
    }
}

fn resources(template: &Value) -> &Map<String, Value> {
    template["Resources"].as_object().expect("there are resources")
}

/// Every resource of a type, by logical id; there is at least one.
fn of_type<'a>(template: &'a Value, kind: &str) -> Vec<(&'a str, &'a Value)> {
    let found: Vec<_> = resources(template)
        .iter()
        .filter(|(_, resource)| resource["Type"] == kind)
        .map(|(id, resource)| (id.as_str(), &resource["Properties"]))
        .collect();
    assert!(!found.is_empty(), "no {kind}");
    found
}

fn functions(template: &Value) -> Vec<(&str, &Value)> {
    of_type(template, "AWS::Serverless::Function")
}

/// The statements of a function's own policies.
fn statements(function: &Value) -> Vec<&Value> {
    let policies = function["Policies"].as_array().expect("policies are a list");
    policies.iter().flat_map(|policy| policy["Statement"].as_array().expect("policies are spelled out")).collect()
}

/// One or many as many.
fn list(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |values| values.iter().collect())
}

/// The event sources of every function that read a queue: function, source, queue.
fn queue_sources(template: &Value) -> Vec<(&Value, &Value, &Value)> {
    let mut sources = Vec::new();
    for (_, function) in functions(template) {
        for event in function["Events"].as_object().into_iter().flat_map(Map::values) {
            if event["Type"] == "SQS" {
                let source = &event["Properties"];
                let queue = source["Queue"]["Fn::GetAtt"][0].as_str().expect("the queue is one of ours");
                sources.push((function, source, &template["Resources"][queue]["Properties"]));
            }
        }
    }
    assert_eq!(sources.len(), 2, "polls and deliveries");
    sources
}

#[test]
fn the_three_functions_are_built_from_their_own_binaries() {
    let template = template();
    let mut binaries = BTreeSet::new();
    for (id, _) in functions(&template) {
        let metadata = &template["Resources"][id]["Metadata"];
        assert_eq!(metadata["BuildMethod"], "rust-cargolambda", "{id}");
        let binary = metadata["BuildProperties"]["Binary"].as_str().expect("a binary is named");
        assert_eq!(id.to_lowercase(), format!("{binary}function"));
        // Where `cargo lambda build` finds that binary: at the root it would look for it in the default members.
        assert_eq!(template["Resources"][id]["Properties"]["CodeUri"], format!("functions/{binary}"));
        binaries.insert(binary);
    }
    assert_eq!(binaries, BTreeSet::from(["dispatcher", "instances", "poller"]));
    let globals = &template["Globals"]["Function"];
    assert_eq!(globals["Runtime"], "provided.al2023");
    assert_eq!(globals["Architectures"], json!([{"Ref": "Architecture"}]));
    assert_eq!(template["Parameters"]["Architecture"]["Default"], "arm64");
}

#[test]
fn the_environment_is_what_the_settings_declare() {
    /// Settings for one machine, or for users with files of their own.
    const LEFT_OUT: &[&str] = &["POLLUX_KEY_FILE", "POLLUX_VENDOR_*", "POLLUX_ELEMENTS_DIR"];
    let template = template();
    let variables = template["Globals"]["Function"]["Environment"]["Variables"].as_object().expect("variables");
    let (vendors, set): (BTreeSet<&str>, BTreeSet<&str>) =
        variables.keys().map(String::as_str).partition(|name| name.starts_with("POLLUX_VENDOR_"));
    // A trial's sandbox plays every vendor, and only a trial reaches private addresses.
    let catalog = Catalog::embedded();
    let all: BTreeSet<String> = catalog.iter().map(|it| format!("POLLUX_VENDOR_{}", it.key.to_uppercase())).collect();
    assert_eq!(vendors, all.iter().map(String::as_str).collect());
    for name in vendors.iter().chain(&["POLLUX_ALLOW_PRIVATE"]) {
        assert_eq!(variables[*name]["Fn::If"][0], "HasSandbox", "{name}");
    }
    assert_eq!(variables["POLLUX_ALLOW_PRIVATE"]["Fn::If"][2], "false");
    assert_eq!(template["Parameters"]["SandboxUrl"]["Default"], "");
    let declared = VARIABLES.iter().map(|variable| variable.name).filter(|name| !LEFT_OUT.contains(name)).collect();
    assert_eq!(set, declared);
    for variable in VARIABLES.iter().filter(|variable| variable.required) {
        assert!(set.contains(variable.name), "{} is required", variable.name);
    }
    for (id, function) in functions(&template) {
        assert!(function["Environment"].is_null(), "{id} differs from the others");
    }
}

#[test]
fn a_failed_message_is_reported_alone_and_tried_again() {
    let template = template();
    for (function, source, queue) in queue_sources(&template) {
        assert_eq!(source["FunctionResponseTypes"], json!(["ReportBatchItemFailures"]), "{source}");
        let timeout = function["Timeout"].as_u64().expect("a timeout in seconds");
        let visibility = queue["VisibilityTimeout"].as_u64().expect("a visibility in seconds");
        assert!(visibility >= 6 * timeout, "{visibility} s hidden for {timeout} s of work");
        assert!(queue["RedrivePolicy"]["maxReceiveCount"].as_u64() >= Some(3), "{queue}");
        let dead = queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0].as_str().expect("dead letters");
        let dead = &template["Resources"][dead]["Properties"];
        assert_eq!(dead["MessageRetentionPeriod"], 14 * 24 * 60 * 60, "dead letters are kept as long as can be");
        assert!(dead["RedrivePolicy"].is_null(), "dead letters go nowhere");
        let retention = queue["MessageRetentionPeriod"].as_u64().expect("a retention in seconds");
        let receives = queue["RedrivePolicy"]["maxReceiveCount"].as_u64().expect("checked above");
        assert!(retention > receives * visibility, "a message ends before it counts as dead");
    }
}

#[test]
fn the_ceiling_is_on_the_source_and_never_reserved() {
    let template = template();
    for (_, source, _) in queue_sources(&template) {
        let parameter = source["ScalingConfig"]["MaximumConcurrency"]["Ref"].as_str().expect("a parameter");
        let parameter = &template["Parameters"][parameter];
        assert_eq!((&parameter["MinValue"], &parameter["MaxValue"]), (&json!(2), &json!(1000)), "what Lambda takes");
    }
    assert!(!template.to_string().contains("ReservedConcurrentExecutions"));
}

#[test]
fn a_function_may_do_what_it_does_and_only_to_what_is_ours() {
    let template = template();
    for (id, function) in functions(&template) {
        assert!(!statements(function).is_empty(), "{id}");
        for statement in statements(function) {
            for action in list(&statement["Action"]) {
                let action = action.as_str().expect("actions are texts");
                assert!(!action.contains('*'), "{id} may {action}");
            }
            for resource in list(&statement["Resource"]) {
                if resource["Fn::If"][0] == "HasRestoredTable" {
                    let restored = resource["Fn::If"][1]["Fn::Sub"].as_str().expect("an ARN");
                    assert!(restored.ends_with(":table/${RestoredTable}") && !restored.contains('*'), "{restored}");
                    assert_eq!(resource["Fn::If"][2], json!({"Fn::GetAtt": ["Table", "Arn"]}), "{id}");
                    continue;
                }
                let owner = resource["Fn::GetAtt"][0].as_str().unwrap_or_else(|| panic!("{id} reaches {resource}"));
                assert!(resources(&template).contains_key(owner), "{id} reaches {owner}");
            }
        }
    }
    let reads_queues = |function: &Value| {
        statements(function).iter().any(|statement| list(&statement["Action"]).contains(&&json!("sqs:ReceiveMessage")))
    };
    let readers: Vec<_> = functions(&template).into_iter().filter(|(_, function)| reads_queues(function)).collect();
    assert_eq!(readers.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ["PollerFunction"]);
    let opens_seals = |function: &Value| function["Policies"].to_string().contains("kms:Decrypt");
    let dispatcher = &template["Resources"]["DispatcherFunction"]["Properties"];
    assert!(!opens_seals(dispatcher), "the dispatcher has no business with credentials");
}

#[test]
fn the_table_is_paid_by_use_and_hard_to_lose() {
    let template = template();
    let [(id, table)] = of_type(&template, "AWS::DynamoDB::Table")[..] else { panic!("one table") };
    assert_eq!(table["BillingMode"], "PAY_PER_REQUEST");
    assert_eq!(table["KeySchema"][0], json!({"AttributeName": "pk", "KeyType": "HASH"}));
    assert_eq!(table["KeySchema"][1], json!({"AttributeName": "sk", "KeyType": "RANGE"}));
    for attribute in list(&table["AttributeDefinitions"]) {
        assert_eq!(attribute["AttributeType"], "S");
    }
    assert_eq!(table["TimeToLiveSpecification"], json!({"AttributeName": "x", "Enabled": true}));
    assert_eq!(table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"], true);
    assert_eq!(table["SSESpecification"]["SSEEnabled"], true);
    assert_eq!(table["DeletionProtectionEnabled"], json!({"Ref": "DeletionProtection"}));
    assert_eq!(template["Parameters"]["DeletionProtection"]["Default"], "true");
    assert_eq!(template["Resources"][id]["UpdateReplacePolicy"], "Retain");
    let [(_, key)] = of_type(&template, "AWS::KMS::Key")[..] else { panic!("one key") };
    assert_eq!(key["EnableKeyRotation"], true);
    for (id, queue) in of_type(&template, "AWS::SQS::Queue") {
        assert_eq!(queue["SqsManagedSseEnabled"], true, "{id}");
    }
}

#[test]
fn everything_that_is_paid_for_says_what_it_belongs_to() {
    let template = template();
    assert!(template["Globals"]["Function"]["Tags"]["application"].is_object());
    assert!(template["Resources"]["Api"]["Properties"]["Tags"]["application"].is_object());
    for kind in ["AWS::DynamoDB::Table", "AWS::KMS::Key", "AWS::SQS::Queue", "AWS::Logs::LogGroup"] {
        for (id, resource) in of_type(&template, kind) {
            assert_eq!(resource["Tags"], json!([{"Key": "application", "Value": {"Ref": "AWS::StackName"}}]), "{id}");
        }
    }
}

#[test]
fn metrics_in_alarms_and_on_the_dashboard_are_ones_that_the_functions_write() {
    let template = template();
    let written = |name: &str| metrics::ALL.iter().any(|metric| metric.name == name);
    let mut ours = 0;
    for (id, alarm) in of_type(&template, "AWS::CloudWatch::Alarm") {
        if alarm["Namespace"] == metrics::NAMESPACE {
            assert!(written(alarm["MetricName"].as_str().expect("a name")), "{id}");
            assert_eq!(alarm["Dimensions"][0]["Name"], "FunctionName", "{id}");
            ours += 1;
        }
    }
    assert_eq!(ours, 2, "staleness and late attempts");
    let [(_, dashboard)] = of_type(&template, "AWS::CloudWatch::Dashboard")[..] else { panic!("one dashboard") };
    let body = dashboard["DashboardBody"]["Fn::Sub"].as_str().expect("a text");
    let body: Value = serde_json::from_str(body).expect("the dashboard is JSON");
    let widgets = body["widgets"].as_array().expect("widgets");
    assert!(widgets.len() >= 9, "{}", widgets.len());
    for widget in widgets {
        for metric in widget["properties"]["metrics"].as_array().expect("metrics") {
            let [namespace, name, dimension, of] = [0, 1, 2, 3].map(|place| metric[place].as_str().expect("a text"));
            assert!(namespace != metrics::NAMESPACE || written(name), "{metric}");
            assert!(["FunctionName", "QueueName"].contains(&dimension), "{metric}");
            let resource = of.trim_start_matches("${").trim_end_matches('}').split('.').next().expect("a name");
            assert!(resources(&template).contains_key(resource), "{metric}");
        }
    }
}

#[test]
fn the_outputs_say_where_it_is_and_what_to_do_next() {
    let template = template();
    let outputs = template["Outputs"].as_object().expect("outputs");
    for name in ["ApiUrl", "ConsoleUrl", "ApiId", "BootstrapCommand", "DashboardName"] {
        assert!(outputs.contains_key(name), "{name}");
    }
    let command = outputs["BootstrapCommand"]["Value"]["Fn::Sub"][0].as_str().expect("a command");
    assert!(command.ends_with(" pollux admin organization create --name Acme"), "{command}");
    for variable in VARIABLES.iter().filter(|variable| variable.required) {
        assert!(command.contains(&format!("{}=", variable.name)), "{} is missing", variable.name);
    }
}

/// The findings of a policy scanner, each explained in `checkov.toml`, and no explanation for what is none.
#[test]
fn a_policy_scanner_finds_nothing_that_is_not_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let scanner = python::with("checkov==3.3.30").with_file_name("checkov");
    let output = Command::new(scanner)
        .args(["--file", "template.yaml", "--framework", "cloudformation", "--output", "json"])
        .args(["--compact", "--quiet", "--skip-download"])
        .current_dir(&root)
        .output()
        .expect("the scanner starts");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert!(report["summary"]["passed"].as_u64() > Some(10), "it looked at something else: {}", report["summary"]);
    assert_eq!(report["summary"]["parsing_errors"], 0);
    let failed = report["results"]["failed_checks"].as_array().expect("findings");
    let found: BTreeSet<&str> = failed.iter().map(|finding| finding["check_id"].as_str().expect("an id")).collect();
    let path = root.join("tests/it/checkov.toml");
    let explained: BTreeMap<String, String> =
        toml::from_str(&std::fs::read_to_string(path).expect("explanations")).expect("TOML");
    assert!(explained.values().all(|reason| reason.len() > 40), "an explanation explains nothing");
    assert_eq!(found, explained.keys().map(String::as_str).collect(), "left: found; right: explained");
}

#[test]
fn the_dispatcher_runs_every_minute_and_ends_before_the_next() {
    let template = template();
    let dispatcher = &template["Resources"]["DispatcherFunction"]["Properties"];
    let events: Vec<_> = dispatcher["Events"].as_object().expect("events").values().collect();
    let [event] = events[..] else { panic!("one event") };
    // A rule's event carries `time`, from which the dispatcher takes the minute; a scheduler's would not.
    assert_eq!(event["Type"], "Schedule");
    assert_eq!(event["Properties"]["Schedule"], "rate(1 minute)");
    assert!(dispatcher["Timeout"].as_u64() < Some(60));
}

#[test]
fn logs_do_not_live_for_ever() {
    let template = template();
    for (id, function) in functions(&template) {
        let group =
            function["LoggingConfig"]["LogGroup"]["Ref"].as_str().unwrap_or_else(|| panic!("{id} logs nowhere"));
        assert_eq!(template["Resources"][group]["Properties"]["RetentionInDays"], json!({"Ref": "LogRetentionDays"}));
    }
}

/// The metrics and resources that have alarms.
fn watched(template: &Value) -> BTreeSet<(String, String)> {
    let alarms = of_type(template, "AWS::CloudWatch::Alarm");
    alarms
        .into_iter()
        .map(|(id, alarm)| {
            assert!(alarm["AlarmDescription"].as_str().is_some_and(|text| text.len() > 20), "{id} says nothing");
            assert!(alarm["AlarmActions"]["Fn::If"].is_array(), "{id} tells nobody");
            let [dimension] = list(&alarm["Dimensions"])[..] else { panic!("{id} has one dimension") };
            let value = &dimension["Value"];
            let resource = value["Ref"].as_str().or(value["Fn::GetAtt"][0].as_str()).expect("a resource of ours");
            (alarm["MetricName"].as_str().expect("a metric").to_owned(), resource.to_owned())
        })
        .collect()
}

#[test]
fn whatever_needs_a_person_raises_an_alarm() {
    let template = template();
    let watched = watched(&template);
    let watches = |metric: &str, resource: &str| watched.contains(&(metric.to_owned(), resource.to_owned()));
    for (id, _) in functions(&template) {
        assert!(watches("Errors", id) && watches("Throttles", id), "{id} fails in silence");
    }
    for (id, queue) in of_type(&template, "AWS::SQS::Queue") {
        let metric = match queue["RedrivePolicy"].is_null() {
            true => "ApproximateNumberOfMessagesVisible",
            false => "ApproximateAgeOfOldestMessage",
        };
        assert!(watches(metric, id), "{id} fills in silence");
    }
    assert!(watches("Invocations", "DispatcherFunction"), "a schedule that stopped goes unseen");
}

/// Every `Ref` and `GetAtt` in a value, and what stands in the braces of every `Sub`.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("Ref", Value::String(name)) => found.extend([name.clone()]),
                    ("Fn::GetAtt", Value::Array(path)) => found.extend(path[0].as_str().map(str::to_owned)),
                    ("Fn::Sub", Value::String(text)) => {
                        let names = text.split("${").skip(1).filter_map(|rest| rest.split('}').next());
                        found.extend(names.map(|name| name.split('.').next().unwrap_or(name).to_owned()));
                    }
                    ("Fn::If", Value::Array(parts)) => {
                        found.extend(parts[0].as_str().map(str::to_owned));
                        parts[1..].iter().for_each(|part| references(part, found));
                    }
                    _ => references(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_name_is_defined_and_every_parameter_used_and_explained() {
    let template = template();
    let mut used = BTreeSet::new();
    references(&template, &mut used);
    let defined = |name: &String| {
        name.starts_with("AWS::")
            || ["Resources", "Parameters", "Conditions"].iter().any(|part| !template[part][name.as_str()].is_null())
    };
    let unknown: Vec<_> = used.iter().filter(|name| !defined(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for (name, parameter) in template["Parameters"].as_object().expect("parameters") {
        assert!(used.contains(name), "{name} changes nothing");
        assert!(parameter["Description"].as_str().is_some_and(|text| text.len() > 20), "{name} is not explained");
        assert!(!parameter["Default"].is_null(), "{name} must be given, so `sam deploy` cannot just run");
    }
    for (name, output) in template["Outputs"].as_object().expect("outputs") {
        assert!(output["Description"].is_string(), "{name} is not explained");
    }
}

#[test]
fn one_panicking_record_fails_alone() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let manifest: toml::Value = toml::from_str(&std::fs::read_to_string(path).expect("a manifest")).expect("TOML");
    let release = manifest["profile"]["release"].as_table().expect("a release profile");
    assert!(release.get("lto").is_some(), "this looks at the profile that ships");
    let panic = release.get("panic").and_then(toml::Value::as_str).unwrap_or("unwind");
    assert_eq!(panic, "unwind", "an abort would take the batch's other records with it");
}
