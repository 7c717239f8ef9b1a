//! The message of a function that cannot start. Built once for each function's package. This also makes cargo build its
//! binary for the tests that run it.

use std::process::Command;

#[test]
fn without_settings_it_names_all_that_is_missing_and_ends() {
    let binary = env!(concat!("CARGO_BIN_EXE_", env!("CARGO_PKG_NAME")));
    let output = Command::new(binary).env_clear().output().expect("it starts");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    for name in ["POLLUX_TABLE", "POLLUX_POLL_QUEUE_URL", "POLLUX_DELIVERY_QUEUE_URL", "POLLUX_KEY_ID"] {
        assert!(said.contains(name), "{name} is not named in: {said}");
    }
}
