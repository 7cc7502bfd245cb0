//! Servers that misbehave while pgdrover logs in, or looks users up.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::daemon::{Running, Setup};
use crate::support::fake;
use crate::support::say;

/// A server that reads a startup packet and then does as `then` says. Returns the port.
async fn server<F>(then: impl Fn(TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = Option<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let length = tcp.read_u32().await.unwrap_or(4) as usize;
            let _ = tcp.read_exact(&mut vec![0; length - 4]).await;
            tokio::spawn(then(tcp));
        }
    });
    port
}

/// pgdrover before it: clients need no password, and nobody probes.
async fn before(port: u16, more: &str) -> Running {
    Setup::at_port("app", port)
        .with(&format!("[session]\n{more}"))
        .with("[pool]\nserver_tls_mode = \"disable\"")
        .with("[control]\ncheck_interval = \"1h\"")
        .start()
        .await
}

const TRUST: &str = "auth_type = \"trust\"";

/// The next message: its body.
async fn message(tcp: &mut TcpStream) -> Option<Vec<u8>> {
    tcp.read_u8().await.ok()?;
    let length = tcp.read_u32().await.ok()? as usize;
    let mut body = vec![0; length - 4];
    tcp.read_exact(&mut body).await.ok()?;
    Some(body)
}

/// What a client hears that needs a connection to the server.
async fn refusal(pgdrover: &Running) -> String {
    let mut raw = pgdrover.stranger().await;
    let login = raw.try_login("app", "app", &pgdrover.database, &[]).await;
    let error = login.expect_err("no way to the server");
    format!("{} {}", error.field(b'C'), error.field(b'M'))
}

/// CVE-2026-6665: a challenge with a nonce too long, and others that no honest server sends. The
/// client hears of it at once; no processor is busy for minutes with iterations.
#[tokio::test]
async fn impossible_challenges_of_a_server_are_refused() {
    for (rest, expected) in [
        (
            format!("{},s=c2FsdA==,i=4096", "x".repeat(100_000)),
            "too long",
        ),
        (
            "x,s=c2FsdA==,i=4294967295".to_owned(),
            "too many iterations",
        ),
        ("x,s=c2FsdA==,i=99999999999".to_owned(), "malformed"),
        (",s=c2FsdA==,i=1".to_owned(), "another nonce"),
        ("x,s=c2FsdA==".to_owned(), "malformed"),
    ] {
        let port = server(move |mut tcp| {
            let rest = rest.clone();
            async move {
                let offer = b"\0\0\0\x0aSCRAM-SHA-256\0\0";
                tcp.write_all(&say::frame(b'R', offer)).await.ok()?;
                let first = message(&mut tcp).await?;
                let text = String::from_utf8_lossy(&first).into_owned();
                let nonce = text.split("r=").nth(1)?.to_owned();
                let body = [&b"\0\0\0\x0b"[..], format!("r={nonce}{rest}").as_bytes()].concat();
                tcp.write_all(&say::frame(b'R', &body)).await.ok()?;
                message(&mut tcp).await.map(|_| ())
            }
        })
        .await;
        let told = refusal(&before(port, TRUST).await).await;
        assert!(
            told.starts_with("08001") && told.contains(expected),
            "{told}"
        );
    }
}

/// CVE-2026-6666: an ErrorResponse without SQLSTATE, or without anything, when pgdrover logs in.
#[tokio::test]
async fn errors_without_a_code_at_login_are_told_all_the_same() {
    for body in [
        &b"SFATAL\0Mno code here\0\0"[..],
        b"Mno code here\0\0",
        b"\0",
        b"",
        b"C\0M\0\0",
        b"Cxx",
        b"M\xff\xfe\0\0",
    ] {
        let port =
            server(move |mut tcp| async move { tcp.write_all(&say::frame(b'E', body)).await.ok() })
                .await;
        let told = refusal(&before(port, TRUST).await).await;
        assert!(told.starts_with("08001"), "{body:?}: {told}");
        assert_eq!(
            told.contains("no code"),
            body.windows(7).any(|w| w == b"no code")
        );
    }
}

/// CVE-2026-6666, in a session: the client gets what the server said, and the next one is served.
#[tokio::test]
async fn errors_without_a_code_in_a_session_are_relayed() {
    let port = fake::start(|_, mut conn| async move {
        while conn.until_query("now").await.is_some() {
            let error = say::frame(b'E', b"SERROR\0Mno code here\0\0");
            conn.send([error, fake::ready(b'I')].concat()).await;
        }
    })
    .await;
    let pgdrover = before(port, TRUST).await;
    let mut raw = pgdrover.raw().await;
    for sql in ["UPDATE t SET now = 1", "SELECT now"] {
        let frames = raw.query(sql).await;
        assert_eq!(frames[0].field(b'M'), "no code here", "{frames:?}");
    }
    assert_eq!(raw.value("SELECT 1").await, "SELECT 1");
}

/// CVE-2026-6666, in answer to auth_query; and rows that are none.
#[tokio::test]
async fn nonsense_in_answer_to_auth_query_lets_nobody_in() {
    for answer in [
        say::frame(b'E', b"Mno code here\0\0"),
        say::frame(b'E', b""),
        say::frame(b'D', b""),
        say::frame(b'D', b"\xff\xff"),
        say::frame(b'D', b"\0\x02\x7f\xff\xff\xff"),
        say::frame(b'D', &[0; 100_000]),
        b"nonsense that is no frame".to_vec(),
    ] {
        let port = fake::start(move |_, mut conn| {
            let answer = answer.clone();
            async move {
                while let Some(frame) = conn.frame().await {
                    if frame.tag == b'S' {
                        conn.send([answer.clone(), fake::ready(b'I')].concat())
                            .await;
                    }
                }
            }
        })
        .await;
        let pgdrover = before(port, "auth_user = \"app\"").await;
        let mut raw = pgdrover.stranger().await;
        let login = raw.try_login("whoever", "x", &pgdrover.database, &[]).await;
        let error = login.expect_err("nobody is let in");
        assert_eq!(error.field(b'C'), "57P03", "{error:?}");
        assert_eq!(error.field(b'M'), "cannot look up user \"whoever\"");
    }
}
