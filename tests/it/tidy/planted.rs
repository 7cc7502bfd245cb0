//! Each rule must object to a planted violation, and to nothing in what stands beside it.

use super::source::Source;
use super::*;

/// No objection.
const NONE: [usize; 0] = [];

/// The line numbers on which a rule objects to one file.
fn lines(rule: Rule, path: &str, text: &str) -> Vec<usize> {
    let violations = rule(&[Source::new(path, text)]);
    violations
        .iter()
        .map(|Violation(text)| text.split(':').nth(1).unwrap().parse().unwrap())
        .collect()
}

#[test]
fn an_unknown_room() {
    assert_eq!(lines(rooms_are_known, "src/attic/mod.rs", ""), [1]);
    assert_eq!(lines(rooms_are_known, "src/wire/mod.rs", ""), NONE);
}

#[test]
fn an_arrow_that_points_up_or_beside() {
    let text = "use std::fmt;\n\
                use crate::session::Session;\n\
                use crate::{control::Settings, error::ClientError};\n\
                fn f(x: crate::daemon::Daemon) {}\n\
                fn g(x: super::super::session::Session) {}\n\
                // crate::session in a comment\n\
                const TEXT: &str = \"crate::session::X\";\n";
    assert_eq!(
        lines(arrows_point_down, "src/backend/pool.rs", text),
        [2, 3, 4, 5]
    );
    let below = "use crate::telemetry::metrics::ServerMetrics;\nuse super::pool::Pool;\n";
    assert_eq!(
        lines(arrows_point_down, "src/backend/lease.rs", below),
        NONE
    );
    let main = "fn main() { pgdrover::cli::main() }\n";
    assert_eq!(lines(arrows_point_down, "src/main.rs", main), NONE);
    assert_eq!(lines(arrows_point_down, "src/cli/mod.rs", main), NONE);
    let up = "fn f() { pgdrover::cli::main() }\n";
    assert_eq!(lines(arrows_point_down, "src/wire/mod.rs", up), [1]);
}

#[test]
fn the_data_plane_that_imports_control() {
    let text = "use crate::control::Settings;\n";
    for path in ["src/session/mod.rs", "src/executor/single.rs"] {
        assert_eq!(lines(forbidden_arrows, path, text), [1], "{path}");
    }
    assert_eq!(lines(forbidden_arrows, "src/daemon/mod.rs", text), NONE);
}

#[test]
fn a_router_that_knows_hosts_and_a_backend_that_knows_statements() {
    let text = "use crate::topology::{Role, Address};\nfn f(r: Role) {}\n";
    assert_eq!(lines(forbidden_arrows, "src/router/mod.rs", text), [1]);
    let text = "fn f(plan: &crate::plan::Plan) {}\n";
    assert_eq!(lines(forbidden_arrows, "src/backend/mod.rs", text), [1]);
}

#[test]
fn an_import_of_config() {
    let text = "use crate::config;\n";
    assert_eq!(lines(config_is_not_imported, "src/demo/mod.rs", text), [1]);
    assert_eq!(
        lines(config_is_not_imported, "src/cli/check.rs", text),
        NONE
    );
}

#[test]
fn a_cycle() {
    let source = |path, text| Source::new(path, text);
    let cycle = [
        source("src/plan/mod.rs", "use crate::wire::A;"),
        source("src/wire/mod.rs", "use crate::error::B;"),
        source("src/error.rs", "use crate::plan::C;"),
        source("src/cli/mod.rs", "use crate::plan::D;"),
    ];
    assert_eq!(no_cycles(&cycle).len(), 1);
    assert_eq!(no_cycles(&cycle[..2]).len(), 0);
}

#[test]
fn an_import_past_the_face() {
    let text = "use crate::control::health::Tracker;\n\
                use crate::backend::pool;\n\
                fn f() { pool::open() }\n\
                use crate::topology::Role;\n\
                fn g() -> Role { Role::Primary }\n\
                use crate::telemetry::metrics::KINDS;\n\
                fn h() { crate::control::run() }\n";
    assert_eq!(lines(faces_only, "src/daemon/mod.rs", text), [1, 3]);
    let own = "use crate::control::health::Tracker;\n";
    assert_eq!(lines(faces_only, "src/control/watch.rs", own), NONE);
}

#[test]
fn impure_code_in_a_pure_place() {
    let text = "use std::time::{Duration, Instant};\n\
                fn f() { std::env::var(\"X\"); }\n\
                use tokio::sync::mpsc;\n\
                use std::net::{IpAddr, TcpStream as Stream};\n\
                use std::time;\n\
                fn g() { time::SystemTime::now(); }\n\
                #[cfg(test)]\n\
                mod tests {\n    use tokio::net::TcpListener;\n}\n";
    for path in ["src/router/parse.rs", "src/control/health.rs"] {
        assert_eq!(
            lines(pure_stays_pure, path, text),
            [1, 3, 4, 2, 6],
            "{path}"
        );
    }
    assert_eq!(lines(pure_stays_pure, "src/control/watch.rs", text), NONE);
    let channels = "use tokio::sync::{mpsc, watch, Mutex};\n";
    assert_eq!(lines(pure_stays_pure, "src/topology/mod.rs", channels), [1]);
}

#[test]
fn a_package_in_a_foreign_room() {
    let text = "use sqlparser::ast::Statement;\nfn f() { metrics::counter!(\"x\"); }\n";
    let rule = packages_in_their_rooms;
    assert_eq!(lines(rule, "src/session/mod.rs", text), [1, 2]);
    assert_eq!(lines(rule, "src/router/mod.rs", text), [2]);
    // Our own module of the same name.
    let own = "use crate::telemetry::metrics;\nfn f() { metrics::install(); }\n";
    assert_eq!(lines(rule, "src/daemon/mod.rs", own), NONE);
}

#[test]
fn a_static() {
    let text = "const A: &'static str = \"static\";\nstatic B: u8 = 0;\nthread_local! {}\n";
    assert_eq!(lines(no_statics, "src/wire/mod.rs", text), [2, 3]);
    assert_eq!(lines(no_statics, "src/telemetry/metrics.rs", text), [3]);
}

#[test]
fn something_left_for_later() {
    let text = "// todo: only a remark\nfn f() { todo!() }\nfn g() { unimplemented!(); }\n";
    assert_eq!(lines(nothing_left, "src/wire/mod.rs", text), [2, 3]);
}

#[test]
fn a_file_that_is_too_long() {
    let line = "fn f() {}\n";
    let most = line.repeat(MOST_LINES);
    assert_eq!(lines(files_are_short, "src/wire/mod.rs", &most), NONE);
    let tested = format!("{most}#[cfg(test)]\nmod tests {{\n{most}}}\n");
    assert_eq!(lines(files_are_short, "src/wire/mod.rs", &tested), NONE);
    let long = format!("{most}{line}");
    assert_eq!(lines(files_are_short, "src/wire/mod.rs", &long), [1]);
}

#[test]
fn literals_and_comments_hide_nothing_behind_them() {
    let text = "const A: char = '\"';\n\
                const B: &str = r#\"a \" b\"#;\n\
                fn f<'a>(x: &'a str) -> char { '\\'' }\n\
                /* crate::session::X */ use crate::session::Y;\n";
    assert_eq!(lines(arrows_point_down, "src/wire/mod.rs", text), [4]);
}
