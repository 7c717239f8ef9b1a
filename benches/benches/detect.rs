//! Detection against indexes of a thousand to a million known records: `cargo bench -p benches --bench detect`.

use std::hint::black_box;

use benches::core::{known, pass, records};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use domain::detect::judge;
use domain::index::{Bucket, Layout, hash_of, key_of};
use xxhash_rust::xxh3::xxh3_64;

/// Records on a page that is judged.
const PAGE: u64 = 1000;

/// An index as a poll has it in hand: buckets by number, and which one a key belongs to.
fn index_of(count: u64) -> (Layout, Vec<Bucket>) {
    let mut layout = Layout::default();
    while layout.is_crowded(count) {
        layout = layout.grow().1;
    }
    let mut sorted = vec![Vec::new(); layout.0 as usize];
    for (key, entry) in known(&records(count, 0)) {
        sorted[layout.bucket_of(hash_of(&key)) as usize].push((key, entry));
    }
    (layout, sorted.into_iter().map(|entries| Bucket::default().with(entries).0).collect())
}

fn detect(criterion: &mut Criterion) {
    let page = records(PAGE, 1);
    let mut group = criterion.benchmark_group("detect");
    group.throughput(Throughput::Elements(PAGE)).sample_size(20);
    group.bench_function("fingerprint", |bencher| {
        bencher.iter(|| page.iter().fold(0, |sum, record| sum ^ xxh3_64(black_box(&record.raw))));
    });
    for count in [1000, 10_000, 100_000, 1_000_000] {
        let (layout, buckets) = index_of(count);
        let pass = pass();
        group.bench_with_input(BenchmarkId::new("lookup", count), &count, |bencher, _| {
            bencher.iter(|| {
                for record in &page {
                    let key = key_of(&record.partition, &record.id);
                    black_box(buckets[layout.bucket_of(hash_of(&key)) as usize].get(&key));
                }
            });
        });
        group.bench_with_input(BenchmarkId::new("judge", count), &count, |bencher, _| {
            bencher.iter(|| {
                for record in &page {
                    let key = key_of(&record.partition, &record.id);
                    let entry = buckets[layout.bucket_of(hash_of(&key)) as usize].get(&key);
                    black_box(judge(record, entry, &pass));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, detect);
criterion_main!(benches);
