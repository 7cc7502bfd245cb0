//! PREPARE and EXECUTE in SQL, as far as pgdrover understands them to the last word. Any other
//! spelling is left to a server, which then keeps the statement, and the session its server. Pure.

use std::ops::Range;

use crate::router::{Param, Params};

/// `PREPARE name [(types)] AS body`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prepare {
    pub(super) name: String,
    /// The OIDs of the declared types.
    pub(super) types: Vec<u32>,
    /// Where the body begins.
    pub(super) body: usize,
}

/// `EXECUTE name [(arguments)]`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Execute {
    pub(super) name: String,
    /// The name in the text, with its quotes.
    pub(super) span: Range<usize>,
    /// Where the arguments begin.
    rest: usize,
}

/// The types that a PREPARE may declare here, by every name of theirs.
const TYPES: [(&str, u32); 30] = [
    ("bool", 16),
    ("boolean", 16),
    ("bytea", 17),
    ("bigint", 20),
    ("int8", 20),
    ("smallint", 21),
    ("int2", 21),
    ("int", 23),
    ("integer", 23),
    ("int4", 23),
    ("text", 25),
    ("json", 114),
    ("real", 700),
    ("float4", 700),
    ("float8", 701),
    ("double precision", 701),
    ("int[]", 1007),
    ("text[]", 1009),
    ("bigint[]", 1016),
    ("varchar", 1043),
    ("character varying", 1043),
    ("date", 1082),
    ("timestamp", 1114),
    ("timestamptz", 1184),
    ("timestamp with time zone", 1184),
    ("timestamp without time zone", 1114),
    ("interval", 1186),
    ("numeric", 1700),
    ("uuid", 2950),
    ("jsonb", 3802),
];

/// A reader of the words at the front of a text.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn skip(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
    }

    /// A word of plain characters, as it is.
    fn word(&mut self) -> Option<&'a str> {
        self.skip();
        let rest = &self.text[self.at..];
        let plain = |c: char| c == '_' || c == '$' || c.is_ascii_alphanumeric();
        let end = rest.find(|c| !plain(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        // A comment or a character beyond ASCII behind it is not understood.
        let clear = !rest[end..].starts_with(|c: char| !c.is_ascii());
        self.at += end;
        (clear && word.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())).then_some(word)
    }

    fn keyword(&mut self, keyword: &str) -> Option<()> {
        self.word()?.eq_ignore_ascii_case(keyword).then_some(())
    }

    fn sign(&mut self, sign: char) -> bool {
        self.skip();
        let found = self.text[self.at..].starts_with(sign);
        self.at += usize::from(found);
        found
    }

    /// A name as PostgreSQL folds it.
    fn name(&mut self) -> Option<(String, Range<usize>)> {
        self.skip();
        let start = self.at;
        let name = if self.sign('"') {
            let rest = &self.text[self.at..];
            let inner = &rest[..rest.find('"')?];
            self.at += inner.len() + 1;
            let whole = !self.text[self.at..].starts_with('"');
            (whole && !inner.is_empty()).then(|| inner.to_owned())?
        } else {
            self.word()?.to_ascii_lowercase()
        };
        // Longer names are cut short.
        (name.len() < 64).then_some((name, start..self.at))
    }
}

/// Reads PREPARE.
pub(super) fn prepare(text: &str) -> Option<Prepare> {
    let mut reader = Reader { text, at: 0 };
    reader.keyword("prepare")?;
    let (name, span) = reader.name()?;
    if text[span].eq_ignore_ascii_case("transaction") {
        return None;
    }
    let mut types = Vec::new();
    if reader.sign('(') {
        let list = &text[reader.at..];
        let list = &list[..list.find(')')?];
        reader.at += list.len() + 1;
        for declared in list.split(',') {
            let words: Vec<&str> = declared.split_ascii_whitespace().collect();
            let declared = words.join(" ").to_ascii_lowercase();
            types.push(TYPES.iter().find(|(name, _)| *name == declared)?.1);
        }
    }
    reader.keyword("as")?;
    reader.skip();
    let body = reader.at;
    let first = reader.word()?.to_ascii_lowercase();
    let preparable = ["select", "insert", "update", "delete", "values", "with"];
    preparable
        .contains(&first.as_str())
        .then_some(Prepare { name, types, body })
}

/// Reads EXECUTE.
pub(super) fn execute(text: &str) -> Option<Execute> {
    let mut reader = Reader { text, at: 0 };
    reader.keyword("execute")?;
    let (name, span) = reader.name()?;
    reader.skip();
    let rest = reader.at;
    matches!(text.as_bytes().get(rest), None | Some(b'(' | b';')).then_some(Execute {
        name,
        span,
        rest,
    })
}

impl Execute {
    /// The arguments, if all of them are literals that mean the same as a parameter's text.
    pub(super) fn arguments(&self, text: &str) -> Option<Arguments> {
        let list = text[self.rest..].trim_end_matches(|c: char| c == ';' || c.is_whitespace());
        if list.is_empty() {
            return Some(Arguments(Vec::new()));
        }
        let mut rest = list.strip_prefix('(')?.strip_suffix(')')?;
        let mut values = Vec::new();
        loop {
            let (value, behind) = argument(rest.trim_start())?;
            values.push(value);
            rest = behind.trim_start();
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => return rest.is_empty().then_some(Arguments(values)),
            }
        }
    }
}

/// One literal and what is behind it: a whole number, a plain string or NULL.
fn argument(text: &str) -> Option<(Option<String>, &str)> {
    if let Some(inner) = text.strip_prefix('\'') {
        let mut value = String::new();
        let mut rest = inner;
        loop {
            let (part, behind) = rest.split_once('\'')?;
            value.push_str(part);
            match behind.strip_prefix('\'') {
                Some(more) => {
                    value.push('\'');
                    rest = more;
                }
                None => return Some((Some(value), behind)),
            }
        }
    }
    let end = text.find([',', ' ']).unwrap_or(text.len());
    let (word, behind) = text.split_at(end);
    let digits = word.strip_prefix('-').unwrap_or(word);
    if word.eq_ignore_ascii_case("null") {
        return Some((None, behind));
    }
    let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    whole.then(|| (Some(word.to_owned()), behind))
}

/// The arguments of an EXECUTE, as the router asks for parameters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arguments(Vec<Option<String>>);

impl Params for Arguments {
    fn get(&self, index: usize) -> Option<Param<'_>> {
        Some(Param {
            value: self.0.get(index)?.as_deref().map(str::as_bytes),
            binary: false,
            declared_type: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prepare_is_read_to_the_last_word() {
        let read = |text| prepare(text).map(|p| (p.name, p.types, p.body));
        assert_eq!(
            read("PREPARE q AS SELECT 1"),
            Some(("q".into(), vec![], 13))
        );
        let types = "prepare \"Q q\"(int, Double  Precision,text[])as\n insert into t values($1)";
        assert!(types[48..].starts_with("insert"));
        assert_eq!(read(types), Some(("Q q".into(), vec![23, 701, 1009], 48)));
        for text in [
            "PREPARE TRANSACTION 'x'",
            "PREPARE q AS BEGIN",
            "PREPARE q (my.own) AS SELECT 1",
            "PREPARE q (numeric(3,1)) AS SELECT 1",
            "PREPARE q -- why\n AS SELECT 1",
            "PREPARE \"a\"\"b\" AS SELECT 1",
            "PREPARE ü AS SELECT 1",
            "PREPARE q AS (SELECT 1)",
            "PREPARE q",
            "PREPARE q AS",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn execute_is_read_with_its_arguments() {
        let read = |text: &str| {
            let e = execute(text)?;
            Some((text[e.span.clone()].to_owned(), e.arguments(text)))
        };
        let values =
            |v: &[Option<&str>]| Some(Arguments(v.iter().map(|v| v.map(str::to_owned)).collect()));
        let found = read("EXECUTE q;");
        assert_eq!(found, Some(("q".into(), values(&[]))));
        let found = read("execute \"Q\" ( 1,-22 , 'it''s, (x)' ,NULL) ; ");
        let wanted = values(&[Some("1"), Some("-22"), Some("it's, (x)"), None]);
        assert_eq!(found, Some(("\"Q\"".into(), wanted)));
        for unknown in [
            "EXECUTE q(1.5)",
            "EXECUTE q(a)",
            "EXECUTE q(E'x')",
            "EXECUTE q(1 + 1)",
        ] {
            assert_eq!(read(unknown), Some(("q".into(), None)), "{unknown}");
        }
        assert_eq!(read("EXECUTE q /* x */ (1)"), None);
        assert_eq!(read("EXECUTE"), None);
    }
}
