//! Writes what the last runs came to into `docs/reliability.md`: `cargo run -p tests --bin reliability`. The runs leave
//! their figures in `target/reliability`.

fn main() -> anyhow::Result<()> {
    tests::reliability::write()
}
