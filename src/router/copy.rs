//! COPY, told by its words: the parser refuses some of its forms.

use std::ops::Range;

use crate::plan::{Effect, Kind, Pin, Plan, Target};

use super::place;
use super::statement::{Context, Draft};
use super::words::Word;

impl Context<'_> {
    /// COPY of a table or a query, either way.
    pub(super) fn copy(&self, words: &[Word], span: &Range<usize>) -> Draft {
        let client = words.iter().any(|w| w.is("stdin") || w.is("stdout"));
        let mut draft = match words.get(1) {
            Some(w) if w.sign("(") => match closing(words, 1) {
                Some(end) => self.inner(&(w.span.end..words[end].span.start)),
                None => self.left_to_server("its syntax is wrong, as a server will say"),
            },
            _ => self.copy_table(words, span),
        };
        draft.kind = Kind::Copy;
        draft.effect = match (draft.effect, client) {
            (pin @ Effect::Pin(_), _) => pin,
            (Effect::SetConfig, _) => Effect::Pin(Pin::SetConfig),
            (_, true) => Effect::Copy,
            (_, false) => Effect::None,
        };
        if !client {
            draft.writes = Some("since it touches the server's files".into());
        }
        draft
    }

    fn copy_table(&self, words: &[Word], _span: &Range<usize>) -> Draft {
        let names = name_at(words, 1);
        let after = 1 + (2 * names.len()).saturating_sub(1);
        let listed = match words.get(after) {
            Some(w) if w.sign("(") => closing(words, after),
            _ => None,
        };
        let direction = words.get(listed.map_or(after, |end| end + 1));
        let from = direction.is_some_and(|w| w.is("from"));
        let mut draft = if self.several() {
            let columns = listed.map(|end| &words[after + 1..end]);
            place::copy(self.schema, &names, columns, from)
        } else {
            Draft::new(
                Plan::Single(Target::AnyOne),
                "there is one shard to go to",
                Kind::Copy,
            )
        };
        if from {
            draft.writes = Some("since COPY FROM writes".into());
        }
        draft
    }
}

/// The dotted name that begins at word `at`.
fn name_at(words: &[Word], at: usize) -> Vec<Box<str>> {
    let mut names = Vec::new();
    let mut n = at;
    while let Some(word) = words.get(n).filter(|w| w.is_name()) {
        names.push(word.text.clone());
        if !words.get(n + 1).is_some_and(|w| w.sign(".")) {
            break;
        }
        n += 2;
    }
    names
}

/// The parenthesis that closes the one at word `open`.
fn closing(words: &[Word], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (n, word) in words.iter().enumerate().skip(open) {
        if word.sign("(") {
            depth += 1;
        } else if word.sign(")") {
            depth -= 1;
            if depth == 0 {
                return Some(n);
            }
        }
    }
    None
}
