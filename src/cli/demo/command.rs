//! `-- COMMAND`: run it before the cluster, pass signals on, take its status.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use super::signals::{Came, Signals};
use super::{DATABASE, PASSWORD, Ready, USER, complain};

/// How long a command may take to end after a signal.
const GRACE: Duration = Duration::from_secs(10);

/// Runs the command to its end. The exit code is its own, 128 + N when signal N ended it, and as
/// in shells 127 when there is no such program, 126 when it cannot be run.
pub(super) async fn run(
    ready: &Ready,
    program: &OsStr,
    args: &[OsString],
    signals: &mut Signals,
) -> anyhow::Result<ExitCode> {
    let spawned = tokio::process::Command::new(program)
        .args(args)
        .envs(environment(ready))
        .kill_on_drop(true)
        .spawn();
    let child = match spawned {
        Ok(child) => child,
        Err(error) => {
            complain(format_args!(
                "cannot run {}: {error}",
                program.to_string_lossy()
            ));
            let missing = error.kind() == ErrorKind::NotFound;
            return Ok(ExitCode::from(if missing { 127 } else { 126 }));
        }
    };
    Ok(exit_code(wait(child, signals).await?))
}

fn environment(ready: &Ready) -> Vec<(&'static str, OsString)> {
    let endpoint = ready.endpoint;
    vec![
        ("PGHOST", "127.0.0.1".into()),
        ("PGPORT", endpoint.port.to_string().into()),
        ("PGUSER", USER.into()),
        ("PGPASSWORD", PASSWORD.into()),
        ("PGDATABASE", DATABASE.into()),
        ("PGDROVER_CONFIG", ready.config_file.clone().into()),
        (
            "PGDROVER_HTTP",
            format!("http://127.0.0.1:{}", endpoint.http_port).into(),
        ),
        ("PGDROVER_CLUSTER", ready.cluster_file.clone().into()),
    ]
}

/// Waits for the end. Ctrl-C at a terminal reaches the command too, which decides what it means
/// (psql cancels its query and goes on); any other signal is passed on, and after a while the
/// command is killed.
async fn wait(mut child: Child, signals: &mut Signals) -> std::io::Result<ExitStatus> {
    let at_terminal = std::io::stdin().is_terminal();
    loop {
        let came = tokio::select! {
            status = child.wait() => return status,
            came = signals.next() => came,
        };
        if came == Came::Interrupt && at_terminal {
            continue;
        }
        pass_on(&child, came);
        if let Ok(status) = tokio::time::timeout(GRACE, child.wait()).await {
            return status;
        }
        child.start_kill()?;
    }
}

fn pass_on(child: &Child, came: Came) {
    let signal = match came {
        Came::Interrupt => Signal::INT,
        Came::Other(_) => Signal::TERM,
    };
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(pid) = pid {
        // It may have ended just now.
        let _ = kill_process(pid, signal);
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let number = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(number.and_then(|n| u8::try_from(n).ok()).unwrap_or(1))
}
