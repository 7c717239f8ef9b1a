//! The command `pollux`: a process with a command line, a data directory and signals.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tests::kill::Outside;
use tests::program::{Pollux, Program, binary};

/// Something that has not happened by now does not happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A served system, killed when dropped.
struct Served {
    program: Program,
    data: PathBuf,
    credentials: Value,
    greeting: String,
    client: Client,
}

fn pollux() -> Command {
    let mut command = Command::new(binary("pollux"));
    command.env_remove("POLLUX_TABLE").env("POLLUX_LOG", "warn").stdin(Stdio::null());
    command
}

impl Served {
    /// Starts it and waits until it has greeted.
    fn start(data: &Path) -> Self {
        let mut command = pollux();
        command.args(["serve", "--addr", "127.0.0.1:0", "--minute", "200ms", "--data"]).arg(data);
        let mut program = Program::start(command.stdout(Stdio::piped()));
        let stdout = BufReader::new(program.child().stdout.take().expect("piped above"));
        // The third line to paste is the greeting's last.
        let mut greeting = String::new();
        for line in stdout.lines() {
            let line = line.expect("text");
            greeting += &line;
            greeting.push('\n');
            if line.starts_with("curl") && line.contains("/inbox/") && !line.contains("POST") {
                break;
            }
        }
        let file = data.join("credentials.json");
        let credentials =
            std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}: {greeting}", file.display()));
        Self {
            program,
            data: data.to_owned(),
            credentials: serde_json::from_slice(&credentials).expect("JSON"),
            greeting,
            client: Client::new(),
        }
    }

    fn text(&self, name: &str) -> &str {
        self.credentials[name].as_str().unwrap_or_else(|| panic!("credentials.json has no {name}"))
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request = self.client.request(method, format!("{}{path}", self.text("url")));
        let authorization =
            format!("User {}, Organization {}", self.text("userSecret"), self.text("organizationSecret"));
        let request = request.header("Authorization", authorization);
        let request = match body {
            Some(body) => request.header("Content-Type", "application/json").body(body.to_string()),
            None => request,
        };
        let response = request.send().await.expect("an answer");
        let status = response.status();
        let text = response.text().await.expect("text");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Runs one of the lines to paste in a shell and gives its answer.
    fn paste(&self, number: usize) -> Value {
        let line = self.greeting.lines().filter(|line| line.starts_with("curl")).nth(number).expect("three lines");
        let output = Command::new("sh").args(["-c", line]).output().expect("a shell");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stdout)))
    }

    /// Asks the inbox until it holds so many callbacks.
    async fn callbacks(&self, wanted: usize) -> Vec<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            let (_, inbox) = self.ask(Method::GET, "/inbox/hello", None).await;
            let callbacks = inbox["callbacks"].as_array().cloned().unwrap_or_default();
            if callbacks.len() >= wanted {
                return callbacks;
            }
            assert!(Instant::now() < until, "{} callbacks came, {wanted} were awaited: {inbox}", callbacks.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn kill(mut self) -> PathBuf {
        self.program.child().kill().expect("it runs");
        self.program.child().wait().expect("it ends");
        self.data.clone()
    }

    /// Sends SIGTERM and gives how it ended.
    async fn terminate(mut self) -> ExitStatus {
        let id = self.program.child().id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill runs").success());
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.program.child().try_wait().expect("it is ours") {
                return status;
            }
            assert!(Instant::now() < until, "it does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn events(callbacks: &[Value]) -> Vec<(String, String)> {
    let events = callbacks.iter().flat_map(|callback| callback["body"]["message"]["events"].as_array().cloned());
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or("?").to_owned();
    events.flatten().map(|event| (text(&event, "eventType"), text(&event, "objectId"))).collect()
}

#[tokio::test]
async fn the_pasted_lines_work_and_everything_outlives_a_kill() {
    let folder = tempfile::tempdir().expect("a directory");
    let served = Served::start(&folder.path().join("data"));
    assert_eq!(served.ask(Method::GET, "/healthz", None).await.0, StatusCode::OK);
    let instance = served.paste(0)["id"].to_string();
    let first = served.paste(1)["id"].as_str().expect("a timecard").to_owned();
    let callbacks = served.callbacks(1).await;
    assert_eq!(events(&callbacks), [("CREATED".to_owned(), first.clone())]);
    assert_eq!(callbacks[0]["verified"], json!({"elements": true, "standard": true}));
    assert_eq!(served.paste(2)["counters"]["received"], 1);

    let secrets = (served.text("userSecret").to_owned(), served.text("organizationSecret").to_owned());
    let served = Served::start(&served.kill());
    assert_eq!(secrets, (served.text("userSecret").to_owned(), served.text("organizationSecret").to_owned()));
    let (status, kept) = served.ask(Method::GET, &format!("/elements/api-v2/instances/{instance}"), None).await;
    assert_eq!((status, &kept["name"]), (StatusCode::OK, &json!("Hello Square")));
    // The listener has another port now; a service that people use has a fixed one.
    let callback = format!("{}/inbox/hello", served.text("url"));
    let change = json!({"configuration": {"event.notification.callback.url": callback}});
    let (status, changed) =
        served.ask(Method::PATCH, &format!("/elements/api-v2/instances/{instance}"), Some(change)).await;
    assert_eq!(status, StatusCode::OK, "{changed}");
    let second = served.paste(1)["id"].as_str().expect("a timecard").to_owned();
    let emitted = events(&served.callbacks(2).await);
    assert_eq!(emitted, [("CREATED".to_owned(), first), ("CREATED".to_owned(), second)]);
    assert!(served.terminate().await.success());
}

/// The callback cannot be reached, so the delivery waits for its next attempt, and with it goes down the queue.
#[tokio::test]
async fn a_delivery_that_waited_in_the_queue_is_found_again_at_the_start() {
    let folder = tempfile::tempdir().expect("a directory");
    let served = Served::start(&folder.path().join("data"));
    let behaviour = json!({"failNext": 1, "failStatus": 500});
    assert_eq!(served.ask(Method::PUT, "/inbox/hello", Some(behaviour)).await.0, StatusCode::OK);
    let instance = served.paste(0)["id"].to_string();
    let timecard = served.paste(1)["id"].as_str().expect("a timecard").to_owned();
    let refused = served.callbacks(1).await;
    assert_eq!(refused[0]["status"], 500);
    let address = served.text("url").trim_start_matches("http://").to_owned();
    let data = served.kill();

    let mut command = pollux();
    command.args(["--minute", "200ms", "--addr", &address, "--data"]).arg(&data).stdout(Stdio::null());
    let mut again = Program::start(&mut command);
    let client = Client::new();
    let until = Instant::now() + PATIENCE;
    let callbacks = loop {
        let answer = client.get(format!("http://{address}/inbox/hello")).send().await;
        let text = match answer {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        let inbox: Value = serde_json::from_str(&text).unwrap_or_default();
        let callbacks = inbox["callbacks"].as_array().cloned().unwrap_or_default();
        if callbacks.len() > 1 {
            break callbacks;
        }
        assert!(Instant::now() < until, "instance {instance}: the delivery did not come again: {inbox}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(events(&callbacks[1..]), [("CREATED".to_owned(), timecard)]);
    assert_eq!(callbacks[0]["deliveryId"], callbacks[1]["deliveryId"]);
    again.child().kill().expect("it runs");
}

#[tokio::test]
async fn one_process_serves_a_directory_and_admin_works_beside_it() {
    let folder = tempfile::tempdir().expect("a directory");
    let served = Served::start(&folder.path().join("data"));
    let run = |arguments: &[&str]| {
        let mut command = pollux();
        let output = command.args(arguments).arg("--data").arg(&served.data).output().expect("it starts");
        (
            output.status,
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (status, _, said) = run(&["serve", "--addr", "127.0.0.1:0"]);
    assert!(!status.success() && said.contains("another pollux is using"), "{said}");

    let (status, made, said) = run(&["admin", "organization", "create", "--name", "Acme", "--json"]);
    assert!(status.success(), "{said}");
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let path = format!("{}/elements/api-v2/instances", served.text("url"));
    let ask = async |user: &str, organization: &str| {
        let authorization = format!("User {user}, Organization {organization}");
        served.client.get(&path).header("Authorization", authorization).send().await.expect("an answer").status()
    };
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or("?").to_owned();
    let (user, organization) = (text(&made, "userSecret"), text(&made, "organizationSecret"));
    // Known, and without an instance so far.
    assert_eq!(ask(&user, &organization).await, StatusCode::NOT_FOUND);
    let id = made["organization"].to_string();
    let (status, rotated, said) = run(&["admin", "secret", "rotate", "--organization", &id, "--json"]);
    assert!(status.success(), "{said}");
    let rotated: Value = serde_json::from_str(&rotated).expect("JSON");
    assert_eq!(ask(&user, &organization).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&user, &text(&rotated, "organizationSecret")).await, StatusCode::NOT_FOUND);
    let user_id = made["user"].to_string();
    assert!(run(&["admin", "secret", "revoke", "--organization", &id, "--user", &user_id]).0.success());
    assert_eq!(ask(&user, &text(&rotated, "organizationSecret")).await, StatusCode::UNAUTHORIZED);

    let json_of = |arguments: &[&str]| {
        let (status, printed, said) = run(&[&["admin"], arguments, &["--organization", &id, "--json"]].concat());
        assert!(status.success(), "{arguments:?}: {said}");
        serde_json::from_str::<Value>(&printed).expect("JSON")
    };
    let limits = json_of(&["limits", "set", "--instances", "3", "--smallest-interval", "5"]);
    assert_eq!((&limits["instances"], &limits["usedInstances"]), (&3.into(), &0.into()), "{limits}");
    assert_eq!(json_of(&["limits", "show"]), limits);
    let renewed = json_of(&["secret", "rotate", "--user", &user_id, "--grace", "60"]);
    let kept = json_of(&["secret", "rotate", "--user", &user_id, "--grace", "60"]);
    for fresh in [&renewed, &kept] {
        assert_eq!(ask(&text(fresh, "userSecret"), &text(&rotated, "organizationSecret")).await, StatusCode::NOT_FOUND);
    }
    json_of(&["organization", "disable"]);
    let shut_out = ask(&text(&kept, "userSecret"), &text(&rotated, "organizationSecret")).await;
    assert_eq!(shut_out, StatusCode::UNAUTHORIZED);
    json_of(&["organization", "enable"]);
    let trail = json_of(&["audit", "--limit", "3"]);
    let actions: Vec<String> = trail.as_array().expect("entries").iter().map(|entry| text(entry, "action")).collect();
    assert_eq!(actions, ["organization.enabled", "organization.disabled", "user.secret.rotated"], "{trail:#}");
    let (_, listed, _) = run(&["admin", "organization", "list"]);
    assert!(listed.contains("Acme") && listed.contains("local"), "{listed}");
}

/// Runs the story of an element, which fails unless every event arrived exactly once.
fn demo(element: &str) {
    let mut command = pollux();
    command.args(["demo", "--element", element]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().expect("it starts");
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}\n{said}");
    assert!(printed.contains("each exactly once"), "{printed}");
}

#[test]
fn the_demo_of_square_succeeds() {
    demo("square");
}

#[test]
fn the_demo_of_maximizer_succeeds() {
    demo("maximizer");
}

#[test]
fn the_demo_of_googlesuite_succeeds() {
    demo("googlesuite");
}

#[test]
fn the_demo_of_revel_succeeds() {
    demo("revel");
}

#[test]
fn the_demo_of_icontact_succeeds() {
    demo("icontact");
}

/// Many more of the same: `cargo run -p tests --bin kill -- --times 100`.
#[tokio::test]
async fn killed_at_any_moment_it_loses_and_repeats_nothing() {
    let figures = tests::kill::kill(binary("pollux"), 3, 7, |_| ()).await.expect("everything arrives");
    assert_eq!(figures.kills, 3);
    assert!(figures.events > 10, "{figures:?}");
}

/// At length: `cargo run -p tests --bin load`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn driven_past_saturation_it_sheds_load_and_recovers_with_nothing_lost() {
    let figures = tests::load::load(binary("pollux"), 4, |_| ()).await.expect("it recovers");
    let refused = figures.during.of(429).min(figures.during.of(503));
    assert!(refused > 0 && figures.during.done() > 0 && figures.others.done() > 0, "{figures:?}");
    assert!(figures.events > 0 && figures.deliveries > 0, "{figures:?}");
}

/// A disk that is full, as far as one file goes: what cannot be stored is refused or waits, and nothing is damaged.
#[tokio::test]
async fn a_full_disk_is_said_and_damages_nothing() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = folder.path().join("data");
    let mut outside = Outside::serve(3).await.expect("a port");
    let mut victim = Pollux::new(binary("pollux"), &data, outside.arguments()).expect("a port");
    let program = victim.start().await.expect("it serves");
    outside.watch(&victim).await.expect("instances");
    drop(program);
    let sizes = std::fs::read_dir(&data).expect("its files").flatten();
    let largest = sizes.filter_map(|file| Some(file.metadata().ok()?.len())).max().unwrap_or(0);
    victim.largest_file = Some(largest / 1024 + 64);
    let program = victim.start().await.expect("it still starts");
    let until = Instant::now() + PATIENCE;
    loop {
        for _ in 0..50 {
            outside.change().expect("a change");
        }
        let (status, answer) = victim.call(Method::POST, "/instances/poll", None).await.expect("an answer");
        let one = victim.call(Method::GET, "/instances", None).await.expect("an answer").1[0]["id"].to_string();
        let path = format!("/instances/{one}/poll");
        let (status, answer) = match status {
            StatusCode::INTERNAL_SERVER_ERROR => (status, answer),
            _ => victim.call(Method::POST, &path, None).await.expect("an answer"),
        };
        if status.is_server_error() {
            assert!(answer["message"].is_string(), "{answer}");
            break;
        }
        assert!(Instant::now() < until, "nothing is ever full: {status} {answer}");
    }
    drop(program);
    victim.largest_file = None;
    let program = victim.start().await.expect("it serves again");
    outside.settle().await.expect("everything arrives");
    drop(program);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let mut command = pollux();
    // Nobody can make a directory there, whoever runs the tests.
    let output = command.args(["serve", "--addr", "127.0.0.1:0", "--data", "/proc/pollux"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("/proc/pollux") && !said.contains("panicked"), "{said}");
}
