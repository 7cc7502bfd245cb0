//! Reads a source file as far as the rules need it: its room, and the paths that it names.

use std::collections::HashMap;

/// One file of `src`, without its tests.
pub(super) struct Source {
    /// Relative to the repository, such as `src/control/health.rs`.
    pub(super) path: String,
    /// The text without comments, literals and test modules; lines stay where they were.
    pub(super) code: String,
    /// The paths that it names, resolved as far as a reader can: `use` lists are unfolded,
    /// `self`, `super` and imported names replaced.
    pub(super) paths: Vec<(usize, Vec<String>)>,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Source {
        let code = without_tests(&without_literals(text));
        let module = module_of(path);
        let (code_rest, imports) = take_imports(&code);
        let mut names: HashMap<String, Vec<String>> = HashMap::new();
        for child in children(&code) {
            names.insert(child.clone(), [&module[..], &[child]].concat());
        }
        let mut paths = Vec::new();
        for (line, import, name) in imports {
            let full = absolute(import, &module, &names);
            if !name.is_empty() {
                names.insert(name, full.clone());
            }
            paths.push((line, full));
        }
        for (line, path) in inline_paths(&code_rest) {
            paths.push((line, absolute(path, &module, &names)));
        }
        Source {
            path: path.to_owned(),
            code,
            paths,
        }
    }

    /// `control` for `src/control/health.rs`, `listener` for `src/listener.rs`.
    pub(super) fn room(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let first = inner.split('/').next().unwrap_or(inner);
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// The lines on which a word stands, as a word of its own.
    pub(super) fn lines_with(&self, word: &str) -> Vec<usize> {
        let boundary = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let starts = self.code.match_indices(word);
        starts
            .filter(|(at, _)| {
                let before = self.code[..*at].chars().next_back();
                let after = self.code[at + word.len()..].chars().next();
                boundary(before) && before != Some('\'') && boundary(after)
            })
            .map(|(at, _)| line_of(&self.code, at))
            .collect()
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// `["crate", "control", "health"]` for `src/control/health.rs`.
fn module_of(path: &str) -> Vec<String> {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    let inner = inner.strip_suffix(".rs").unwrap_or(inner);
    let parts = inner
        .split('/')
        .filter(|p| !["mod", "lib", "main"].contains(p));
    std::iter::once("crate")
        .chain(parts)
        .map(str::to_owned)
        .collect()
}

/// Blanks comments, strings and characters, so that only code is left to look at.
fn without_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        for c in &chars[at..end] {
            out.push(if *c == '\n' { '\n' } else { ' ' });
        }
        at = end;
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` itself when none begins there.
fn literal_end(chars: &[char], at: usize) -> usize {
    let next = |n: usize| chars.get(at + n).copied();
    let find = |from: usize, what: &[char]| {
        let tail = chars.get(from..).unwrap_or_default();
        let found = tail.windows(what.len()).position(|w| w == what);
        found.map_or(chars.len(), |p| from + p + what.len())
    };
    let word_before = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '/' if next(1) == Some('/') => find(at, &['\n']) - 1,
        '/' if next(1) == Some('*') => find(at + 2, &['*', '/']),
        'r' if !word_before && matches!(next(1), Some('"' | '#')) => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            if next(1 + hashes) != Some('"') {
                return at; // A raw identifier.
            }
            let mut close = vec!['"'];
            close.extend(std::iter::repeat_n('#', hashes));
            find(at + 2 + hashes, &close)
        }
        '"' => quoted_end(chars, at, '"'),
        // A lifetime has no closing quote two or more characters on.
        '\'' if next(1) == Some('\\') || next(2) == Some('\'') => quoted_end(chars, at, '\''),
        _ => at,
    }
}

fn quoted_end(chars: &[char], at: usize, quote: char) -> usize {
    let mut at = at + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// Blanks what stands under `#[cfg(test)]`: tests may do what the code may not.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let rest = &out[start..];
        let semicolon = rest.find(';').unwrap_or(rest.len());
        let end = match rest.find('{') {
            Some(open) if open < semicolon => start + block_end(rest, open),
            _ => start + (semicolon + 1).min(rest.len()),
        };
        let blank: String = out[start..end]
            .chars()
            .map(|c| if c == '\n' { '\n' } else { ' ' })
            .collect();
        out.replace_range(start..end, &blank);
    }
    out
}

fn block_end(text: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in text[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at + 1;
        }
    }
    text.len()
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The modules that the file declares.
fn children(code: &str) -> Vec<String> {
    let mut words = code.split(|c: char| !is_name(c)).filter(|w| !w.is_empty());
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        if word == "mod" {
            found.extend(words.next().map(str::to_owned));
        }
    }
    found
}

type Import = (usize, Vec<String>, String);

/// The paths of all `use` lines with the name that each brings in, and the code without them.
fn take_imports(code: &str) -> (String, Vec<Import>) {
    let mut rest = code.to_owned();
    let mut imports = Vec::new();
    let starts: Vec<usize> = code
        .match_indices("use ")
        .map(|(at, _)| at)
        .filter(|at| {
            let line = code[..*at].rsplit('\n').next().unwrap_or_default().trim();
            line.is_empty() || line.starts_with("pub") || line.ends_with(['{', ';', '}'])
        })
        .collect();
    for start in starts {
        let Some(length) = code[start..].find(';') else {
            continue;
        };
        let tree = &code[start + "use ".len()..start + length];
        let line = line_of(code, start);
        unfold(&[], tree, &mut |path, name| {
            imports.push((line, path, name))
        });
        rest.replace_range(start..start + length, &" ".repeat(length));
    }
    (rest, imports)
}

/// Unfolds `a::{b, c as d}` into `a::b` (as `b`) and `a::c` (as `d`).
fn unfold(prefix: &[String], tree: &str, found: &mut impl FnMut(Vec<String>, String)) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let head = &tree[..open];
        let prefix = [prefix, &segments(head)].concat();
        let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
        for part in split_outside_braces(inner) {
            unfold(&prefix, part, found);
        }
        return;
    }
    let (path, alias) = match tree.split_once(" as ") {
        Some((path, alias)) => (path, Some(alias.trim().to_owned())),
        None => (tree, None),
    };
    let mut full = [prefix, &segments(path)].concat();
    if full.len() > 1 && full.last().is_some_and(|l| l == "self") {
        full.pop();
    }
    let last = full.last().cloned().unwrap_or_default();
    let name = alias.unwrap_or(if last == "*" { String::new() } else { last });
    if !full.is_empty() {
        found(full, name);
    }
}

fn split_outside_braces(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn segments(path: &str) -> Vec<String> {
    let parts = path.split("::").map(str::trim).filter(|p| !p.is_empty());
    parts.map(str::to_owned).collect()
}

/// Every `a::b…` in code, and `a!` as the path `a`.
fn inline_paths(code: &str) -> Vec<(usize, Vec<String>)> {
    let bytes = code.as_bytes();
    let name_at = |at: usize| bytes.get(at).is_some_and(|b| is_name(char::from(*b)));
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        if !name_at(at) {
            at += 1;
            continue;
        }
        let start = at;
        loop {
            while name_at(at) {
                at += 1;
            }
            if !code[at..].starts_with("::") || !name_at(at + 2) {
                break;
            }
            at += 2;
        }
        let path = &code[start..at];
        if path.contains("::") || bytes.get(at) == Some(&b'!') {
            found.push((line_of(code, start), segments(path)));
        }
    }
    found
}

/// Replaces the beginning of a path by what it stands for.
fn absolute(
    path: Vec<String>,
    module: &[String],
    names: &HashMap<String, Vec<String>>,
) -> Vec<String> {
    let supers = path.iter().take_while(|p| *p == "super").count();
    if supers > 0 {
        let up = module.len().saturating_sub(supers).max(1);
        return [&module[..up], &path[supers..]].concat();
    }
    match path[0].as_str() {
        "self" => [module, &path[1..]].concat(),
        // The binary sees the library under its name.
        "pgdrover" => [&["crate".to_owned()][..], &path[1..]].concat(),
        first => match names.get(first) {
            Some(full) => [&full[..], &path[1..]].concat(),
            None => path,
        },
    }
}
