//! One question at a time to a server of a database, over a connection of its own that no client
//! ever uses: what pgdrover itself wants to know, such as who may log in.
//!
//! What is asked is opaque here, and nothing that a client said reaches the connection but the one
//! value that is bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::topology::Address;
use crate::wire::{self, Fill};

use super::conn::LoggedIn;
use super::connect::{Login, Tls, connect_with};
use super::{Credentials, Error};

/// A connection that nobody needed for this long is closed.
const REST: Duration = Duration::from_secs(30);
/// After a failure nobody tries again for this long: a server that is down costs each login one
/// error, not one wait.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest frame of an answer.
const LONGEST: usize = 64 << 10;
/// No schema in which others than superusers could put functions and operators.
const SETTINGS: &[(&str, &str)] = &[
    ("search_path", "pg_catalog, pg_temp"),
    ("application_name", "pgdrover auth_query"),
];

/// Asks servers.
pub struct Reader {
    credentials: Credentials,
    tls: Tls,
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<(LoggedIn, Arc<str>, Instant)>,
    failed: Option<(Instant, String)>,
}

/// What a question brought: the columns of the first row, and how many rows there were.
#[derive(Debug, Default)]
pub struct FirstRow {
    /// The values, as text.
    pub columns: Vec<Option<String>>,
    /// How many rows came.
    pub rows: usize,
}

impl Reader {
    /// Asks as this role; `timeout` bounds each attempt.
    pub fn new(credentials: Credentials, tls: Tls, timeout: Duration) -> Self {
        Reader {
            credentials,
            tls,
            timeout,
            state: Mutex::default(),
        }
    }

    /// Runs `sql` with one parameter of type text in `dbname` on the first of the servers that
    /// answers. `known` is asked once it is this question's turn: an answer that somebody else
    /// brought meanwhile will do.
    pub async fn ask<T>(
        &self,
        (servers, dbname): (&[Address], &Arc<str>),
        (sql, value): (&str, &str),
        known: impl Fn() -> Option<T>,
        read: impl Fn(FirstRow) -> T,
    ) -> Result<T, String> {
        let mut state = self.state.lock().await;
        if let Some(answer) = known() {
            return Ok(answer);
        }
        match &state.failed {
            Some((at, cause)) if at.elapsed() < PAUSE => return Err(cause.clone()),
            _ => state.failed = None,
        }
        let mut cause = "the database has no server".to_owned();
        for server in servers {
            let attempt = self.ask_one(&mut state.open, server, dbname, sql, value);
            match tokio::time::timeout(self.timeout, attempt).await {
                Ok(Ok(row)) => return Ok(read(row)),
                Ok(Err(error)) => cause = error.to_string(),
                Err(_) => cause = format!("{server} did not answer within {:?}", self.timeout),
            }
            state.open = None;
        }
        state.failed = Some((Instant::now(), cause.clone()));
        Err(cause)
    }

    /// Closes a connection that rests. To be called every few seconds.
    pub fn rest(&self) {
        if let Ok(mut state) = self.state.try_lock() {
            state.open.take_if(|(_, _, used)| used.elapsed() >= REST);
        }
    }

    async fn ask_one(
        &self,
        open: &mut Option<(LoggedIn, Arc<str>, Instant)>,
        server: &Address,
        dbname: &Arc<str>,
        sql: &str,
        value: &str,
    ) -> Result<FirstRow, Error> {
        // It comes back only after a whole answer.
        let rested = open
            .take()
            .filter(|(c, d, _)| c.address == *server && d == dbname);
        if let Some((mut conn, ..)) = rested
            && conn.port.is_quiet()
            && let Ok(row) = exchange(&mut conn, sql, value).await
        {
            *open = Some((conn, dbname.clone(), Instant::now()));
            return Ok(row);
        }
        let login = Login {
            user: self.credentials.user.clone(),
            secret: self.credentials.secret.clone(),
            dbname: dbname.clone(),
        };
        let mut conn = connect_with(server, &login, &self.tls, SETTINGS).await?;
        let row = exchange(&mut conn, sql, value).await?;
        *open = Some((conn, dbname.clone(), Instant::now()));
        Ok(row)
    }
}

/// Parse, Bind, Execute, Sync, and what comes of it.
async fn exchange(conn: &mut LoggedIn, sql: &str, value: &str) -> Result<FirstRow, Error> {
    const TEXT: u32 = 25;
    let server = conn.address.clone();
    let lost = |cause: String| Error::Lost {
        server: server.clone(),
        cause,
    };
    let out = &mut conn.port.output;
    wire::parse(out, "", sql.as_bytes(), &[TEXT]);
    out.frame(b'B', |out| {
        // No names, no formats: all is text.
        out.put(&[0, 0, 0, 0, 0, 1]);
        out.put_u32(value.len() as u32);
        out.put(value.as_bytes());
        out.put(&[0, 0]);
    });
    wire::execute(out, "");
    wire::empty_message(out, b'S');
    conn.port.flush().await.map_err(|e| lost(e.to_string()))?;
    let mut answer = FirstRow::default();
    let mut failed = None;
    loop {
        let header = wire::frame_at(conn.port.input.bytes()).map_err(|e| lost(e.to_string()))?;
        if let Some(h) = header.filter(|h| h.total > LONGEST) {
            return Err(lost(format!("an answer of {} bytes", h.total)));
        }
        let Some(h) = header.filter(|h| conn.port.input.len() >= h.total) else {
            match conn.port.fill().await {
                Ok(Fill::Bytes(_)) => continue,
                Ok(Fill::End) => return Err(lost("closed".into())),
                Err(e) => return Err(lost(e.to_string())),
            }
        };
        let body = &conn.port.input.bytes()[5..h.total];
        match h.tag {
            b'D' if answer.rows == 0 => {
                answer.columns = values(body).ok_or_else(|| lost("a malformed row".into()))?;
                answer.rows = 1;
            }
            b'D' => answer.rows += 1,
            b'E' => failed = Some(message(body)),
            _ => {}
        }
        conn.port.input.consume(h.total);
        if h.tag == b'Z' {
            return failed.map_or(Ok(answer), |cause| Err(lost(cause)));
        }
    }
}

/// The values of a DataRow.
fn values(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut out = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        let Ok(length) = usize::try_from(length) else {
            out.push(None);
            rest = tail;
            continue;
        };
        out.push(Some(String::from_utf8(tail.get(..length)?.to_vec()).ok()?));
        rest = &tail[length..];
    }
    Some(out)
}

fn message(body: &[u8]) -> String {
    let field = |wanted| {
        wire::error_fields(body)
            .find(|(code, _)| *code == wanted)
            .map_or("", |(_, text)| text)
    };
    format!("{} ({})", field(b'M'), field(b'C'))
}

#[cfg(test)]
mod tests {
    use super::values;

    #[test]
    fn rows_of_every_truncation_are_refused() {
        let row = b"\0\x02\0\0\0\x03abc\xff\xff\xff\xff";
        let read = values(row).unwrap();
        assert_eq!(read, [Some("abc".to_owned()), None]);
        for end in 0..row.len() {
            assert_eq!(values(&row[..end]), None, "{end}");
        }
        assert_eq!(values(b"\0\x01\x7f\xff\xff\xffx"), None);
    }
}
