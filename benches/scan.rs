//! What the relay pays for looking at a server's answer: reading headers and settling the ledger,
//! frame by frame. `cargo bench --bench scan`.

#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgdrover::backend::{Ledger, Sent, Verdict};
use pgdrover::wire::{self, Buffer};

/// The answer to one simple query: a description, rows of `width` bytes, the tag, ReadyForQuery.
fn answer(rows: usize, width: usize) -> Buffer {
    let value = "x".repeat(width);
    let mut out = Buffer::default();
    wire::row_description_text(&mut out, &["value"]);
    for _ in 0..rows {
        wire::text_row(&mut out, &[&value]);
    }
    wire::command_complete(&mut out, &format!("SELECT {rows}"));
    wire::ready_for_query(&mut out, b'I');
    out
}

/// As the relay does it: every frame's header is read and settled; returns how many were the
/// client's.
fn settle(ledger: &mut Ledger, bytes: &[u8]) -> usize {
    ledger.sent(Sent::Query, true);
    let (mut at, mut forwarded) = (0, 0);
    while let Ok(Some(header)) = wire::frame_at(&bytes[at..]) {
        forwarded += usize::from(ledger.received(header.tag).0 == Verdict::Forward);
        at += header.total;
    }
    forwarded
}

fn scan(c: &mut Criterion) {
    let mut group = c.benchmark_group("scan");
    for (name, rows, width) in [
        ("one row", 1, 32),
        ("1000 short rows", 1000, 32),
        ("10 long rows", 10, 6400),
    ] {
        let bytes = answer(rows, width);
        let mut ledger = Ledger::default();
        assert_eq!(settle(&mut ledger, bytes.bytes()), rows + 3);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| settle(&mut ledger, black_box(bytes.bytes())));
        });
    }
    group.finish();
}

/// The same bytes copied from the server's queue to the client's, as the relay does for a run of
/// frames.
fn copy(c: &mut Criterion) {
    let bytes = answer(1000, 32);
    let mut out = Buffer::default();
    let mut group = c.benchmark_group("copy");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("1000 short rows", |b| {
        b.iter(|| {
            out.put(black_box(bytes.bytes()));
            out.consume(bytes.len());
        });
    });
    group.finish();
}

criterion_group!(benches, scan, copy);
criterion_main!(benches);
