//! What pgdrover itself says. Messages of the edges are pgwire's; those that the data path weaves
//! between relayed frames are written straight into the buffer.

use bytes::BytesMut;
use pgwire::messages::Message;
use pgwire::messages::response::{ErrorResponse, NoticeResponse};
use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey,
};

use super::Buffer;
use crate::error::ClientError;

fn put_message(out: &mut Buffer, message: &impl Message) {
    let mut bytes = BytesMut::new();
    // pgwire's encoders fail only for a secret key of a forbidden length, which is never made.
    if message.encode(&mut bytes).is_ok() {
        out.put(&bytes);
    }
}

/// AuthenticationXxx (`R`).
pub fn authentication(out: &mut Buffer, message: &Authentication) {
    put_message(out, message);
}

/// BackendKeyData (`K`) with a four-byte secret, as protocol 3.0 has it.
pub fn backend_key_data(out: &mut Buffer, pid: i32, secret: i32) {
    put_message(out, &BackendKeyData::new(pid, SecretKey::I32(secret)));
}

/// NegotiateProtocolVersion (`v`): 3.0 is spoken, and these options are not.
pub fn negotiate_version(out: &mut Buffer, unsupported: &[String]) {
    put_message(out, &NegotiateProtocolVersion::new(0, unsupported.to_vec()));
}

/// ParameterStatus (`S`).
pub fn parameter_status(out: &mut Buffer, name: &str, value: &str) {
    put_message(
        out,
        &ParameterStatus::new(name.to_owned(), value.to_owned()),
    );
}

fn fields(error: &ClientError, severity: &str) -> Vec<(u8, String)> {
    let mut fields = vec![
        (b'S', severity.to_owned()),
        (b'V', severity.to_owned()),
        (b'C', error.code.code().to_owned()),
        (b'M', error.message.clone().into_owned()),
    ];
    for (code, text) in [(b'D', &error.detail), (b'H', &error.hint)] {
        if let Some(text) = text {
            fields.push((code, text.clone().into_owned()));
        }
    }
    // No text of a client may end a field early.
    for (_, text) in &mut fields {
        text.retain(|c| c != '\0');
    }
    fields
}

/// ErrorResponse (`E`).
pub fn error_response(out: &mut Buffer, error: &ClientError) {
    put_message(
        out,
        &ErrorResponse::new(fields(error, error.severity.as_str())),
    );
}

/// NoticeResponse (`N`) of severity WARNING or another.
pub fn notice(out: &mut Buffer, severity: &str, notice: &ClientError) {
    put_message(out, &NoticeResponse::new(fields(notice, severity)));
}

/// ReadyForQuery (`Z`) with the transaction's status: `I`, `T` or `E`.
pub fn ready_for_query(out: &mut Buffer, status: u8) {
    out.put(&[b'Z', 0, 0, 0, 5, status]);
}

/// CommandComplete (`C`).
pub fn command_complete(out: &mut Buffer, tag: &str) {
    out.frame(b'C', |out| {
        out.put(tag.as_bytes());
        out.put_u8(0);
    });
}

/// A message without a body, such as CloseComplete (`3`).
pub fn empty_message(out: &mut Buffer, tag: u8) {
    out.put(&[tag, 0, 0, 0, 4]);
}

/// RowDescription (`T`) of text columns.
pub fn row_description_text(out: &mut Buffer, names: &[&str]) {
    const TEXT: u32 = 25;
    out.frame(b'T', |out| {
        out.put_u16(names.len() as u16);
        for name in names {
            out.put(name.as_bytes());
            out.put_u8(0);
            out.put_u32(0);
            out.put_u16(0);
            out.put_u32(TEXT);
            out.put_u16(u16::MAX);
            out.put_u32(u32::MAX);
            out.put_u16(0);
        }
    });
}

/// DataRow (`D`) of text columns.
pub fn text_row(out: &mut Buffer, values: &[&str]) {
    out.frame(b'D', |out| {
        out.put_u16(values.len() as u16);
        for value in values {
            out.put_u32(value.len() as u32);
            out.put(value.as_bytes());
        }
    });
}

/// Query (`Q`).
pub fn query(out: &mut Buffer, sql: &str) {
    out.frame(b'Q', |out| {
        out.put(sql.as_bytes());
        out.put_u8(0);
    });
}

/// Parse (`P`).
pub fn parse(out: &mut Buffer, name: &str, sql: &[u8], types: &[u32]) {
    out.frame(b'P', |out| {
        out.put(name.as_bytes());
        out.put_u8(0);
        out.put(sql);
        out.put_u8(0);
        out.put_u16(types.len() as u16);
        for oid in types {
            out.put_u32(*oid);
        }
    });
}

/// A Bind (`B`) whose body is `body`, with the statement's name replaced: `names` is the length of
/// portal name and statement name with their zeros.
pub fn bind_renamed(out: &mut Buffer, portal: &[u8], statement: &str, body: &[u8], names: usize) {
    out.frame(b'B', |out| {
        out.put(portal);
        out.put_u8(0);
        out.put(statement.as_bytes());
        out.put_u8(0);
        out.put(&body[names..]);
    });
}

/// Execute (`E`) of a portal, all its rows.
pub fn execute(out: &mut Buffer, portal: &str) {
    out.frame(b'E', |out| {
        out.put(portal.as_bytes());
        out.put_u8(0);
        out.put_u32(0);
    });
}

/// Describe (`D`) of a statement.
pub fn describe_statement(out: &mut Buffer, name: &str) {
    out.frame(b'D', |out| {
        out.put_u8(b'S');
        out.put(name.as_bytes());
        out.put_u8(0);
    });
}

/// ParameterDescription (`t`).
pub fn parameter_description(out: &mut Buffer, types: &[u32]) {
    out.frame(b't', |out| {
        out.put_u16(types.len() as u16);
        for oid in types {
            out.put_u32(*oid);
        }
    });
}

/// Close (`C`) of a statement.
pub fn close_statement(out: &mut Buffer, name: &str) {
    out.frame(b'C', |out| {
        out.put_u8(b'S');
        out.put(name.as_bytes());
        out.put_u8(0);
    });
}
