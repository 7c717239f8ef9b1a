//! Writes the table of the upgrade test with this release:
//! `cargo run -p tests --bin upgrade-fixture > tests/it/upgrade/0.1.0.jsonl`.

#[allow(clippy::print_stdout)] // The table is what it is for.
#[tokio::main]
async fn main() {
    print!("{}", tests::upgrade::write().await);
}
