//! The words of a transaction statement. Pure.

/// The words in lower case, without comments and semicolons. Only for statements without string
/// literals: BEGIN, COMMIT, SAVEPOINT and their kin.
pub(super) fn words(text: &str) -> Vec<String> {
    without_comments(text)
        .split(|c: char| c.is_whitespace() || c == ';')
        .filter(|w| !w.is_empty())
        .map(str::to_ascii_lowercase)
        .collect()
}

/// The text with a space in place of each comment.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['-', '/']) {
        let (before, comment) = rest.split_at(at);
        out.push_str(before);
        let end = if comment.starts_with("--") {
            comment.find('\n').unwrap_or(comment.len())
        } else if comment.starts_with("/*") {
            block_comment(comment)
        } else {
            out.push_str(&comment[..1]);
            rest = &comment[1..];
            continue;
        };
        out.push(' ');
        rest = &comment[end..];
    }
    out.push_str(rest);
    out
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
        assert!(words("--").is_empty());
    }
}
