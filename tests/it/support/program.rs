//! pgdrover as a process of its own: for signals, and for its memory.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use pgdrover::demo;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::daemon::Setup;
use super::database::TestDb;
use super::eventually;
use super::raw::Raw;

/// The program itself, and what it logs.
pub(crate) struct Program {
    child: Child,
    pub(crate) port: u16,
    pub(crate) database: String,
    pub(crate) log: Arc<Mutex<String>>,
    pub(crate) folder: TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Writes the file, as it is to be read at the start or at the next reload.
    pub(crate) fn write(folder: &TempDir, setup: Setup, port: u16) {
        let text = setup.port(port).toml();
        std::fs::write(folder.path().join("pgdrover.toml"), text).unwrap();
    }

    pub(crate) async fn start(folder: TempDir, db: &TestDb, setup: Setup) -> Program {
        let port = demo::free_port();
        Program::write(&folder, setup, port);
        let mut child = Command::new(env!("CARGO_BIN_EXE_pgdrover"))
            .args(["serve", "-c", "pgdrover.toml"])
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, into) = (BufReader::new(child.stderr.take().unwrap()), log.clone());
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                *into.lock().unwrap() += &format!("{line}\n");
            }
        });
        let program = Program {
            child,
            port,
            database: db.name.clone(),
            log,
            folder,
        };
        program.logs("ready").await;
        program
    }

    pub(crate) async fn logs(&self, words: &str) {
        eventually(words, async || self.log.lock().unwrap().contains(words)).await;
    }

    /// Sends SIGHUP and waits until it has been dealt with.
    pub(crate) async fn reload(&self, then: &str) {
        self.log.lock().unwrap().clear();
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
        self.logs(then).await;
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// A session of the demo's user.
    pub(crate) async fn raw(&self) -> Raw {
        let mut raw = Raw::new(self.tcp().await);
        raw.login(demo::USER, demo::PASSWORD, &self.database, &[])
            .await;
        raw
    }

    /// How much memory it has, in KiB.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}
