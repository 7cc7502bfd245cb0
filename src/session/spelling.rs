//! Transaction statements that pgdrover understands to the last word, so that it may answer them
//! without a server. Any other spelling, wrong ones and those with comments included, is left to a
//! server. Pure.

/// BEGIN or START TRANSACTION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begin {
    /// It has modes, such as READ ONLY.
    pub(super) modes: bool,
}

/// The statement's words in lower case, commas as words of their own.
fn tokens(text: &str) -> Vec<String> {
    text.trim_end_matches(|c: char| c == ';' || c.is_ascii_whitespace())
        .to_ascii_lowercase()
        .replace(',', " , ")
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect()
}

/// Reads BEGIN or START TRANSACTION.
pub(super) fn begin(text: &str) -> Option<Begin> {
    let tokens = tokens(text);
    let words: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let mut rest = match words.as_slice() {
        ["start", "transaction", rest @ ..]
        | ["begin", "work" | "transaction", rest @ ..]
        | ["begin", rest @ ..] => rest,
        _ => return None,
    };
    let modes = !rest.is_empty();
    while !rest.is_empty() {
        rest = after_mode(rest)?;
        rest = match rest {
            // A comma stands between modes only.
            [","] => return None,
            [",", rest @ ..] => rest,
            rest => rest,
        };
    }
    Some(Begin { modes })
}

fn after_mode<'a, 'b>(words: &'a [&'b str]) -> Option<&'a [&'b str]> {
    match words {
        [
            "isolation",
            "level",
            "read",
            "committed" | "uncommitted",
            rest @ ..,
        ]
        | ["isolation", "level", "repeatable", "read", rest @ ..]
        | ["isolation", "level", "serializable", rest @ ..]
        | ["read", "only" | "write", rest @ ..]
        | ["not", "deferrable", rest @ ..]
        | ["deferrable", rest @ ..] => Some(rest),
        _ => None,
    }
}

/// Reads COMMIT, ROLLBACK or another name of theirs: whether it says AND CHAIN.
pub(super) fn end(text: &str) -> Option<bool> {
    let tokens = tokens(text);
    let words: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let rest = match words.as_slice() {
        [
            "commit" | "end" | "rollback" | "abort",
            "work" | "transaction",
            rest @ ..,
        ]
        | ["commit" | "end" | "rollback" | "abort", rest @ ..] => rest,
        _ => return None,
    };
    match rest {
        [] | ["and", "no", "chain"] => Some(false),
        ["and", "chain"] => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begin_is_read_to_the_last_word() {
        let plain = Some(Begin { modes: false });
        let modes = Some(Begin { modes: true });
        for (text, read) in [
            ("BEGIN", plain),
            (" begin work ; ", plain),
            ("start transaction", plain),
            ("START", None),
            ("BEGIN garbage", None),
            ("BEGIN ISOLATION LEVEL foo", None),
            ("BEGIN ISOLATION LEVEL READ ONLY", None),
            ("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", modes),
            ("BEGIN READ WRITE NOT DEFERRABLE", modes),
            ("BEGIN READ ONLY,", None),
            ("BEGIN , READ ONLY", None),
            ("BEGIN READ ONLY -- x", None),
        ] {
            assert_eq!(begin(text), read, "{text}");
        }
    }

    #[test]
    fn an_end_is_read_to_the_last_word() {
        for (text, read) in [
            ("COMMIT", Some(false)),
            ("end transaction;", Some(false)),
            ("ROLLBACK WORK AND CHAIN", Some(true)),
            ("COMMIT AND NO CHAIN", Some(false)),
            ("COMMIT /* x */ AND CHAIN", None),
            ("COMMIT garbage", None),
            ("ROLLBACK TO a", None),
            ("PREPARE TRANSACTION 'x'", None),
        ] {
            assert_eq!(end(text), read, "{text}");
        }
    }
}
