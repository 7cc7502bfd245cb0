//! Opening a connection: TCP or Unix socket, TLS, startup, authentication
//! (PostgreSQL documentation, section 55.2.1).

use std::sync::Arc;

use bytes::BytesMut;
use pgwire::messages::startup::{Authentication, SecretKey, Startup};
use pgwire::messages::{DecodeContext, Message, ProtocolVersion};
use postgres_protocol::authentication::md5_hash;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::topology::Address;
use crate::wire::scram::{ClientExchange, Keys, SCRAM, SCRAM_PLUS};
use crate::wire::{self, Fill, Port, Stream};

use super::conn::LoggedIn;
use super::{Error, ServerSecret, ServerTlsMode};

/// How to log in to a server as one user of one database.
#[derive(Clone)]
pub struct Login {
    /// The role on the server.
    pub user: Arc<str>,
    /// What proves it.
    pub secret: Arc<ServerSecret>,
    /// The database on the server.
    pub dbname: Arc<str>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("dbname", &self.dbname)
            .finish()
    }
}

/// TLS towards the servers: the mode and, unless it is `disable`, how.
#[derive(Clone, Debug)]
pub struct Tls {
    /// When to encrypt.
    pub mode: ServerTlsMode,
    /// With which certificates.
    pub config: Option<Arc<rustls::ClientConfig>>,
}

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Opens a connection and logs in. The caller bounds the time.
pub(super) async fn connect(
    address: &Address,
    login: &Login,
    tls: &Tls,
) -> Result<LoggedIn, Error> {
    connect_with(address, login, tls, &[]).await
}

/// The same, with settings for the session.
pub(super) async fn connect_with(
    address: &Address,
    login: &Login,
    tls: &Tls,
    settings: &[(&str, &str)],
) -> Result<LoggedIn, Error> {
    let stream = open(address, tls).await.map_err(|cause| Error::Connect {
        server: address.clone(),
        cause: cause.to_string(),
    })?;
    let mut handshake = Handshake {
        port: Port::new(stream),
        address,
        login,
    };
    handshake.startup(settings).await?;
    handshake.authenticate().await?;
    handshake.until_ready().await
}

/// Opens the stream that a [`Login`] or a CancelRequest goes over.
pub(super) async fn open(address: &Address, tls: &Tls) -> std::io::Result<Stream> {
    if address.host.starts_with('/') {
        let path = format!("{}/.s.PGSQL.{}", address.host, address.port);
        return Ok(Stream::Unix(UnixStream::connect(path).await?));
    }
    let mut tcp = TcpStream::connect((&*address.host, address.port)).await?;
    tcp.set_nodelay(true)?;
    let socket = socket2::SockRef::from(&tcp);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(std::time::Duration::from_secs(5))
        .with_interval(std::time::Duration::from_secs(1))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    let Some(config) = tls
        .config
        .as_ref()
        .filter(|_| tls.mode != ServerTlsMode::Disable)
    else {
        return Ok(Stream::Tcp(tcp));
    };
    tcp.write_all(&SSL_REQUEST).await?;
    // Exactly one byte is read: what else a server sent in clear stays unread and spoils the
    // handshake, as it must.
    match tcp.read_u8().await? {
        b'S' => {
            let name = ServerName::try_from(address.host.to_string())
                .map_err(|e| std::io::Error::other(format!("host name for TLS: {e}")))?;
            let stream = TlsConnector::from(config.clone())
                .connect(name, tcp)
                .await?;
            Ok(Stream::TlsClient(Box::new(stream)))
        }
        b'N' if tls.mode == ServerTlsMode::Prefer => Ok(Stream::Tcp(tcp)),
        b'N' => Err(std::io::Error::other(
            "the server does not offer TLS, which is required",
        )),
        _ => Err(std::io::Error::other(
            "the server answered SSLRequest with an error",
        )),
    }
}

struct Handshake<'a> {
    port: Port,
    address: &'a Address,
    login: &'a Login,
}

impl Handshake<'_> {
    fn lost(&self, cause: impl std::fmt::Display) -> Error {
        Error::Connect {
            server: self.address.clone(),
            cause: cause.to_string(),
        }
    }

    fn refused(&self, code: &str, message: &str) -> Error {
        Error::Login {
            server: self.address.clone(),
            code: code.into(),
            message: message.into(),
        }
    }

    async fn send(&mut self) -> Result<(), Error> {
        self.port.flush().await.map_err(|e| self.lost(e))
    }

    /// The next frame; an ErrorResponse becomes the error it tells of, a notice is passed over.
    async fn frame(&mut self) -> Result<(u8, Vec<u8>), Error> {
        loop {
            let header = wire::frame_at(self.port.input.bytes()).map_err(|e| self.lost(e))?;
            if let Some(h) = header.filter(|h| self.port.input.len() >= h.total) {
                let body = self.port.input.bytes()[5..h.total].to_vec();
                self.port.input.consume(h.total);
                match h.tag {
                    b'E' => return Err(self.server_error(&body)),
                    b'N' => continue,
                    tag => return Ok((tag, body)),
                }
            }
            match self.port.fill().await {
                Ok(Fill::Bytes(_)) => {}
                Ok(Fill::End) => return Err(self.lost("closed during login")),
                Err(e) => return Err(self.lost(e)),
            }
        }
    }

    fn server_error(&self, body: &[u8]) -> Error {
        let field = |wanted| {
            wire::error_fields(body)
                .find(|(code, _)| *code == wanted)
                .map_or("", |(_, text)| text)
        };
        self.refused(field(b'C'), field(b'M'))
    }

    async fn startup(&mut self, settings: &[(&str, &str)]) -> Result<(), Error> {
        let mut message = Startup::new();
        let names = [
            ("user", &*self.login.user),
            ("database", &*self.login.dbname),
        ];
        message.parameters = names
            .iter()
            .chain(settings)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes).map_err(|e| self.lost(e))?;
        self.port.output.put(&bytes);
        self.send().await
    }

    async fn authentication(&mut self) -> Result<Authentication, Error> {
        match self.frame().await? {
            (b'R', body) if body.len() >= 4 => {
                let length = body.len() + 4;
                // pgwire reads four bytes of salt without looking whether they are there.
                if body[..4] == [0, 0, 0, 5] && body.len() < 8 {
                    return Err(self.lost("a malformed authentication request"));
                }
                let mut bytes = BytesMut::from(&body[..]);
                Authentication::decode_body(&mut bytes, length, &DecodeContext::default())
                    .map_err(|e| self.lost(e))
            }
            (tag, _) => Err(self.lost(format!("message {:?} during authentication", tag as char))),
        }
    }

    async fn authenticate(&mut self) -> Result<(), Error> {
        match self.authentication().await? {
            Authentication::Ok => return Ok(()),
            Authentication::CleartextPassword => {
                let password = self.password()?;
                self.password_message(password.as_bytes(), true);
            }
            Authentication::MD5Password(salt) => {
                let answer = self.md5(&salt)?;
                self.password_message(answer.as_bytes(), true);
            }
            Authentication::SASL(offered) if offered.iter().any(|m| m == SCRAM) => {
                self.scram(&offered).await?;
            }
            other => {
                return Err(self.refused("28000", &format!("method {other:?} is not supported")));
            }
        }
        self.send().await?;
        match self.authentication().await? {
            Authentication::Ok => Ok(()),
            _ => Err(self.lost("authentication did not end")),
        }
    }

    fn password(&self) -> Result<Zeroizing<String>, Error> {
        let password = self.login.secret.password();
        password.ok_or_else(|| {
            self.unproven("the server asks for a password that pgdrover does not have")
        })
    }

    fn unproven(&self, cause: &'static str) -> Error {
        Error::Unproven {
            server: self.address.clone(),
            role: self.login.user.to_string(),
            cause,
        }
    }

    fn password_message(&mut self, answer: &[u8], terminated: bool) {
        self.port.output.frame(b'p', |out| {
            out.put(answer);
            if terminated {
                out.put_u8(0);
            }
        });
    }

    fn md5(&self, salt: &[u8]) -> Result<String, Error> {
        let salt: [u8; 4] = salt
            .try_into()
            .map_err(|_| self.lost("a salt of the wrong length"))?;
        let password = self.password()?;
        let Some(stored) = password.strip_prefix("md5").filter(|h| h.len() == 32) else {
            return Ok(md5_hash(
                self.login.user.as_bytes(),
                password.as_bytes(),
                salt,
            ));
        };
        // The stored form is the inner hash already: md5(md5(password + user) + salt).
        use md5::{Digest, Md5};
        let digest = Md5::new()
            .chain_update(stored.as_bytes())
            .chain_update(salt)
            .finalize();
        Ok(digest
            .iter()
            .fold("md5".to_owned(), |hex, b| hex + &format!("{b:02x}")))
    }

    /// SCRAM-SHA-256, bound to the channel where both sides can.
    async fn scram(&mut self, offered: &[String]) -> Result<(), Error> {
        let end_point = self.port.stream().server_end_point();
        let plus = offered.iter().any(|m| m == SCRAM_PLUS);
        let refused = end_point.is_some() && !plus;
        let end_point = end_point.filter(|_| plus);
        let mechanism = match end_point {
            Some(_) => SCRAM_PLUS,
            None => SCRAM,
        };
        let exchange = ClientExchange::new(end_point.as_deref(), refused);
        let first = exchange.first();
        self.port.output.frame(b'p', |out| {
            out.put(mechanism.as_bytes());
            out.put_u8(0);
            out.put_u32(first.len() as u32);
            out.put(first.as_bytes());
        });
        self.send().await?;
        let Authentication::SASLContinue(challenge) = self.authentication().await? else {
            return Err(self.lost("no SASL challenge"));
        };
        let challenged = exchange.challenged(&challenge).map_err(|e| self.lost(e))?;
        let (salt, iterations) = (challenged.salt.clone(), challenged.iterations);
        let keys = self.keys(&salt, iterations).await?;
        let (last, expected) = challenged.answer(&keys);
        self.password_message(last.as_bytes(), false);
        self.send().await?;
        match self.authentication().await {
            Ok(Authentication::SASLFinal(proof)) if expected.is(&proof) => Ok(()),
            Ok(Authentication::SASLFinal(_)) => {
                Err(self.lost("the server does not know the password that it asks for"))
            }
            Ok(_) => Err(self.lost("no SASL outcome")),
            Err(Error::Login { code, message, .. }) if code == "28P01" => {
                let secret = &self.login.secret;
                secret.refuse(&salt, iterations);
                match secret.password() {
                    Some(_) => Err(self.refused(&code, &message)),
                    None => Err(self.unproven("the server refused what the client's login proved")),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// What proves the role to a server whose verifier has this salt. Deriving it from a password
    /// takes milliseconds or more, as many as the server likes: not on a thread that serves
    /// clients, and once for each verifier.
    async fn keys(&self, salt: &[u8], iterations: u32) -> Result<Keys, Error> {
        let secret = &self.login.secret;
        if let Some(keys) = secret.keys(salt, iterations) {
            return Ok(keys);
        }
        let Some(password) = secret.password() else {
            return Err(self.unproven(match secret.is_refused() {
                true => "its password was changed since the client logged in",
                false => "no login of a client has proven the password that the server has",
            }));
        };
        let salt = salt.to_owned();
        let derive = move || Keys::of_password(&password, &salt, iterations);
        let keys = tokio::task::spawn_blocking(derive).await;
        let keys = keys.map_err(|e| self.lost(e))?;
        secret.learn(keys.clone());
        Ok(keys)
    }

    async fn until_ready(mut self) -> Result<LoggedIn, Error> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        let mut key = (0, 0);
        loop {
            match self.frame().await? {
                (b'S', body) => {
                    if let Some((name, rest)) = wire::cstr(&body)
                        && let Some(value) = wire::first_cstr(rest)
                    {
                        let text = |b| String::from_utf8_lossy(b).into_owned();
                        parameters.push((text(name), text(value)));
                    }
                }
                (b'K', body) if body.len() >= 8 => key = self.key_data(&body)?,
                (b'Z', _) => break,
                (b'v', _) => {}
                (tag, _) => {
                    return Err(self.lost(format!("message {:?} during login", tag as char)));
                }
            }
        }
        let in_recovery = parameters
            .iter()
            .any(|(n, v)| n == "in_hot_standby" && v == "on");
        let address = self.address.clone();
        Ok(LoggedIn {
            port: self.port,
            address,
            key,
            in_recovery,
            parameters,
        })
    }

    fn key_data(&self, body: &[u8]) -> Result<(i32, i32), Error> {
        let mut bytes = BytesMut::from(body);
        let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
        let data = pgwire::messages::startup::BackendKeyData::decode_body(
            &mut bytes,
            body.len() + 4,
            &context,
        )
        .map_err(|e| self.lost(e))?;
        match data.secret_key {
            SecretKey::I32(secret) => Ok((data.pid, secret)),
            SecretKey::Bytes(_) => Err(self.lost("a cancel key of another protocol version")),
        }
    }
}
