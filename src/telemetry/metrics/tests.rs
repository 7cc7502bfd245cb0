use super::catalogue::{BUCKETS, CATALOGUE, Kind};
use super::{ClientMetrics, Closed, HealthMetrics, KINDS, RouteMetrics, ServerMetrics, install};

/// The value of the series whose line begins with `series`; None when it is not shown.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
        .map(|v| v.parse().unwrap())
}

#[test]
fn names_follow_the_convention() {
    for metric in CATALOGUE {
        assert!(metric.name.starts_with("pgdrover_"), "{}", metric.name);
        let counter = metric.kind == Kind::Counter;
        assert_eq!(metric.name.ends_with("_total"), counter, "{}", metric.name);
        let histogram = metric.kind == Kind::Histogram;
        let seconds = metric.name.ends_with("_seconds");
        assert_eq!(seconds, histogram, "{}", metric.name);
        assert!(metric.help.ends_with('.'), "{}", metric.name);
        let twins = CATALOGUE.iter().filter(|m| m.name == metric.name).count();
        assert_eq!(twins, 1, "{}", metric.name);
    }
    assert!(BUCKETS.is_sorted());
}

#[test]
fn the_catalogue_names_every_reason_for_closing_a_connection() {
    let help = CATALOGUE
        .iter()
        .find(|m| m.name == "pgdrover_server_connections_closed_total")
        .map(|m| m.help)
        .unwrap();
    let listed: Vec<&str> = help
        .split_once(": ")
        .map(|(_, list)| list.trim_end_matches('.').split(", ").collect())
        .unwrap();
    let all: Vec<&str> = Closed::ALL.iter().map(|r| r.as_str()).collect();
    assert_eq!(listed, all);
}

#[test]
fn every_metric_of_the_catalogue_is_shown() {
    let exporter = install();
    let clients = ClientMetrics::new("all");
    clients.pinned("listen");
    clients.unpinned("temp_table");
    clients.error("42P01");
    RouteMetrics::new("all").cache_miss();
    let server = ServerMetrics::new("all", "shard0", "primary", "h:1");
    server.statement(0, 0.001);
    server.wait(0.0);
    server.closed(Closed::Lifetime);
    HealthMetrics::new("all", "shard0", "primary", "h:1").probed(true, 0.002);
    let text = exporter.render();
    for metric in CATALOGUE {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let head = format!(
            "# HELP {0} {1}\n# TYPE {0} {kind}\n{0}",
            metric.name, metric.help
        );
        assert!(text.contains(&head), "{head}\nis missing in\n{text}");
    }
}

#[test]
fn counters_stand_at_zero_before_the_first_event() {
    let exporter = install();
    let _server = ServerMetrics::new("zero", "shard0", "replica", "h:1");
    let _routes = RouteMetrics::new("zero");
    let text = exporter.render();
    let labels = r#"database="zero",shard="shard0",role="replica",server="h:1""#;
    for kind in KINDS {
        let series = format!(r#"pgdrover_statements_total{{{labels},kind="{kind}"}}"#);
        assert_eq!(value(&text, &series), Some(0.0), "{series}");
    }
    let series = r#"pgdrover_route_refused_total{database="zero"}"#;
    assert_eq!(value(&text, series), Some(0.0));
}

#[test]
fn clients_are_counted() {
    let exporter = install();
    let clients = ClientMetrics::new("counted");
    clients.connected();
    clients.clone().connected();
    clients.disconnected();
    clients.waiting(3);
    clients.waiting(-1);
    clients.bytes_received(10);
    clients.bytes_sent(20);
    for state in ["42P01", "42601", "ZZ000", "é"] {
        clients.error(state);
    }
    let text = exporter.render();
    let shown = |name: &str| value(&text, &format!(r#"{name}{{database="counted"}}"#));
    assert_eq!(shown("pgdrover_clients"), Some(1.0));
    assert_eq!(shown("pgdrover_client_connections_total"), Some(2.0));
    assert_eq!(shown("pgdrover_clients_waiting"), Some(2.0));
    assert_eq!(shown("pgdrover_client_received_bytes_total"), Some(10.0));
    assert_eq!(shown("pgdrover_client_sent_bytes_total"), Some(20.0));
    let errors = |class: &str| {
        let series = format!(r#"pgdrover_errors_total{{database="counted",class="{class}"}}"#);
        value(&text, &series)
    };
    assert_eq!(errors("42"), Some(2.0));
    assert_eq!(errors("other"), Some(2.0));
    assert_eq!(errors("08"), None);
}

#[test]
fn statements_are_sorted_into_buckets() {
    let exporter = install();
    let server = ServerMetrics::new("sorted", "s", "primary", "h:1");
    for seconds in [0.00005, 0.002, 0.003, 60.0] {
        server.statement(1, seconds);
    }
    server.statement(99, 0.002);
    exporter.upkeep();
    let text = exporter.render();
    let labels = r#"database="sorted",shard="s",role="primary",server="h:1""#;
    let bucket = |le: &str| {
        let name = "pgdrover_statement_duration_seconds_bucket";
        value(&text, &format!(r#"{name}{{{labels},le="{le}"}}"#))
    };
    assert_eq!(bucket("0.0001"), Some(1.0));
    assert_eq!(bucket("0.0025"), Some(3.0));
    assert_eq!(bucket("0.005"), Some(4.0));
    assert_eq!(bucket("30"), Some(4.0));
    assert_eq!(bucket("+Inf"), Some(5.0));
    let kind = |kind: &str| {
        let series = format!(r#"pgdrover_statements_total{{{labels},kind="{kind}"}}"#);
        value(&text, &series)
    };
    assert_eq!(kind("insert"), Some(4.0));
    assert_eq!(kind("other"), Some(1.0));
}
