//! Whether a connection that rested for long still works: a question that any server answers.

use crate::wire::{self, Fill};

use super::conn::Conn;

/// Sends the query and waits for the end of its answer. The caller bounds the time.
pub(super) async fn answers(conn: &mut Conn, query: &str) -> bool {
    wire::query(&mut conn.port.output, query);
    if conn.port.flush().await.is_err() {
        return false;
    }
    loop {
        match frame(conn) {
            Ok(Some((b'Z', body))) => return body == b"I" && conn.port.input.is_empty(),
            Ok(Some((b'E', _))) | Err(()) => return false,
            Ok(Some((b'S', body))) => conn.note_parameter(&body),
            Ok(Some(_)) => {}
            Ok(None) => match conn.port.fill().await {
                Ok(Fill::Bytes(_)) => {}
                Ok(Fill::End) | Err(_) => return false,
            },
        }
    }
}

/// The next frame, if all of it is there.
fn frame(conn: &mut Conn) -> Result<Option<(u8, Vec<u8>)>, ()> {
    let input = &mut conn.port.input;
    let header = wire::frame_at(input.bytes()).map_err(drop)?;
    Ok(header.filter(|h| input.len() >= h.total).map(|h| {
        let body = input.bytes()[5..h.total].to_vec();
        input.consume(h.total);
        (h.tag, body)
    }))
}
