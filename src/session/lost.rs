//! What a client is told when a server connection is lost, or when pgdrover refuses a statement.

use tracing::warn;

use super::client::{Client, End};
use super::state::Tx;
use crate::backend::{Conn, Sent};
use crate::error::{ClientError, SqlState};
use crate::executor::{Failure, Progress, listen, settle};
use crate::telemetry::metrics::Closed;
use crate::topology::FailureReport;
use crate::wire;

impl Client {
    /// The server connection failed in the middle of something: says so as exactly as is known.
    /// `committing`: a COMMIT or a write outside a transaction was sent, so its outcome is unknown.
    pub(super) async fn lost(
        &mut self,
        failure: Failure,
        progress: &Progress,
        committing: bool,
    ) -> Result<ClientError, End> {
        let (cause, code) = match failure {
            Failure::Client(error) => return Err(End::Left(error)),
            Failure::Refused(error) => return Err(End::Fatal(error)),
            Failure::Protocol(error) => {
                let error = ClientError::fatal(SqlState::PROTOCOL_VIOLATION, error.to_string());
                return Err(End::Fatal(error));
            }
            Failure::Unresponsive => (failure.to_string(), None),
            Failure::Server { cause, code } => (cause, code),
        };
        let pinned = self.keeps();
        let server = self
            .held
            .as_mut()
            .map(|held| held.lease.conn().address.clone());
        if let Some(server) = server {
            warn!(%server, %cause, code = code.as_deref(), "server connection lost");
            // A full queue means that control has much to look at already.
            let _ = self.service.reports.try_send(FailureReport {
                server,
                what: cause.clone(),
            });
        }
        self.discard_held(Closed::ServerLost).await;
        if progress.mid_frame {
            return Err(End::Cut);
        }
        self.gucs.end(false);
        self.begun = None;
        let error = if committing {
            self.tx = Tx::Idle;
            outcome_unknown()
        } else {
            self.tx.fail();
            not_done()
        };
        let error = error.detail(format!("The server connection ended: {cause}"));
        if pinned {
            // State that lived in the connection is gone: the client must not go on as if it
            // were there.
            return Err(pin_lost(error));
        }
        Ok(error)
    }

    /// pgdrover refuses a statement. In a transaction that a server has, the server is made to fail
    /// as well, so that what follows (25P02, ROLLBACK TO) is its own word.
    pub(super) async fn refuse(&mut self, error: &ClientError) -> Result<(), End> {
        self.served.metrics.error(error.code.code());
        let open = matches!(self.tx, Tx::Open(_)) || self.batch_open;
        if let Some(held) = &mut self.held
            && open
        {
            let conn = held.lease.conn();
            if conn.status != b'E'
                && let Err(failure) = fail_aside(conn).await
            {
                let told = self.lost(failure, &Progress::default(), false).await?;
                wire::error_response(&mut self.port.output, &told);
                return Ok(());
            }
            if held.lease.conn().status == b'I' {
                // The batch, outside a block, was one transaction.
                self.gucs.end(false);
            }
        } else {
            self.tx.fail();
        }
        wire::error_response(&mut self.port.output, error);
        Ok(())
    }

    /// A connection at rest said something: notifications and notices are relayed, an end is noted.
    pub(super) async fn hear_servers(&mut self) -> Result<(), End> {
        if let Some(held) = &mut self.held
            && let Err(failure) = listen(&mut self.port, held.lease.conn())
        {
            let (in_block, in_batch) = (self.tx.in_block(), self.batch_open);
            let error = self.lost(failure, &Progress::default(), false).await?;
            if in_batch {
                // The client waits for no answer now, but its next Sync must not look like success.
                self.served.metrics.error(error.code.code());
                wire::error_response(&mut self.port.output, &error);
                self.skipping = true;
            } else if in_block {
                self.untold = Some(error);
            }
        }
        let mut i = 0;
        while i < self.pins.len() {
            match listen(&mut self.port, self.pins[i].lease.conn()) {
                Ok(()) => i += 1,
                Err(failure) => {
                    self.pins.swap_remove(i).lease.discard(Closed::ServerLost);
                    return Err(pin_lost(server_lost(&failure)));
                }
            }
        }
        Ok(())
    }
}

/// Makes the transaction on a connection fail. Leaves its statements and portals alone.
pub(super) async fn fail_aside(conn: &mut Conn) -> Result<(), Failure> {
    wire::execute(&mut conn.port.output, "refused by pgdrover");
    conn.ledger.sent(Sent::Execute, false);
    wire::empty_message(&mut conn.port.output, b'S');
    conn.ledger.sent(Sent::Sync, false);
    settle(conn, &mut Progress::default()).await
}

pub(super) fn server_lost(failure: &Failure) -> ClientError {
    ClientError::error(
        SqlState::CONNECTION_FAILURE,
        format!("server connection lost: {failure}"),
    )
}

fn outcome_unknown() -> ClientError {
    ClientError::error(
        SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
        "the connection to the server was lost while a change was being committed; \
         whether it was committed is not known",
    )
    .hint("Look whether the change is there before repeating it.")
}

fn not_done() -> ClientError {
    ClientError::error(
        SqlState::CONNECTION_FAILURE,
        "the connection to the server was lost; the statement did not take effect",
    )
    .hint("Repeat the statement, or the whole transaction.")
}

fn pin_lost(error: ClientError) -> End {
    End::Fatal(ClientError {
        severity: crate::error::Severity::Fatal,
        ..error
    })
}
