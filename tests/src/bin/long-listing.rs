//! Measures the cost of accounts of the given sizes: `cargo run --release -p tests --bin long-listing -- 10000 100000
//! 1000000`. Measure one size a run for memory: the process does not return it between two sizes.

#[allow(clippy::print_stdout)] // Its figures are what it is for.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let sizes: Vec<u64> = std::env::args().skip(1).map(|size| size.parse()).collect::<Result<_, _>>()?;
    for records in sizes {
        println!("{}", tests::long::poll_account(records).await);
    }
    Ok(())
}
