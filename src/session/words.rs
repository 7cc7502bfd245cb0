//! The words of a transaction statement. Pure.

/// The words in lower case, without comments and semicolons. Only for statements without string
/// literals: BEGIN, COMMIT, SAVEPOINT and their kin. A quoted name keeps its quotes, unless it means
/// the same without them.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = text.trim_start_matches(between);
    while !rest.is_empty() {
        let end = if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if rest.starts_with('"') {
            let end = quoted(rest);
            out.push(unquoted(&rest[..end]));
            end
        } else {
            let end = plain(rest);
            out.push(rest[..end].to_ascii_lowercase());
            end
        };
        rest = rest[end..].trim_start_matches(between);
    }
    out
}

fn between(c: char) -> bool {
    c.is_whitespace() || c == ';'
}

/// Where a word without quotes ends.
fn plain(text: &str) -> usize {
    let comment = |at: usize| text[at..].starts_with("--") || text[at..].starts_with("/*");
    text.char_indices()
        .find(|(at, c)| between(*c) || *c == '"' || comment(*at))
        .map_or(text.len(), |(at, _)| at)
}

/// Where a quoted name ends.
fn quoted(text: &str) -> usize {
    let mut end = 1;
    while let Some(at) = text[end..].find('"') {
        end += at + 1;
        if !text[end..].starts_with('"') {
            return end;
        }
        end += 1;
    }
    text.len()
}

/// A quoted name, without its quotes if it means the same.
fn unquoted(name: &str) -> String {
    let inner = name.trim_matches('"');
    let plain = |c: char| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit();
    if inner.chars().all(plain) && inner.starts_with(|c: char| !c.is_ascii_digit()) {
        inner.to_owned()
    } else {
        name.to_owned()
    }
}

/// Where a block comment ends; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let step = match text.get(at..at + 2) {
            Some("/*") => {
                depth += 1;
                2
            }
            Some("*/") => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_words() {
        let text = "/* a /* nested */ one */COMMIT--why\n AND\tChain; -- end";
        assert_eq!(words(text), ["commit", "and", "chain"]);
        assert_eq!(words("a-b /* open"), ["a-b"]);
    }

    #[test]
    fn a_quoted_name_is_one_word() {
        let text = "SAVEPOINT\"A \"\" b\"; release \"ab\" -- \"x\nTo\"1\"/* \" */";
        let expected = ["savepoint", "\"A \"\" b\"", "release", "ab", "to", "\"1\""];
        assert_eq!(words(text), expected);
        assert_eq!(words("\"open"), ["open"]);
        assert!(words("--").is_empty());
    }
}
