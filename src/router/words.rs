//! The words of a statement, for what is told apart by keywords alone.

use std::ops::Range;

use super::scan::Scan;

/// One word or sign, with its place in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// Folded for words, without quotes for quoted identifiers, empty for strings.
    pub(super) text: Box<str>,
    /// What it is.
    pub(super) kind: WordKind,
    /// Its bytes in the text.
    pub(super) span: Range<usize>,
}

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WordKind {
    /// A keyword or unquoted identifier.
    Plain,
    /// A quoted identifier.
    Quoted,
    /// A string of any kind.
    String,
    /// A number or parameter.
    Number,
    /// One other character.
    Sign,
}

impl Word {
    /// Whether it is this keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        self.kind == WordKind::Plain && &*self.text == keyword
    }

    /// Whether it is this sign.
    pub(super) fn sign(&self, sign: &str) -> bool {
        self.kind == WordKind::Sign && &*self.text == sign
    }

    /// Whether it can name something.
    pub(super) fn is_name(&self) -> bool {
        matches!(self.kind, WordKind::Plain | WordKind::Quoted)
    }
}

/// Cuts a statement into words; comments fall out.
pub(super) fn words(sql: &str, scan: &Scan, statement: &Range<usize>) -> Vec<Word> {
    let bytes = sql.as_bytes();
    let mut out = Vec::new();
    let mut at = statement.start;
    let mut comments = scan.comments.iter().peekable();
    while at < statement.end {
        while comments.next_if(|c| c.start < at).is_some() {}
        if let Some(comment) = comments.next_if(|c| c.start == at) {
            at = comment.end;
            continue;
        }
        if bytes[at].is_ascii_whitespace() || bytes[at] == 0x0b {
            at += 1;
            continue;
        }
        let (kind, end) = next(bytes, at, statement.end);
        let text = &sql[at..end];
        let text = match kind {
            WordKind::Plain => text.to_ascii_lowercase(),
            WordKind::Quoted => text
                .trim_start_matches('"')
                .trim_end_matches('"')
                .replace("\"\"", "\""),
            WordKind::String => String::new(),
            WordKind::Number | WordKind::Sign => text.to_string(),
        };
        out.push(Word {
            text: text.into(),
            kind,
            span: at..end,
        });
        at = end;
    }
    out
}

fn next(bytes: &[u8], at: usize, limit: usize) -> (WordKind, usize) {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || b >= 0x80;
    let run = |from: usize| {
        let rest = &bytes[from..limit];
        from + rest.iter().position(|b| !word(*b)).unwrap_or(rest.len())
    };
    let after = |n: usize| bytes.get(at + n).copied().unwrap_or(0);
    match bytes[at] {
        b'\'' => (WordKind::String, quoted(bytes, at, limit, false)),
        b'"' => (WordKind::Quoted, quoted(bytes, at, limit, false)),
        b'e' | b'E' if after(1) == b'\'' => (WordKind::String, quoted(bytes, at + 1, limit, true)),
        b'b' | b'B' | b'x' | b'X' | b'n' | b'N' if after(1) == b'\'' => {
            (WordKind::String, quoted(bytes, at + 1, limit, false))
        }
        b'$' if !after(1).is_ascii_digit() => (WordKind::String, dollar(bytes, at, limit)),
        b'$' | b'0'..=b'9' => (WordKind::Number, run(at + 1)),
        b if word(b) => (WordKind::Plain, run(at)),
        _ => (WordKind::Sign, at + 1),
    }
}

fn quoted(bytes: &[u8], at: usize, limit: usize, backslash: bool) -> usize {
    let quote = bytes[at];
    let mut i = at + 1;
    while i < limit {
        if bytes[i] == quote {
            if i + 1 < limit && bytes[i + 1] == quote {
                i += 2;
                continue;
            }
            return i + 1;
        }
        i += if backslash && bytes[i] == b'\\' { 2 } else { 1 };
    }
    limit
}

fn dollar(bytes: &[u8], at: usize, limit: usize) -> usize {
    let Some(tag) = bytes[at + 1..limit].iter().position(|b| *b == b'$') else {
        return limit;
    };
    let tag = &bytes[at..at + tag + 2];
    let body = at + tag.len();
    match bytes[body..limit].windows(tag.len()).position(|w| w == tag) {
        Some(n) => body + n + tag.len(),
        None => limit,
    }
}
