//! One PostgreSQL server of the cluster: start, stop, and the faults that tests inject.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::topology::Role;

use super::Error;
use super::account::Account;
use super::install::Install;

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition without an event of its own is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How to stop a server, as `pg_ctl stop -m` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits until the clients have left.
    Smart,
    /// Ends the clients' sessions, writes a checkpoint.
    Fast,
    /// Drops everything: the next start recovers.
    Immediate,
}

impl StopMode {
    pub(super) fn signal(self) -> Signal {
        match self {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        }
    }
}

/// One server of the cluster. Its methods take `&self`, so that tests that share a cluster can
/// stop and start the servers of a shard they have to themselves.
#[derive(Debug)]
pub struct Server {
    /// The number of its shard.
    pub shard: u16,
    /// Its name, for example `shard0-1`; also its `cluster_name` and its folder's.
    pub name: String,
    /// What it was at the start: a failover does not change this field.
    pub role: Role,
    /// The address it listens on.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its data folder.
    pub data_dir: PathBuf,
    postgres: PathBuf,
    account: Account,
    /// Our child, until it is reaped. Absent also for a server that somebody else restarted.
    child: Mutex<Option<Child>>,
}

impl Server {
    pub(super) fn new(
        (shard, number): (u16, u16),
        port: u16,
        dir: &Path,
        install: &Install,
        account: Account,
    ) -> Server {
        let name = format!("shard{shard}-{}", number + 1);
        Server {
            shard,
            data_dir: dir.join(&name),
            name,
            role: if number == 0 {
                Role::Primary
            } else {
                Role::Replica
            },
            host: "127.0.0.1".into(),
            port,
            postgres: install.program("postgres"),
            account,
            child: Mutex::new(None),
        }
    }

    /// A server that only exists on paper.
    #[cfg(test)]
    pub(super) fn unstarted(number: (u16, u16), port: u16) -> Server {
        let nowhere = Path::new("/nonexistent");
        Server::new(number, port, nowhere, &Install::at(nowhere), Account::Own)
    }

    /// The postmaster's process id, read from its file now; `None` when it does not run.
    pub fn pid(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.data_dir.join("postmaster.pid")).ok()?;
        let pid = text.lines().next()?.trim().parse().ok()?;
        self.is_ours(pid).then_some(pid)
    }

    /// A file may outlive its server, and its number may go to a stranger: believe it only while
    /// the process's command line names our data folder.
    fn is_ours(&self, pid: u32) -> bool {
        match std::fs::read(format!("/proc/{pid}/cmdline")) {
            Ok(line) => String::from_utf8_lossy(&line).contains(&*self.data_dir.to_string_lossy()),
            Err(_) if Path::new("/proc/self/cmdline").exists() => false,
            // No /proc (macOS): whoever has the number is all we can know.
            Err(_) => {
                as_pid(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
            }
        }
    }

    /// The server's log file: beside the data folder, with its name.
    pub fn log_file(&self) -> PathBuf {
        let mut path = self.data_dir.clone().into_os_string();
        path.push(".log");
        path.into()
    }

    /// Starts the server and waits until it takes connections. Does nothing if it runs.
    ///
    /// # Errors
    /// [`Error::Start`] with the end of its log, also when it takes more than a minute.
    pub async fn start(&self) -> Result<(), Error> {
        if self.pid().is_none() {
            self.spawn()?;
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready() {
            if let Some(status) = self.reap() {
                return Err(self.start_error(format!("it ended with {status}")));
            }
            if Instant::now() > deadline {
                return Err(self.start_error("it takes too long".into()));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    fn spawn(&self) -> Result<(), Error> {
        let mut child = self.child();
        // After SIGKILL the file stays; its number may belong to another process by now, which
        // PostgreSQL would take for a running server.
        let _ = std::fs::remove_file(self.data_dir.join("postmaster.pid"));
        let path = self.log_file();
        let log = File::options().create(true).append(true).open(&path);
        let log = log.map_err(Error::file("open", &path))?;
        let errors = log.try_clone().map_err(Error::file("open", &path))?;
        let spawned = self
            .account
            .command(&self.postgres, &self.data_dir)
            .arg("-D")
            .arg(&self.data_dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(Error::io(format!("start {}", self.postgres.display())))?;
        *child = Some(spawned);
        Ok(())
    }

    /// As `pg_ctl` sees it: the eighth line of the file tells the state.
    fn is_ready(&self) -> bool {
        let Some(pid) = self.pid() else {
            return false;
        };
        let file = self.data_dir.join("postmaster.pid");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let mut lines = text.lines();
        lines.next() == Some(&pid.to_string()) && lines.nth(6).map(str::trim) == Some("ready")
    }

    fn start_error(&self, why: String) -> Error {
        Error::Start {
            server: self.name.clone(),
            why,
            log: self.log_tail(12),
        }
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Stops the server and waits until its processes are gone. Does nothing if it does not run.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it still runs after a minute (clients hold a smart stop up).
    pub async fn stop(&self, mode: StopMode) -> Result<(), Error> {
        self.signal(mode.signal());
        let deadline = Instant::now() + PATIENCE;
        while self.is_alive() {
            if Instant::now() > deadline {
                return Err(Error::Timeout {
                    what: format!("the end of {}", self.name),
                    seconds: PATIENCE.as_secs(),
                    found: "it still runs".into(),
                });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// SIGKILL to the postmaster and all its processes, as a machine that loses power: no client
    /// hears a word, and shared memory is not cleaned up. Returns when all are gone.
    ///
    /// # Errors
    /// [`Error::Timeout`] if a process survives a minute (stuck in the kernel).
    pub async fn kill(&self) -> Result<(), Error> {
        let tree = self.kill_tree();
        let deadline = Instant::now() + PATIENCE;
        while self.is_alive() || tree.iter().any(|&pid| is_running(pid)) {
            if Instant::now() > deadline {
                return Err(Error::Timeout {
                    what: format!("the end of {}", self.name),
                    seconds: PATIENCE.as_secs(),
                    found: "SIGKILL did not end it".into(),
                });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Stops the postmaster first, lest it starts new children or ends the others politely.
    /// Returns the children, which init reaps.
    fn kill_tree(&self) -> Vec<u32> {
        let Some(pid) = self.postmaster() else {
            return Vec::new();
        };
        signal(pid, Signal::STOP);
        let children = children_of(pid);
        for &child in &children {
            signal(child, Signal::KILL);
        }
        signal(pid, Signal::KILL);
        children
    }

    /// Sends a signal to the postmaster, if it runs.
    pub fn signal(&self, which: Signal) {
        if let Some(pid) = self.postmaster() {
            signal(pid, which);
        }
    }

    fn is_alive(&self) -> bool {
        self.postmaster().is_some()
    }

    /// Our child, which may be too young to have written its file, or whom the file names.
    fn postmaster(&self) -> Option<u32> {
        self.reap();
        let child = self.child().as_ref().map(Child::id);
        child.or_else(|| self.pid())
    }

    /// Reaps our child if it has ended, and says how.
    fn reap(&self) -> Option<String> {
        let mut child = self.child();
        let status = child.as_mut()?.try_wait().ok()??;
        *child = None;
        Some(status.to_string())
    }

    /// The end of the server for destructors, which cannot await: ask all first, then call this.
    pub(super) fn end_blocking(&self, until: Instant) {
        while self.is_alive() {
            if Instant::now() > until {
                self.kill_tree();
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        // No code panics while it holds the lock half-way.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn as_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// A process that has just ended cannot be signalled: nothing to report.
fn signal(pid: u32, which: Signal) {
    if let Some(pid) = as_pid(pid) {
        let _ = kill_process(pid, which);
    }
}

/// Running, not waiting to be reaped. Without /proc we know of no children.
fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|(_, state)| state != 'Z')
}

fn children_of(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&pid| stat(pid).is_some_and(|(its_parent, _)| its_parent == parent))
        .collect()
}

/// Parent and state from `/proc/PID/stat`, whose second field, the name, may hold blanks and
/// parentheses: read on after its last one.
fn stat(pid: u32) -> Option<(u32, char)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}
