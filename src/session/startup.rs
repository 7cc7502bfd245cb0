//! From an accepted socket to a client that may log in: encryption, startup packet, cancel
//! (PostgreSQL documentation, sections 55.2.1 and 55.2.8 to 55.2.10).
//!
//! Everything here comes from someone unknown: sizes are bounded, and the caller bounds the time.

use std::collections::BTreeMap;
use std::io;

use bytes::BytesMut;
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::{GssEncRequest, SslRequest, Startup as StartupMessage};
use pgwire::messages::{DecodeContext, Message, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::ClientTlsMode;
use crate::error::{ClientError, SqlState};
use crate::wire::{Port, ServerTls, Stream};

/// Longest startup packet, as PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`.
const MAX_STARTUP: usize = 10_000;
/// First byte of a TLS handshake record: a client that negotiates directly.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a new connection turned out to be.
pub(super) enum Startup {
    /// A client that wants a session.
    Session(Box<Hello>),
    /// A cancel request for the session with this key.
    Cancel {
        /// The session's number.
        pid: i32,
        /// Its secret.
        secret: i32,
    },
    /// A client that is told why not.
    Refused(Box<Port>, ClientError),
}

/// What a client says of itself.
pub(super) struct Hello {
    /// The stream, encrypted if the client wished.
    pub port: Port,
    /// `user`.
    pub user: String,
    /// `database`, or the user's name.
    pub database: String,
    /// Settings from the packet and from `options`, by folded name.
    pub settings: BTreeMap<String, String>,
    /// Protocol extensions (`_pq_.…`) and the newer minor version that the client asked for.
    pub unsupported: Option<Vec<String>>,
}

/// Reads what a client sends first. An error means that the connection just ends.
pub(super) async fn negotiate(
    stream: Stream,
    tls: Option<&ServerTls>,
    mode: ClientTlsMode,
) -> io::Result<Startup> {
    let tls = tls.filter(|_| mode != ClientTlsMode::Disable);
    let mut stream = match (stream, tls) {
        (Stream::Tcp(tcp), Some(tls)) => {
            let mut first = [0];
            match tcp.peek(&mut first).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ if first[0] == TLS_HANDSHAKE => tls.accept(tcp).await?,
                _ => Stream::Tcp(tcp),
            }
        }
        (other, _) => other,
    };
    // A client asks for GSS, then for TLS, then begins; one that asks on is no client.
    for _ in 0..4 {
        let packet = read_packet(&mut stream).await?;
        if SslRequest::is_ssl_request_packet(&packet) {
            stream = match (stream, tls) {
                (Stream::Tcp(mut tcp), Some(tls)) => {
                    tcp.write_all(b"S").await?;
                    // Nothing was read beyond the request: bytes that someone slipped in before
                    // the handshake become part of it and spoil it (CVE-2021-23222).
                    tls.accept(tcp).await?
                }
                (mut other, _) => {
                    other.write_all(b"N").await?;
                    other
                }
            };
        } else if GssEncRequest::is_gss_enc_request_packet(&packet) {
            stream.write_all(b"N").await?;
        } else if CancelRequest::is_cancel_request_packet(&packet) {
            return cancel(&packet);
        } else {
            return Ok(hello(stream, &packet, mode));
        }
    }
    Err(io::Error::other("too many negotiation requests"))
}

/// Reads exactly one packet: a length that includes itself, then the rest.
async fn read_packet(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await? as usize;
    if !(8..=MAX_STARTUP).contains(&length) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "invalid length of startup packet",
        ));
    }
    let mut packet = vec![0; length];
    packet[..4].copy_from_slice(&(length as u32).to_be_bytes());
    stream.read_exact(&mut packet[4..]).await?;
    Ok(packet)
}

fn cancel(packet: &[u8]) -> io::Result<Startup> {
    let mut bytes = BytesMut::from(packet);
    let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
    let request = CancelRequest::decode(&mut bytes, &context).ok().flatten();
    let request = request.ok_or(io::ErrorKind::InvalidData)?;
    let secret = request
        .secret_key
        .as_i32()
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok(Startup::Cancel {
        pid: request.pid,
        secret,
    })
}

fn hello(stream: Stream, packet: &[u8], mode: ClientTlsMode) -> Startup {
    let encrypted = stream.is_tls() || stream.is_unix();
    let port = Port::new(stream);
    let refuse = |port, code, message: String, hint: &'static str| {
        Startup::Refused(Box::new(port), ClientError::fatal(code, message).hint(hint))
    };
    let major = u16::from_be_bytes([packet[4], packet[5]]);
    if major != 3 {
        let message = format!("unsupported frontend protocol {major}: server supports 3.0");
        return refuse(
            port,
            SqlState::FEATURE_NOT_SUPPORTED,
            message,
            "Update the driver.",
        );
    }
    let decoded = StartupMessage::decode(&mut BytesMut::from(packet), &DecodeContext::default())
        .ok()
        .flatten()
        .filter(|_| packet.last() == Some(&0));
    let Some(message) = decoded else {
        let text = "invalid startup packet layout".to_owned();
        return refuse(
            port,
            SqlState::PROTOCOL_VIOLATION,
            text,
            "Is this a PostgreSQL client?",
        );
    };
    if mode == ClientTlsMode::Require && !encrypted {
        let text = "connections must be encrypted".to_owned();
        return refuse(
            port,
            SqlState::INVALID_AUTHORIZATION,
            text,
            "Connect with sslmode=require.",
        );
    }
    let minor = message.protocol_number_minor;
    match read_parameters(message.parameters) {
        Ok(mut p) => {
            if let Some(unsupported) = p.unsupported.as_mut() {
                unsupported.sort();
            } else if minor > 0 {
                p.unsupported = Some(Vec::new());
            }
            Startup::Session(Box::new(Hello {
                port,
                user: p.user,
                database: p.database,
                settings: p.settings,
                unsupported: p.unsupported,
            }))
        }
        Err(error) => Startup::Refused(Box::new(port), error),
    }
}

#[derive(Debug, Default)]
struct Parameters {
    user: String,
    database: String,
    settings: BTreeMap<String, String>,
    unsupported: Option<Vec<String>>,
}

fn read_parameters(parameters: BTreeMap<String, String>) -> Result<Parameters, ClientError> {
    let mut out = Parameters::default();
    let mut options = String::new();
    for (name, value) in parameters {
        match name.as_str() {
            "user" => out.user = value,
            "database" => out.database = value,
            "options" => options = value,
            "replication" if matches!(value.as_str(), "false" | "off" | "no" | "0") => {}
            "replication" => {
                return Err(ClientError::fatal(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "replication connections are not supported",
                )
                .hint("Connect to the PostgreSQL server itself."));
            }
            "standard_conforming_strings" if !is_on(&value) => return Err(plain_strings_only()),
            _ if name.starts_with("_pq_.") => out.unsupported.get_or_insert_default().push(name),
            _ => {
                out.settings.insert(name.to_ascii_lowercase(), value);
            }
        }
    }
    if out.user.is_empty() {
        return Err(ClientError::fatal(
            SqlState::INVALID_AUTHORIZATION,
            "no PostgreSQL user name specified in startup packet",
        ));
    }
    if out.database.is_empty() {
        out.database.clone_from(&out.user);
    }
    // What the packet says by name comes after its options, and so counts.
    for (name, value) in parse_options(&options)? {
        if name == "standard_conforming_strings" && !is_on(&value) {
            return Err(plain_strings_only());
        }
        out.settings.entry(name).or_insert(value);
    }
    Ok(out)
}

fn is_on(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "on" | "true" | "yes" | "1"
    )
}

/// With backslash escapes in plain strings a statement would have other literals than the router
/// reads.
pub(super) fn plain_strings_only() -> ClientError {
    ClientError::fatal(
        SqlState::FEATURE_NOT_SUPPORTED,
        "standard_conforming_strings must stay on",
    )
    .hint("Write strings with backslash escapes as E'...'.")
}

/// The command-line options of a startup packet: `-c name=value` and `--name=value`, words
/// separated by white space, a backslash taking the next character as it is.
fn parse_options(text: &str) -> Result<Vec<(String, String)>, ClientError> {
    let mut words = split_words(text).into_iter();
    let mut out = Vec::new();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next()
        } else {
            word.strip_prefix("--")
                .or_else(|| word.strip_prefix("-c"))
                .map(str::to_owned)
        };
        let pair = setting.as_deref().and_then(|s| s.split_once('='));
        let Some((name, value)) = pair else {
            return Err(ClientError::fatal(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("option {word:?} in the startup packet is not supported"),
            )
            .hint("Use -c name=value."));
        };
        out.push((
            name.replace('-', "_").to_ascii_lowercase(),
            value.to_owned(),
        ));
    }
    Ok(out)
}

fn split_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c.is_ascii_whitespace() {
            words.extend(word.take());
        } else {
            let c = if c == '\\' {
                chars.next().unwrap_or(c)
            } else {
                c
            };
            word.get_or_insert_default().push(c);
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(options: &str) -> Vec<(String, String)> {
        parse_options(options).unwrap()
    }

    #[test]
    fn options_are_read_as_postgresql_reads_them() {
        let owned = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        assert_eq!(
            pairs(r"-c geqo=off --search-path=a,\ b  -cwork_mem=1MB"),
            [
                owned("geqo", "off"),
                owned("search_path", "a, b"),
                owned("work_mem", "1MB")
            ]
        );
        assert!(pairs("").is_empty());
        assert!(parse_options("-d 5").is_err());
        assert!(parse_options("-c").is_err());
    }

    #[test]
    fn the_database_defaults_to_the_user() {
        let p = read_parameters(BTreeMap::from([("user".into(), "u".into())])).unwrap();
        assert_eq!(p.database, "u");
        assert!(read_parameters(BTreeMap::new()).is_err());
        let escapes = |n: &str, v: &str| {
            read_parameters(BTreeMap::from([
                ("user".into(), "u".into()),
                (n.into(), v.into()),
            ]))
        };
        assert!(escapes("standard_conforming_strings", "off").is_err());
        assert!(escapes("options", "-c standard_conforming_strings=0").is_err());
        assert!(escapes("standard_conforming_strings", "on").is_ok());
    }

    #[test]
    fn protocol_extensions_are_not_settings() {
        let p = read_parameters(BTreeMap::from([
            ("user".into(), "u".into()),
            ("_pq_.x".into(), "1".into()),
            ("DateStyle".into(), "ISO".into()),
        ]))
        .unwrap();
        assert_eq!(p.unsupported, Some(vec!["_pq_.x".to_owned()]));
        assert_eq!(p.settings.keys().collect::<Vec<_>>(), ["datestyle"]);
    }
}
