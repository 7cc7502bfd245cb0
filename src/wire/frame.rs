//! Reading frames: headers, and views into the few messages that routing looks at.

/// Longest frame that either side may send: PostgreSQL's own bound (`PQ_LARGE_MESSAGE_LIMIT`).
pub const MAX_FRAME: usize = 0x3fff_ffff;

/// A frame's tag and its whole length, header included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The message type.
    pub tag: u8,
    /// Bytes from the tag to the end of the body.
    pub total: usize,
}

/// The peer broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length field cannot be.
    #[error("message of type {} has an invalid length of {length}", *.tag as char)]
    Length {
        /// The message type.
        tag: u8,
        /// What the field said.
        length: u32,
    },
    /// A client that copies in may send data and the end of it, nothing else.
    #[error("unexpected message type 0x{0:02X} during COPY from stdin")]
    InCopy(u8),
    /// The body does not have the form of its type.
    #[error("message of type {} is malformed", *.0 as char)]
    Body(u8),
}

/// The header of the frame that begins at `bytes`; `None` until five bytes are there.
pub fn frame_at(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
    let Some((head, _)) = bytes.split_first_chunk::<5>() else {
        return Ok(None);
    };
    let tag = head[0];
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if !(4..=MAX_FRAME as u32).contains(&length) {
        return Err(FrameError::Length { tag, length });
    }
    Ok(Some(Header {
        tag,
        total: 1 + length as usize,
    }))
}

/// Splits a zero-terminated string off the front of `bytes`.
pub fn cstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// The zero-terminated string at the front of a body.
pub fn first_cstr(body: &[u8]) -> Option<&[u8]> {
    cstr(body).map(|(s, _)| s)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Parse (`P`): statement name, text, declared parameter types.
#[derive(Clone, Copy, Debug)]
pub struct ParseView<'a> {
    /// The statement's name; empty for the unnamed one.
    pub name: &'a [u8],
    /// The text.
    pub sql: &'a [u8],
    types: &'a [u8],
}

impl<'a> ParseView<'a> {
    /// Reads the body of a Parse message.
    pub fn new(body: &'a [u8]) -> Result<Self, FrameError> {
        Self::read(body).ok_or(FrameError::Body(b'P'))
    }

    fn read(body: &'a [u8]) -> Option<Self> {
        let (name, rest) = cstr(body)?;
        let (sql, rest) = cstr(rest)?;
        let count = usize::from(u16_at(rest, 0)?);
        let types = &rest[2..];
        (types.len() == count * 4).then_some(ParseView { name, sql, types })
    }

    /// The declared types' OIDs; 0 where the client leaves it to the server.
    pub fn types(&self) -> impl Iterator<Item = u32> + 'a {
        self.types
            .as_chunks::<4>()
            .0
            .iter()
            .map(|c| u32::from_be_bytes(*c))
    }
}

/// Bind (`B`): portal, statement, and the parameters' values.
#[derive(Clone, Copy, Debug)]
pub struct BindView<'a> {
    /// The portal's name; empty for the unnamed one.
    pub portal: &'a [u8],
    /// The statement's name; empty for the unnamed one.
    pub statement: &'a [u8],
    formats: &'a [u8],
    count: usize,
    values: &'a [u8],
}

impl<'a> BindView<'a> {
    /// Reads the body of a Bind message as far as the parameter values.
    pub fn new(body: &'a [u8]) -> Result<Self, FrameError> {
        Self::read(body).ok_or(FrameError::Body(b'B'))
    }

    fn read(body: &'a [u8]) -> Option<Self> {
        let (portal, rest) = cstr(body)?;
        let (statement, rest) = cstr(rest)?;
        let formats_end = 2 + 2 * usize::from(u16_at(rest, 0)?);
        let formats = rest.get(2..formats_end)?;
        let count = usize::from(u16_at(rest, formats_end)?);
        Some(BindView {
            portal,
            statement,
            formats,
            count,
            values: &rest[formats_end + 2..],
        })
    }

    /// How many parameters there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether parameter `index` is in binary format: one format code stands for all, none for text.
    pub fn is_binary(&self, index: usize) -> bool {
        match self.formats.len() / 2 {
            0 => false,
            1 => self.formats[1] == 1,
            _ => u16_at(self.formats, index * 2) == Some(1),
        }
    }

    /// The value of parameter `index`: `None` if there is no such parameter or the message is cut
    /// short, `Some(None)` for NULL.
    pub fn value(&self, index: usize) -> Option<Option<&'a [u8]>> {
        if index >= self.count {
            return None;
        }
        let mut rest = self.values;
        for i in 0..=index {
            let (head, tail) = rest.split_first_chunk::<4>()?;
            let length = i32::from_be_bytes(*head);
            let Ok(length) = usize::try_from(length) else {
                if i == index {
                    return Some(None);
                }
                rest = tail;
                continue;
            };
            let value = tail.get(..length)?;
            if i == index {
                return Some(Some(value));
            }
            rest = &tail[length..];
        }
        None
    }
}

/// The fields of an ErrorResponse or NoticeResponse body, as (code, text).
pub fn error_fields(body: &[u8]) -> impl Iterator<Item = (u8, &str)> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let (&code, tail) = rest.split_first()?;
        if code == 0 {
            return None;
        }
        let (text, tail) = cstr(tail)?;
        rest = tail;
        Some((code, std::str::from_utf8(text).unwrap_or("")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_below_four_or_over_a_gigabyte_are_refused() {
        assert!(frame_at(&[b'Q', 0, 0, 0, 3]).is_err());
        assert!(frame_at(&[b'Q', 0x40, 0, 0, 0]).is_err());
        assert!(frame_at(&[b'Q', 0xff, 0xff, 0xff, 0xff]).is_err());
        assert_eq!(frame_at(&[b'Q', 0, 0, 0]), Ok(None));
        assert_eq!(
            frame_at(&[b'S', 0, 0, 0, 4]),
            Ok(Some(Header {
                tag: b'S',
                total: 5
            }))
        );
    }

    #[test]
    fn bind_values_are_found_behind_nulls() {
        let body = b"p\0s\0\0\x01\0\x01\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\x01c\0\0";
        let view = BindView::new(body).unwrap();
        assert_eq!((view.portal, view.statement), (&b"p"[..], &b"s"[..]));
        assert!(view.is_binary(2));
        assert_eq!(view.value(0), Some(Some(&b"ab"[..])));
        assert_eq!(view.value(1), Some(None));
        assert_eq!(view.value(2), Some(Some(&b"c"[..])));
        assert_eq!(view.value(3), None);
    }

    #[test]
    fn views_of_every_truncation_do_not_panic() {
        let bind = b"p\0s\0\0\x01\0\x01\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\x01c\0\0";
        for n in 0..bind.len() {
            if let Ok(view) = BindView::new(&bind[..n]) {
                for i in 0..4 {
                    let _ = (view.value(i), view.is_binary(i));
                }
            }
        }
        let parse = b"s\0select $1\0\0\x01\0\0\0\x17";
        for n in 0..parse.len() {
            assert!(ParseView::new(&parse[..n]).is_err());
        }
        assert_eq!(
            ParseView::new(parse).unwrap().types().collect::<Vec<_>>(),
            [23]
        );
    }
}
