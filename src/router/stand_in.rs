//! The text that is parsed: literals give way to stand-ins that tell only their number and kind.
//!
//! So a plan cannot depend on a value, and finds each literal of a text again by its number.

use std::ops::Range;

use super::scan::{Literal, LiteralKind, Scan};

/// Begins the stand-in for a literal, digits after it giving the literal's number.
const STAND_IN: &str = "88000000";

/// The text that is parsed: comments blanked, and every literal replaced by a stand-in that
/// tells its number, so that the planner cannot depend on a value and finds each literal again.
pub(super) fn analysis_text(sql: &str, scan: &Scan, statement: &Range<usize>) -> String {
    let mut out = String::with_capacity(statement.len() + 32);
    let mut at = statement.start;
    let mut comments = scan.comments.iter().peekable();
    let mut literals = scan.literals.iter().enumerate().peekable();
    while let Some((start, end, stand_in)) = next_edit(&mut comments, &mut literals) {
        if start < at || end > statement.end {
            continue;
        }
        out.push_str(&sql[at..start]);
        out.push_str(&stand_in);
        at = end;
    }
    out.push_str(&sql[at..statement.end]);
    out
}

type Comments<'a> = std::iter::Peekable<std::slice::Iter<'a, Range<usize>>>;
type Literals<'a> = std::iter::Peekable<std::iter::Enumerate<std::slice::Iter<'a, Literal>>>;

/// The next comment or literal in order, and what replaces it.
fn next_edit(comments: &mut Comments, literals: &mut Literals) -> Option<(usize, usize, String)> {
    let comment_first = match (comments.peek(), literals.peek()) {
        (None, None) => return None,
        (Some(_), None) => true,
        (None, Some(_)) => false,
        (Some(c), Some((_, l))) => c.start < l.start as usize,
    };
    if comment_first {
        let c = comments.next()?;
        return Some((c.start, c.end, " ".into()));
    }
    let (index, l) = literals.next()?;
    let stand_in = match l.kind {
        LiteralKind::Integer => format!("{STAND_IN}{index:08}"),
        LiteralKind::Decimal => format!("{STAND_IN}{index:08}.5"),
        LiteralKind::String => format!("'{STAND_IN}{index:08}'"),
        LiteralKind::Escape => format!("E'{STAND_IN}{index:08}'"),
    };
    Some((l.start as usize, l.end as usize, stand_in))
}

/// The literal that a stand-in stands for, if it is one of that kind.
pub(super) fn literal_of(stand_in: &str, kind: LiteralKind, literals: &[Literal]) -> Option<usize> {
    let digits = match kind {
        LiteralKind::Decimal => stand_in.strip_suffix(".5")?,
        _ => stand_in,
    };
    let digits = digits.strip_prefix(STAND_IN)?;
    if digits.len() < 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let index: usize = digits.parse().ok()?;
    literals
        .get(index)
        .filter(|l| l.kind == kind)
        .map(|_| index)
}

/// A piece of the analysed text for people to read: stand-ins become `?`.
pub(super) fn readable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(STAND_IN) {
        out.push_str(&rest[..at]);
        out.push('?');
        rest = rest[at + STAND_IN.len()..].trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}
