//! The signals that end the demo.

use std::io;
use std::process::ExitCode;

use tokio::signal::unix::{self, SignalKind};

/// SIGINT, SIGTERM and SIGHUP: Ctrl-C, a supervisor, a terminal that was closed.
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
}

/// One that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Ctrl-C: the terminal sends it to every process of the foreground.
    Interrupt,
    /// To this process alone.
    Other(i32),
}

impl Came {
    /// What shells report of a process that a signal ended.
    pub(super) fn exit_code(self) -> ExitCode {
        let number = match self {
            Came::Interrupt => SignalKind::interrupt().as_raw_value(),
            Came::Other(number) => number,
        };
        ExitCode::from(128u8.saturating_add(number as u8))
    }
}

impl Signals {
    pub(super) fn listen() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hangup: unix::signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one of them.
    pub(super) async fn next(&mut self) -> Came {
        tokio::select! {
            _ = self.interrupt.recv() => Came::Interrupt,
            _ = self.terminate.recv() => Came::Other(SignalKind::terminate().as_raw_value()),
            _ = self.hangup.recv() => Came::Other(SignalKind::hangup().as_raw_value()),
        }
    }
}
