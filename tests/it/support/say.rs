//! Frontend messages as bytes.

/// A frame: tag, length, body.
pub(crate) fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
    out
}

fn strings(parts: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend(part.as_bytes());
        out.push(0);
    }
    out
}

/// A startup packet of protocol 3.`minor`.
pub(crate) fn startup(minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(3u16.to_be_bytes());
    body.extend(minor.to_be_bytes());
    for (name, value) in parameters {
        body.extend(strings(&[name, value]));
    }
    body.push(0);
    let mut out = Vec::from((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
    out
}

/// A packet without a tag: SSLRequest, GSSENCRequest, CancelRequest.
pub(crate) fn packet(words: &[i32]) -> Vec<u8> {
    let mut out = Vec::from((words.len() as u32 * 4 + 4).to_be_bytes());
    for word in words {
        out.extend(word.to_be_bytes());
    }
    out
}

pub(crate) const SSL_REQUEST: i32 = 80_877_103;
pub(crate) const GSS_REQUEST: i32 = 80_877_104;
pub(crate) const CANCEL_REQUEST: i32 = 80_877_102;

pub(crate) fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &strings(&[sql]))
}

pub(crate) fn parse(name: &str, sql: &str) -> Vec<u8> {
    parse_typed(name, sql, &[])
}

pub(crate) fn parse_typed(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let mut body = strings(&[name, sql]);
    body.extend((types.len() as u16).to_be_bytes());
    for oid in types {
        body.extend(oid.to_be_bytes());
    }
    frame(b'P', &body)
}

/// A Bind with parameters in text format, results in text.
pub(crate) fn bind(portal: &str, statement: &str, values: &[Option<&str>]) -> Vec<u8> {
    let mut body = strings(&[portal, statement]);
    body.extend([0, 0]);
    body.extend((values.len() as u16).to_be_bytes());
    for value in values {
        match value {
            None => body.extend((-1i32).to_be_bytes()),
            Some(text) => {
                body.extend((text.len() as u32).to_be_bytes());
                body.extend(text.as_bytes());
            }
        }
    }
    body.extend([0, 0]);
    frame(b'B', &body)
}

pub(crate) fn describe_statement(name: &str) -> Vec<u8> {
    frame(b'D', &[b"S", &strings(&[name])[..]].concat())
}

pub(crate) fn describe_portal(name: &str) -> Vec<u8> {
    frame(b'D', &[b"P", &strings(&[name])[..]].concat())
}

pub(crate) fn close_statement(name: &str) -> Vec<u8> {
    frame(b'C', &[b"S", &strings(&[name])[..]].concat())
}

pub(crate) fn close_portal(name: &str) -> Vec<u8> {
    frame(b'C', &[b"P", &strings(&[name])[..]].concat())
}

/// Execute; 0 rows is all of them.
pub(crate) fn execute(portal: &str, rows: u32) -> Vec<u8> {
    let mut body = strings(&[portal]);
    body.extend(rows.to_be_bytes());
    frame(b'E', &body)
}

/// Parse, Bind, Describe and Execute of one statement by the unnamed names, without Sync.
pub(crate) fn extended(sql: &str, values: &[Option<&str>]) -> Vec<u8> {
    [
        parse("", sql),
        bind("", "", values),
        describe_portal(""),
        execute("", 0),
    ]
    .concat()
}

pub(crate) fn sync() -> Vec<u8> {
    frame(b'S', &[])
}

pub(crate) fn flush() -> Vec<u8> {
    frame(b'H', &[])
}

pub(crate) fn terminate() -> Vec<u8> {
    frame(b'X', &[])
}

pub(crate) fn copy_data(text: &str) -> Vec<u8> {
    frame(b'd', text.as_bytes())
}

pub(crate) fn copy_done() -> Vec<u8> {
    frame(b'c', &[])
}

pub(crate) fn copy_fail(reason: &str) -> Vec<u8> {
    frame(b'f', &strings(&[reason]))
}
