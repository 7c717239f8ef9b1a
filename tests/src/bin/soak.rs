//! Simulates weeks and prints, as JSON, the sizes of the table and of memory at the end of each day:
//! `cargo run -p tests --bin soak -- --days 70`.

use tests::soak::soak;

#[allow(clippy::print_stdout)] // Its figures are what it is for.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let days = match arguments.as_slice() {
        [] => 70,
        [name, days] if name == "--days" => days.parse()?,
        _ => anyhow::bail!("--days N is meant"),
    };
    println!("{}", serde_json::to_string(&soak(days).await?)?);
    Ok(())
}
