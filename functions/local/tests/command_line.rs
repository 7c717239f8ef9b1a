//! The command line as a script meets it: help, refusals, exit codes.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

fn pollux(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pollux"));
    command.args(arguments).env_remove("POLLUX_TABLE").output().expect("it starts")
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

/// It fails, says this on stderr and nothing on stdout.
#[track_caller]
fn refuses(arguments: &[&str], says: &str) {
    let output = pollux(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    assert!(words(&output.stderr).contains(says), "{arguments:?}: {}", words(&output.stderr));
    assert_eq!(words(&output.stdout), "", "{arguments:?}");
}

#[test]
fn every_command_has_help() {
    let commands: [&[&str]; 16] = [
        &[],
        &["serve"],
        &["demo"],
        &["admin"],
        &["admin", "organization"],
        &["admin", "organization", "create"],
        &["admin", "user", "create"],
        &["admin", "secret", "rotate"],
        &["admin", "secret", "revoke"],
        &["admin", "organization", "disable"],
        &["admin", "user", "enable"],
        &["admin", "limits", "set"],
        &["admin", "audit"],
        &["admin", "restore"],
        &["admin", "keys", "rotate"],
        &["admin", "keys", "reseal"],
    ];
    for command in commands {
        let output = pollux(&[command, &["--help"]].concat());
        assert!(output.status.success(), "{command:?}");
        assert!(words(&output.stdout).contains("Usage: pollux"), "{command:?}");
    }
    let serve = words(&pollux(&["serve", "--help"]).stdout);
    for flag in
        ["--addr", "--data", "--vendor", "--elements", "--minute", "--allow-private", "--deny-private", "--no-sandbox"]
    {
        assert!(serve.contains(flag), "{flag}");
    }
}

#[test]
fn administration_goes_to_the_cloud_when_a_table_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pollux"));
    let output = command.args(["admin", "organization", "list"]).env("POLLUX_TABLE", "pollux").output();
    let said = words(&output.expect("it starts").stderr);
    assert!(said.contains("POLLUX_KEY_ID is not set"), "{said}");
}

#[test]
fn what_cannot_be_done_is_said_on_stderr() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = path(folder.path());
    refuses(&["dance"], "dance");
    refuses(&["--minute", "soon"], "500ms");
    refuses(&["--data", data, "--addr", "127.0.0.1:0", "--vendor", "squary=http://127.0.0.1:1"], "no such element");
    refuses(&["demo", "--element", "squary"], "square");
    refuses(&["admin", "organization", "list", "--data", &format!("{data}/absent")], "no data directory");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("a file");
    refuses(&["--data", path(&file)], "cannot use the data directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    refuses(&["--data", data, "--addr", &address], "in use by another program");
}
