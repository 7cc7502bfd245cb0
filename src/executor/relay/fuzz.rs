//! What a server answers, broken in every way and cut anywhere: the client must get the same.

use tokio::net::UnixStream;

use super::*;
use crate::backend::Sent;
use crate::fuzz::{Rng, run};
use crate::wire::Stream;

/// A message that is due: `None` for one that pgdrover itself answers, with a ParseComplete.
type Due = Option<(Sent, bool)>;

fn frame(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
}

/// What a server may answer to one message.
fn answer(sent: Sent, out: &mut Vec<u8>, rng: &mut Rng) {
    const UNASKED: [(u8, &[u8]); 5] = [
        (b'N', b"SNOTICE\0VNOTICE\0C00000\0Mx\0\0"),
        (b'S', b"in_hot_standby\0on\0"),
        (b'S', b"standard_conforming_strings\0off\0"),
        (b'A', b"\0\0\0\x01channel\0payload\0"),
        (b'S', b"TimeZone\0UTC\0"),
    ];
    const ERRORS: [&[u8]; 3] = [
        b"SERROR\0VERROR\0C42P01\0Mno\0Dd\0Hh\0\0",
        b"SFATAL\0VFATAL\0C57P01\0Mbye\0\0",
        b"SERROR\0VERROR\0Cxx\xff\0",
    ];
    const TAGS: [&[u8]; 3] = [b"SELECT 3\0", b"ROLLBACK\0", b"COPY 1\0"];
    if rng.once_in(4) {
        let (tag, body) = rng.pick(&UNASKED);
        frame(out, tag, body);
    }
    if rng.once_in(8) && sent != Sent::Sync {
        frame(out, b'E', rng.pick(&ERRORS));
    }
    let rows = |out: &mut Vec<u8>, rng: &mut Rng| {
        for _ in 0..rng.below(4) {
            let length = rng.pick(&[0, 1, 10, 300, 6000]);
            frame(out, rng.pick(b"DDDd"), &vec![b'x'; length]);
        }
    };
    match sent {
        Sent::Parse(_) => frame(out, b'1', b""),
        Sent::Bind => frame(out, b'2', b""),
        Sent::Close => frame(out, b'3', b""),
        Sent::Describe => {
            frame(out, b't', b"\0\0");
            frame(out, rng.pick(b"Tn"), b"\0\0");
        }
        Sent::Execute => {
            rows(out, rng);
            frame(out, rng.pick(b"CCIsGH"), rng.pick(&TAGS));
        }
        Sent::Sync => frame(out, b'Z', &[rng.pick(b"ITE")]),
        Sent::Query | Sent::Quiet => {
            frame(out, b'T', b"\0\0");
            rows(out, rng);
            frame(out, b'C', rng.pick(&TAGS));
            frame(out, b'Z', &[rng.pick(b"ITE")]);
        }
    }
}

/// What is due, and the bytes that come.
fn case(rng: &mut Rng) -> (Vec<Due>, Vec<u8>) {
    const SENT: [Sent; 9] = [
        Sent::Parse(None),
        Sent::Parse(Some(7)),
        Sent::Bind,
        Sent::Close,
        Sent::Describe,
        Sent::Execute,
        Sent::Sync,
        Sent::Query,
        Sent::Quiet,
    ];
    const TOKENS: &[&[u8]] = &[
        b"Z\0\0\0\x05I",
        b"1\0\0\0\x04",
        b"C\0\0\0\x04",
        b"D\0\0\0\x04",
        b"D\0\x0f\xff\xff",
        b"G\0\0\0\x04",
        b"E\0\0\0\x05\0",
        b"\0\0\0\x03",
        b"v\0\0\0\x04",
        b"W\0\0\0\x04",
        b"c\0\0\0\x04",
        b"R",
    ];
    let mut due = Vec::new();
    let mut bytes = Vec::new();
    for _ in 0..rng.below(7) {
        if rng.once_in(6) {
            due.push(None);
            continue;
        }
        let sent = rng.pick(&SENT);
        due.push(Some((sent, !rng.once_in(4))));
        answer(sent, &mut bytes, rng);
    }
    if rng.once_in(2) {
        bytes = rng.bytes(&[bytes], TOKENS);
    }
    (due, bytes)
}

/// Everything that can be seen of a scan of bytes that come in chunks.
fn relayed(due: &[Due], chunks: &[&[u8]], left: &mut Vec<u8>) -> String {
    let (stream, _other) = UnixStream::pair().unwrap();
    let mut conn = Conn::for_tests(Port::new(Stream::Unix(stream)));
    for message in due {
        match message {
            Some((sent, for_client)) => conn.ledger.sent(*sent, *for_client),
            None => conn.ledger.owe(b'1'),
        }
    }
    let (mut out, mut progress) = (Buffer::default(), Progress::default());
    if conn.ledger.is_silent() {
        owed(&mut conn, &mut out, &mut progress);
    }
    let mut rest = (0, false);
    let mut outcome = Ok(());
    for chunk in chunks {
        conn.port.input.put(chunk);
        outcome = scan(&mut conn, &mut out, &mut rest, &mut progress);
        if outcome.is_err() {
            break;
        }
    }
    assert_eq!(progress.to_client, out.len() as u64);
    if outcome.is_ok() {
        left.extend(conn.port.input.bytes());
        assert!(!progress.mid_frame || rest.0 > 0);
    }
    format!(
        "{outcome:?} {progress:?} {} {} {:?} {} {:?} {} {}",
        rest.0,
        rest.0 > 0 && rest.1,
        conn.ledger,
        conn.status,
        conn.parameters(),
        conn.in_recovery,
        out.bytes().escape_ascii(),
    )
}

/// A server that breaks the protocol: the tag's length leaves out half of it.
#[test]
fn a_tag_ends_with_its_frame() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let bytes = b"C\0\0\0\x09ROLLBACK\0Z\0\0\0\x05I";
    let seen = relayed(&[Some((Sent::Query, true))], &[bytes], &mut Vec::new());
    assert!(seen.contains("rollbacks: []"), "{seen}");
}

#[test]
fn fuzz_relay_is_the_same_in_any_split() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    run("fuzz_relay", 1500, case, |(due, bytes), rng| {
        let (mut left, mut also) = (Vec::new(), Vec::new());
        let whole = relayed(due, &[bytes], &mut left);
        let cut = relayed(due, &rng.chunks(bytes), &mut also);
        assert_eq!(cut, whole);
        assert_eq!(also, left);
    });
}
