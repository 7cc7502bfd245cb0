//! `pgdrover check` on broken files: each must be told with its line, its key and a remedy.
//!
//! Beside each `tests/configs/NAME.toml` stands `NAME.expected`, what the program prints. Run
//! with `PGDROVER_BLESS=1` to write it anew, then read the difference.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs")
}

fn pgdrover(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pgdrover"))
        .args(args)
        .current_dir(folder())
        .env_remove("PGDROVER_TEST_UNSET")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The names of the broken files.
fn broken() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    names.sort();
    names
}

#[test]
fn broken_files_are_told_with_line_key_and_remedy() {
    let bless = std::env::var_os("PGDROVER_BLESS").is_some();
    let names = broken();
    assert!(names.len() >= 10, "{names:?}");
    let mut wrong = Vec::new();
    for name in names {
        let output = pgdrover(&["check", "-c", &name]);
        let shown = stderr(&output);
        assert_eq!(output.status.code(), Some(78), "{name}: {shown}");
        assert_eq!(stdout(&output), "", "{name}");
        let file = folder().join(&name).with_extension("expected");
        if bless {
            std::fs::write(&file, &shown).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if shown != expected {
            wrong.push(format!("{name}: expected\n{expected}\nbut got\n{shown}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_template_passes() {
    let output = pgdrover(&["check", "../../config/pgdrover.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("the configuration is valid"));
}

#[test]
fn a_file_that_is_not_there_is_an_error_of_configuration() {
    let output = pgdrover(&["check", "-c", "absent.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        stderr(&output).starts_with("absent.toml:1: cannot read the file"),
        "{}",
        stderr(&output)
    );
}

/// The document's ring: shard 0 owns 751 to 999 and 0 to 250.
#[test]
fn ring_tells_shares_and_moves() {
    let output = pgdrover(&["ring", "-c", "valid/ring.toml", "--add", "s3=0"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        "database app: 3 shards, 0 tables; ring of 1000 points over user_id (bigint)
  shard  positions  share
  s0     250        50.0 %
  s1     500        25.0 %
  s2     750        25.0 %
warning: the ring is unbalanced: s0 has 50.0 % of the keys, s1 25.0 %; positions 332, 665, 999 would be even
adding s3 at position 0 moves 25.0 % of the keys, all from s0 to s3:
  shard  now     then
  s0     50.0 %  25.0 %
  s1     25.0 %  25.0 %
  s2     25.0 %  25.0 %
  s3     0.0 %   25.0 %
"
    );
}

#[test]
fn modulo_tells_that_three_quarters_move() {
    let output = pgdrover(&["ring", "../../config/pgdrover.toml", "--add", "shard3"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("adding shard3 moves 75.0 % of the keys"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn hash_reads_the_standard_input() {
    use std::io::Write;
    let mut child = Command::new(env!("CARGO_BIN_EXE_pgdrover"))
        .args(["hash", "--md5", "--user", "app"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"secret\n").unwrap();
    let output = child.wait_with_output().unwrap();
    // select 'md5' || md5('secret' || 'app')
    assert_eq!(stdout(&output), "md56a422f785c9e20873908ce25d1736ae2\n");
}
