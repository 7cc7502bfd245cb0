//! The scanner: one pass over a text's bytes, as PostgreSQL's lexer cuts it, without parsing.
//!
//! It produces the text's *shape* (spacing, comments and letter case normalised, literals
//! replaced by marks of their kind) and where the literals stand. Texts of one shape get one
//! plan, so a shape must never hide anything that could change a plan: what is uncertain stays
//! in it verbatim. Strings are read as with `standard_conforming_strings = on`.

use std::ops::Range;

/// What kind of constant a literal is. Kinds have distinct marks in the shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LiteralKind {
    /// Digits only.
    Integer,
    /// With a point or an exponent.
    Decimal,
    /// `'…'`.
    String,
    /// `E'…'`.
    Escape,
}

impl LiteralKind {
    fn mark(self) -> u8 {
        match self {
            LiteralKind::Integer => 1,
            LiteralKind::Decimal => 3,
            LiteralKind::String => 4,
            LiteralKind::Escape => 5,
        }
    }
}

/// Encloses a hint within the shape.
const HINT_MARK: u8 = 2;

/// A literal of the text, quotes included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Literal {
    /// First byte.
    pub(super) start: u32,
    /// First byte after it.
    pub(super) end: u32,
    /// Its kind.
    pub(super) kind: LiteralKind,
}

impl Literal {
    /// Its text.
    pub(super) fn text<'a>(&self, sql: &'a str) -> &'a str {
        &sql[self.start as usize..self.end as usize]
    }
}

/// A comment that may hold a hint, and the number of the statement that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HintComment {
    /// Counted from 0 among the statements of the text.
    pub(super) statement: usize,
    /// The comment's text without its delimiters.
    pub(super) body: Range<usize>,
    /// `--` rather than `/* */`.
    pub(super) line: bool,
}

/// What the scanner found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The shape: equal for texts that differ only in literals, spacing, comments and case.
    pub(super) shape: Vec<u8>,
    /// The literals in order, except ordinals of ORDER BY and GROUP BY, which the shape keeps.
    pub(super) literals: Vec<Literal>,
    /// Comments, to be blanked before parsing.
    pub(super) comments: Vec<Range<usize>>,
    /// Comments that look like hints.
    pub(super) hints: Vec<HintComment>,
    /// Where each statement begins and ends, without the semicolons. Empty ones are left out.
    pub(super) statements: Vec<Range<usize>>,
    /// A string, identifier or comment does not end, or a byte cannot stand where it does:
    /// PostgreSQL answers with a syntax error, and the shape is not to be shared.
    pub(super) broken: bool,
    /// The shape is not to be shared for another reason.
    pub(super) unshared: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Nothing, or a token without meaning for what follows.
    Other,
    /// The word `by`.
    By,
    /// A comma.
    Comma,
}

struct Scanner<'a> {
    sql: &'a [u8],
    at: usize,
    out: Scan,
    /// Spacing stands before the next token.
    space: bool,
    /// First token of the current statement and the end of its last one.
    start: Option<usize>,
    end: usize,
    /// Whether literals of the current statement are abstracted; unknown until its first word.
    share: Option<bool>,
    depth: u32,
    /// The depth of the ORDER BY or GROUP BY list that we are in.
    by: Option<u32>,
    last: Last,
    /// Open `BEGIN ATOMIC` and `CASE`, whose semicolons do not end the statement.
    atomic: u32,
    after_begin: bool,
}

/// Scans `sql`.
pub(super) fn scan(sql: &str) -> Scan {
    let mut scanner = Scanner {
        sql: sql.as_bytes(),
        at: 0,
        out: Scan {
            shape: Vec::with_capacity(sql.len() + 16),
            literals: Vec::with_capacity(8),
            ..Scan::default()
        },
        space: false,
        start: None,
        end: 0,
        share: None,
        depth: 0,
        by: None,
        last: Last::Other,
        atomic: 0,
        after_begin: false,
    };
    scanner.run();
    scanner.out
}

const SPACE: u8 = 1;
const WORD_START: u8 = 2;
const WORD: u8 = 4;

/// What each byte may be: one look for each byte of a text.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut b = 0;
    while b < 256 {
        let byte = b as u8;
        classes[b] = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => SPACE,
            b'0'..=b'9' | b'$' => WORD,
            b'_' | b'a'..=b'z' | b'A'..=b'Z' | 0x80..=0xff => WORD | WORD_START,
            _ => 0,
        };
        b += 1;
    }
    classes
};

fn is_space(b: u8) -> bool {
    CLASSES[b as usize] == SPACE
}

fn is_word_start(b: u8) -> bool {
    CLASSES[b as usize] & WORD_START != 0
}

fn is_word(b: u8) -> bool {
    CLASSES[b as usize] & WORD != 0
}

impl Scanner<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.sql.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn run(&mut self) {
        while let Some(&b) = self.sql.get(self.at) {
            match b {
                b if is_space(b) => {
                    self.space = true;
                    self.at += 1;
                }
                b'-' if self.peek(1) == b'-' => self.line_comment(),
                b'/' if self.peek(1) == b'*' => self.block_comment(),
                b';' if self.atomic == 0 => {
                    self.at += 1;
                    self.end_statement();
                }
                b'\'' => {
                    self.begin();
                    let start = self.at;
                    self.quoted(b'\'', false);
                    self.literal(start, LiteralKind::String);
                }
                b'"' => {
                    self.begin();
                    let start = self.at;
                    self.quoted(b'"', false);
                    self.verbatim(start);
                }
                b'$' => self.dollar(),
                b if is_word_start(b) => self.word(),
                b if b.is_ascii_digit() => self.number(),
                b'.' if self.peek(1).is_ascii_digit() => self.number(),
                _ => self.symbol(b),
            }
        }
        self.end_statement();
        // A hint after the last semicolon belongs to the statement before it.
        let last = self.out.statements.len().saturating_sub(1);
        for hint in &mut self.out.hints {
            hint.statement = hint.statement.min(last);
        }
    }

    /// A token begins here.
    fn begin(&mut self) {
        if self.start.is_none() {
            self.start = Some(self.at);
            if !self.out.statements.is_empty() {
                self.out.shape.push(b';');
            }
        } else if self.space {
            self.out.shape.push(b' ');
        }
        self.space = false;
    }

    /// The token from `start` to here goes into the shape as it is.
    fn verbatim(&mut self, start: usize) {
        self.out.shape.extend_from_slice(&self.sql[start..self.at]);
        self.end = self.at;
        self.last = Last::Other;
    }

    fn literal(&mut self, start: usize, kind: LiteralKind) {
        let ordinal =
            kind == LiteralKind::Integer && self.by == Some(self.depth) && self.last != Last::Other;
        if !ordinal {
            self.out.literals.push(Literal {
                start: start as u32,
                end: self.at as u32,
                kind,
            });
        }
        if ordinal || self.share != Some(true) {
            self.verbatim(start);
        } else {
            self.out.shape.push(kind.mark());
            self.end = self.at;
            self.last = Last::Other;
        }
    }

    fn end_statement(&mut self) {
        if let Some(start) = self.start.take() {
            self.out.statements.push(start..self.end);
        }
        self.space = false;
        self.share = None;
        self.depth = 0;
        self.by = None;
        self.last = Last::Other;
        self.atomic = 0;
        self.after_begin = false;
    }

    fn line_comment(&mut self) {
        let start = self.at;
        while self.at < self.sql.len() && !matches!(self.sql[self.at], b'\n' | b'\r') {
            self.at += 1;
        }
        self.comment(start, start + 2..self.at, true);
    }

    fn block_comment(&mut self) {
        let start = self.at;
        let mut depth = 0_u32;
        while self.at < self.sql.len() {
            match (self.sql[self.at], self.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        self.comment(start, start + 2..self.at - 2, false);
                        return;
                    }
                }
                _ => self.at += 1,
            }
        }
        self.out.broken = true;
    }

    fn comment(&mut self, start: usize, body: Range<usize>, line: bool) {
        self.space = true;
        self.out.comments.push(start..self.at);
        let text = self.sql[body.clone()].trim_ascii_start();
        let named = text
            .get(..8)
            .is_some_and(|t| t.eq_ignore_ascii_case(b"pgdrover"));
        let short = !line
            && text
                .get(..5)
                .is_some_and(|t| t.eq_ignore_ascii_case(b"shard"))
            && text[5..].trim_ascii_start().starts_with(b":");
        if !named && !short {
            return;
        }
        self.out.unshared |= text.contains(&HINT_MARK);
        self.out.shape.push(HINT_MARK);
        self.out.shape.extend_from_slice(text);
        self.out.shape.push(HINT_MARK);
        self.out.hints.push(HintComment {
            statement: self.out.statements.len(),
            body,
            line,
        });
    }

    /// From an opening quote to after the closing one. A doubled quote stands for itself.
    fn quoted(&mut self, quote: u8, backslash: bool) {
        self.at += 1;
        while let Some(&b) = self.sql.get(self.at) {
            if b == quote {
                if self.peek(1) != quote {
                    self.at += 1;
                    return;
                }
                self.at += 2;
            } else if backslash && b == b'\\' {
                self.at = (self.at + 2).min(self.sql.len());
            } else {
                self.at += 1;
            }
        }
        self.out.broken = true;
    }

    /// `$1`, or a dollar-quoted string, kept verbatim.
    fn dollar(&mut self) {
        self.begin();
        let start = self.at;
        self.at += 1;
        if self.peek(0).is_ascii_digit() {
            while is_word(self.peek(0)) {
                self.at += 1;
            }
            return self.verbatim(start);
        }
        while is_word(self.peek(0)) && self.peek(0) != b'$' {
            self.at += 1;
        }
        if self.peek(0) != b'$' {
            self.out.broken = true;
            return self.verbatim(start);
        }
        self.at += 1;
        let tag = &self.sql[start..self.at];
        let rest = &self.sql[self.at..];
        match rest.windows(tag.len()).position(|w| w == tag) {
            Some(n) => self.at += n + tag.len(),
            None => {
                self.at = self.sql.len();
                self.out.broken = true;
            }
        }
        self.verbatim(start);
    }

    fn word(&mut self) {
        self.begin();
        let start = self.at;
        while self.at < self.sql.len() && is_word(self.sql[self.at]) {
            self.at += 1;
        }
        let word = &self.sql[start..self.at];
        if self.share.is_none() {
            self.share = Some(shares(word));
        }
        match (word, self.peek(0), self.peek(1)) {
            ([b'e' | b'E'], b'\'', _) => {
                self.quoted(b'\'', true);
                return self.literal(start, LiteralKind::Escape);
            }
            ([b'b' | b'B' | b'x' | b'X' | b'n' | b'N'], b'\'', _) => {
                self.quoted(b'\'', false);
                return self.verbatim(start);
            }
            ([b'u' | b'U'], b'&', quote @ (b'\'' | b'"')) => {
                self.at += 1;
                self.quoted(quote, false);
                return self.verbatim(start);
            }
            _ => {}
        }
        let from = self.out.shape.len();
        self.out.shape.extend_from_slice(&self.sql[start..self.at]);
        self.out.shape[from..].make_ascii_lowercase();
        self.end = self.at;
        self.last = Last::Other;
        let folded = &self.out.shape[from..];
        if folded == b"by" {
            self.by = Some(self.depth);
            self.last = Last::By;
        } else if self.by == Some(self.depth) && ends_by_list(folded) {
            self.by = None;
        }
        if self.share == Some(false) {
            self.routine_body(from);
        }
    }

    /// Follows `BEGIN ATOMIC … END` in CREATE FUNCTION; the folded word begins at `from` of the
    /// shape.
    fn routine_body(&mut self, from: usize) {
        let word = &self.out.shape[from..];
        match word {
            b"atomic" if self.after_begin && self.atomic == 0 => self.atomic = 1,
            b"case" if self.atomic > 0 => self.atomic += 1,
            b"end" if self.atomic > 0 => self.atomic -= 1,
            _ => {}
        }
        self.after_begin = word == b"begin";
    }

    fn number(&mut self) {
        self.begin();
        let start = self.at;
        let mut kind = LiteralKind::Integer;
        self.digits();
        if self.peek(0) == b'.' && self.peek(1) != b'.' {
            kind = LiteralKind::Decimal;
            self.at += 1;
            self.digits();
        }
        let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
        if matches!(self.peek(0), b'e' | b'E') && self.peek(1 + sign).is_ascii_digit() {
            kind = LiteralKind::Decimal;
            self.at += 1 + sign;
            self.digits();
        }
        if !is_word(self.peek(0)) {
            return self.literal(start, kind);
        }
        // `0x1f`, `1_000`, `12abc`: a number only to newer servers.
        while is_word(self.peek(0)) {
            self.at += 1;
        }
        self.verbatim(start);
    }

    fn digits(&mut self) {
        while self.peek(0).is_ascii_digit() {
            self.at += 1;
        }
    }

    fn symbol(&mut self, b: u8) {
        self.begin();
        match b {
            b'(' => self.depth += 1,
            b')' => {
                if self.by == Some(self.depth) {
                    self.by = None;
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b if b.is_ascii_control() => self.out.broken = true,
            _ => {}
        }
        self.out.shape.push(b);
        self.at += 1;
        self.end = self.at;
        self.last = if b == b',' { Last::Comma } else { Last::Other };
    }
}

/// Whether statements that begin with `word` are shared by shape: those whose literals can only
/// be values.
fn shares(word: &[u8]) -> bool {
    const WORDS: [&[u8]; 7] = [
        b"select", b"insert", b"update", b"delete", b"with", b"values", b"table",
    ];
    WORDS.iter().any(|w| word.eq_ignore_ascii_case(w))
}

/// Whether a word ends a list of ORDER BY, GROUP BY or PARTITION BY.
fn ends_by_list(word: &[u8]) -> bool {
    const WORDS: [&[u8]; 15] = [
        b"limit",
        b"offset",
        b"fetch",
        b"for",
        b"having",
        b"window",
        b"union",
        b"intersect",
        b"except",
        b"rows",
        b"range",
        b"groups",
        b"from",
        b"where",
        b"returning",
    ];
    WORDS.contains(&word)
}
