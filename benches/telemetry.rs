//! What a sample costs on the hot path.

use criterion::{Criterion, criterion_group, criterion_main};
use pgdrover::telemetry::metrics::{ClientMetrics, RouteMetrics, ServerMetrics, install};

fn samples(c: &mut Criterion) {
    let exporter = install();
    // As the daemon does; without it the recorder would keep every sample of the run.
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(std::time::Duration::from_millis(500));
            exporter.upkeep();
        }
    });
    let clients = ClientMetrics::new("bench");
    let routes = RouteMetrics::new("bench");
    let server = ServerMetrics::new("bench", "shard0", "primary", "h:1");
    let mut group = c.benchmark_group("telemetry");
    group.bench_function("counter", |b| b.iter(|| clients.bytes_received(100)));
    group.bench_function("cache_hit", |b| b.iter(|| routes.cache_hit()));
    group.bench_function("gauge", |b| b.iter(|| server.active(1)));
    group.bench_function("statement", |b| b.iter(|| server.statement(0, 0.0003)));
    group.bench_function("wait", |b| b.iter(|| server.wait(0.0)));
    group.finish();
}

criterion_group!(benches, samples);
criterion_main!(benches);
