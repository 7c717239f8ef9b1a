//! Writes the figures of the last runs into `docs/reliability.md`: `cargo run -p tests --bin reliability`. The runs store
//! their figures in `target/reliability`.

fn main() -> anyhow::Result<()> {
    tests::reliability::write()
}
