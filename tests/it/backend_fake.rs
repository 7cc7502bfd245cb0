//! Servers that break the protocol: the client concerned gets an error it understands, or is cut
//! where nothing else is possible, and nobody else notices.

use std::time::Duration;

use crate::support::daemon::{Running, Setup};
use crate::support::fake::{self, FakeConn, complete, error, ready, row, row_description};
use crate::support::raw::Raw;
use crate::support::say;

const TRUST: &str = "[session]\nauth_type = \"trust\"";

/// pgdrover before a fake server that answers every query, but those with "now" in them by
/// `misbehave`.
async fn before<F>(misbehave: impl Fn(FakeConn) -> F + Clone + Send + 'static) -> Running
where
    F: Future<Output = ()> + Send + 'static,
{
    let port = fake::start(move |_, mut conn| {
        let misbehave = misbehave.clone();
        async move {
            if conn.until_query("now").await.is_some() {
                misbehave(conn).await;
            }
        }
    })
    .await;
    Setup::at_port("fake", port)
        .with(TRUST)
        .with("[control]\ncheck_interval = \"1h\"")
        .start()
        .await
}

/// Misbehaviour on a write, beside a client that goes on undisturbed. Returns what the first one
/// was told.
async fn told_and_unnoticed(pgdrover: &Running) -> Vec<crate::support::raw::Frame> {
    let (mut a, mut b) = (pgdrover.raw().await, pgdrover.raw().await);
    b.query("BEGIN").await;
    a.send(say::query("UPDATE t SET now = 1")).await;
    let frames = tokio::time::timeout(Duration::from_secs(5), a.until(b"Z")).await;
    let frames = frames.expect("an answer or an end");
    assert!(b.value("SELECT 'unharmed'").await.contains("unharmed"));
    if frames.last().is_some_and(|f| f.tag == b'Z') {
        assert!(a.value("SELECT 'goes on'").await.contains("goes on"));
    }
    frames
}

fn is_lost(frames: &[crate::support::raw::Frame]) {
    let error = frames.iter().find(|f| f.tag == b'E').expect("an error");
    assert_eq!(error.field(b'C'), "08007", "{frames:?}");
    assert_eq!(error.field(b'S'), "ERROR");
    assert_eq!(frames.last().unwrap().body, b"I");
}

#[tokio::test]
async fn garbage_and_impossible_lengths() {
    let answers: [&'static [u8]; 4] = [
        b"garbage that is no frame at all",
        &[b'D', 0, 0, 0, 3],
        &[b'T', 0x7f, 0xff, 0xff, 0xff, 0],
        &[0; 64],
    ];
    for answer in answers {
        let pgdrover = before(move |mut conn| async move {
            conn.send(answer).await;
            std::future::pending().await
        })
        .await;
        is_lost(&told_and_unnoticed(&pgdrover).await);
    }
}

#[tokio::test]
async fn messages_out_of_place() {
    let cases: [Vec<u8>; 4] = [
        say::frame(b'2', &[]),
        say::frame(b't', &[0, 0]),
        say::frame(b'R', &[0, 0, 0, 0]),
        say::frame(b'K', &[0; 8]),
    ];
    for case in cases {
        let pgdrover = before(move |mut conn| {
            let case = case.clone();
            async move {
                conn.send(&case).await;
                std::future::pending().await
            }
        })
        .await;
        is_lost(&told_and_unnoticed(&pgdrover).await);
    }
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_spoils_the_connection() {
    let late = [
        row_description(),
        row("stale"),
        complete("SELECT 1"),
        ready(b'I'),
    ]
    .concat();
    let pgdrover = before(move |mut conn| {
        let late = late.clone();
        async move {
            let answer = [complete("UPDATE 1"), ready(b'I'), late];
            conn.send(answer.concat()).await;
            conn.until_query("never").await;
        }
    })
    .await;
    let mut client = pgdrover.raw().await;
    client.send(say::query("UPDATE t SET now = 1")).await;
    let frames = client.until(b"Z").await;
    assert_eq!(frames[0].strings()[0], "UPDATE 1", "{frames:?}");
    for i in 0..5 {
        let text = format!("SELECT {i}");
        assert_eq!(client.value(&text).await, text);
    }
}

#[tokio::test]
async fn closing_between_and_within_rows() {
    // Long enough to be on its way to the client before the end comes.
    let begin = [row_description(), row(&"x".repeat(100_000))].concat();
    let begin_again = begin.clone();
    let between = before(move |mut conn| {
        let begin = begin.clone();
        async move {
            conn.send(&begin).await;
        }
    })
    .await;
    let frames = told_and_unnoticed(&between).await;
    assert_eq!(frames[1].tag, b'D');
    is_lost(&frames);
    // Within a row nothing more can be said that the client would not take for the row's rest.
    let within = before(move |mut conn| {
        let half = row(&"x".repeat(100_000));
        let begin = begin_again.clone();
        async move {
            conn.send([&begin[..], &half[..50_000]].concat()).await;
            conn.reset();
        }
    })
    .await;
    let frames = told_and_unnoticed(&within).await;
    assert!(
        frames.iter().all(|f| f.tag != b'Z' && f.tag != b'E'),
        "{frames:?}"
    );
}

#[tokio::test]
async fn a_fatal_error_becomes_an_error_of_the_statement() {
    let pgdrover = before(|mut conn| async move {
        conn.send(error(
            "FATAL",
            "57P01",
            "terminating connection due to administrator command",
        ))
        .await;
    })
    .await;
    let frames = told_and_unnoticed(&pgdrover).await;
    is_lost(&frames);
    assert!(
        frames[0].field(b'D').contains("administrator command"),
        "{frames:?}"
    );
}

#[tokio::test]
async fn an_error_without_code_is_relayed_as_it_is() {
    let pgdrover = before(|mut conn| async move {
        let bare = say::frame(b'E', b"Mno code at all\0\0");
        conn.send([bare, ready(b'I')].concat()).await;
        conn.until_query("never").await;
    })
    .await;
    let frames = told_and_unnoticed(&pgdrover).await;
    assert_eq!(frames[0].field(b'M'), "no code at all");
}

/// A row larger than any buffer goes through in pieces, and byte for byte.
#[tokio::test]
async fn a_server_that_writes_byte_by_byte_is_understood() {
    let pgdrover = before(|mut conn| async move {
        let answer = [
            row_description(),
            row("one"),
            row(&"two".repeat(20)),
            complete("UPDATE 2"),
            ready(b'I'),
        ];
        for byte in answer.concat() {
            conn.send([byte]).await;
            tokio::task::yield_now().await;
        }
        conn.until_query("never").await;
    })
    .await;
    let frames = told_and_unnoticed(&pgdrover).await;
    let tags: Vec<u8> = frames.iter().map(|f| f.tag).collect();
    assert_eq!(tags, b"TDDCZ");
    assert_eq!(frames[2].values()[0], Some("two".repeat(20)));
}

#[tokio::test]
async fn a_login_that_is_refused_or_never_answered() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    let pgdrover = Setup::at_port("fake", port)
        .with(TRUST)
        .with("[pool]\nserver_connect_timeout = \"100ms\"")
        .start()
        .await;
    let mut raw: Raw = pgdrover.stranger().await;
    let error = raw.try_login("app", "", "fake", &[]).await.unwrap_err();
    assert_eq!(error.field(b'C'), "08001", "{error:?}");
    assert_eq!(error.field(b'S'), "FATAL");
    assert!(error.field(b'M').contains("100ms"), "{error:?}");
    silent.abort();
}
