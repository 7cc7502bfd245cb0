//! `pgdrover demo` as its users meet it.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::has_processes;

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgdrover"));
    command.arg("demo").args(args).stdin(Stdio::null());
    command
}

/// A demo of one server on any free port.
fn smallest(args: &[&str]) -> Command {
    let mut command = demo(&["--port", "0", "--shards", "1", "--replicas", "0"]);
    command.args(args);
    command
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// What the command printed about one variable of its environment.
fn variable<'a>(output: &'a str, name: &str) -> &'a str {
    let mut lines = output.lines();
    lines
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .expect(name)
}

fn assert_gone(dir: &Path) {
    assert!(!dir.exists(), "{} is left", dir.display());
    assert!(!has_processes(dir));
}

fn folder(config_file: &str) -> PathBuf {
    Path::new(config_file).parent().unwrap().to_path_buf()
}

#[test]
fn a_command_gets_its_environment_and_gives_its_status() {
    let script = r#"env; printf 'CLUSTER='; tr -d '\n' <"$PGDROVER_CLUSTER"; exit 7"#;
    let Output {
        status,
        stdout,
        stderr,
    } = demo(&[
        "--port",
        "0",
        "--shards",
        "1",
        "--replicas",
        "1",
        "--no-data",
    ])
    .args(["--", "sh", "-c", script])
    .output()
    .unwrap();
    assert_eq!(status.code(), Some(7), "{}", text(&stderr));
    // The output is the command's alone.
    assert_eq!(text(&stderr), "");
    let output = text(&stdout);
    for (name, value) in [
        ("PGHOST", "127.0.0.1"),
        ("PGUSER", "app"),
        ("PGDATABASE", "app"),
    ] {
        assert_eq!(variable(&output, name), value);
    }
    assert!(variable(&output, "PGDROVER_HTTP").starts_with("http://127.0.0.1:"));
    let cluster: serde_json::Value = serde_json::from_str(variable(&output, "CLUSTER")).unwrap();
    assert_eq!(cluster["superuser"], "postgres");
    let servers = cluster["servers"].as_array().unwrap();
    let roles: Vec<_> = servers
        .iter()
        .map(|s| s["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["primary", "replica"]);
    for server in servers {
        assert!(
            server["pid"].as_u64().is_some_and(|pid| pid > 1),
            "{server}"
        );
        assert!(
            server["port"].as_u64().is_some_and(|port| port > 1024),
            "{server}"
        );
        let dir = Path::new(server["data_dir"].as_str().unwrap());
        assert!(dir.ends_with(server["name"].as_str().unwrap()));
    }
    assert_gone(&folder(variable(&output, "PGDROVER_CONFIG")));
}

#[test]
fn statuses_are_those_of_a_shell() {
    for (command, expected) in [
        (&["sh", "-c", "kill -9 $$"][..], 128 + 9),
        (&["/nonexistent/program"], 127),
        (&["/"], 126),
    ] {
        let output = smallest(&["--no-data", "--"])
            .args(command)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(expected), "{command:?}");
    }
}

/// A running child whose standard output is read up to a line.
fn read_until(child: &mut Child, wanted: &str) -> String {
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut all = String::new();
    while !all.contains(wanted) {
        let read = reader.read_line(&mut all).unwrap();
        assert!(read > 0, "no {wanted:?} in {all}");
    }
    // Whoever closes the pipe early could make the child fail: keep it.
    child.stdout = Some(reader.into_inner());
    all
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn signals_end_the_demo_in_order() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut child = smallest(&["--no-data"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = read_until(&mut child, "Ctrl-C stops everything");
        let config = said
            .lines()
            .find_map(|l| l.trim().strip_prefix("pgdrover ring -c "));
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal:?}");
        assert_gone(&folder(config.unwrap()));
    }
}

#[test]
fn a_signal_ends_the_command_too() {
    let mut child = smallest(&["--no-data", "--", "sh", "-c", "env; exec sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = read_until(&mut child, "PGDROVER_CONFIG");
    send(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    assert_gone(&folder(variable(&output, "PGDROVER_CONFIG")));
}

#[test]
fn a_taken_port_is_told_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = demo(&["--port", &port]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains(&format!("port {port} of 127.0.0.1 is taken")),
        "{said}"
    );
    assert!(said.contains("--port"), "{said}");
}
