//! The TOML file as a tree that remembers where each key stands.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Error, Finding, Path, Step};

/// A file that is TOML, with `${VAR}` replaced.
pub(super) struct Document<'t> {
    name: &'t str,
    text: &'t str,
    /// The tree. Spans refer to the text.
    pub(super) root: DeTable<'t>,
}

impl<'t> Document<'t> {
    /// Reads the syntax; all syntax errors are returned.
    pub(super) fn parse(text: &'t str, name: &'t str) -> Result<Document<'t>, Vec<Error>> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let root = root.into_inner();
        let document = Document { name, text, root };
        if errors.is_empty() {
            return Ok(document);
        }
        let mut errors: Vec<Error> = errors
            .into_iter()
            .map(|e| {
                let remedy = "correct the TOML syntax of this line";
                document.error_at(e.span().unwrap_or(0..0), String::new(), e.message(), remedy)
            })
            .collect();
        // One slip often upsets the parser more than once.
        errors.dedup_by_key(|e| e.line);
        Err(errors)
    }

    /// Replaces `${VAR}` in every string by the variable's value; `$${` stands for `${`.
    pub(super) fn substitute(&mut self, env: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let path = Path::default();
        for (key, value) in self.root.iter_mut() {
            substitute_value(
                value.get_mut(),
                &path.key(key.get_ref()),
                env,
                &mut findings,
            );
        }
        findings
    }

    /// Gives a finding its line.
    pub(super) fn place(&self, finding: Finding) -> Error {
        let span = self.locate(&finding.path);
        self.error_at(
            span,
            finding.path.to_string(),
            finding.message,
            finding.remedy,
        )
    }

    /// A place past the end of the text.
    pub(super) fn beyond(&self) -> usize {
        self.text.len() + 1
    }

    fn error_at(
        &self,
        span: Range<usize>,
        key: String,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Error {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        Error {
            file: self.name.into(),
            line: before.bytes().filter(|b| *b == b'\n').count() + 1,
            key,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// Where a path stands: its key, or its element. What is absent stands where its nearest
    /// ancestor does.
    fn locate(&self, path: &Path) -> Range<usize> {
        let mut span = 0..0;
        let mut table = Some(&self.root);
        let mut value: Option<&DeValue<'t>> = None;
        for step in &path.0 {
            let next = match step {
                Step::Key(key) => {
                    table
                        .and_then(|t| t.get_key_value(key.as_str()))
                        .map(|(k, v)| {
                            // A section's key is part of its header; both are on one line.
                            (k.span(), v.get_ref())
                        })
                }
                Step::Index(index) => value
                    .and_then(DeValue::as_array)
                    .and_then(|a| a.get(*index))
                    .map(|v| (v.span(), v.get_ref())),
            };
            let Some((at, found)) = next else { return span };
            span = at;
            table = found.as_table();
            value = Some(found);
        }
        span
    }
}

/// The node that a span of the text belongs to: the smallest around it. Where a list and its
/// first element share a header, `deepest` takes the element.
pub(super) fn find(root: &DeTable<'_>, span: &Range<usize>, deepest: bool) -> Option<Path> {
    let mut best: Option<(usize, Path)> = None;
    visit_table(root, &Path::default(), &mut |path, at| {
        if at.start > span.start || at.end < span.end {
            return;
        }
        let better = match &best {
            Some((size, _)) if deepest => at.len() <= *size,
            Some((size, _)) => at.len() < *size,
            None => true,
        };
        if better {
            best = Some((at.len(), path.clone()));
        }
    });
    best.map(|(_, path)| path)
}

fn visit_table(table: &DeTable<'_>, path: &Path, see: &mut impl FnMut(&Path, Range<usize>)) {
    for (key, value) in table {
        let path = path.key(key.get_ref());
        see(&path, key.span());
        visit_value(value, &path, see);
    }
}

fn visit_value(
    value: &Spanned<DeValue<'_>>,
    path: &Path,
    see: &mut impl FnMut(&Path, Range<usize>),
) {
    see(path, value.span());
    match value.get_ref() {
        DeValue::Table(table) => visit_table(table, path, see),
        DeValue::Array(array) => {
            for (index, element) in array.iter().enumerate() {
                visit_value(element, &path.index(index), see);
            }
        }
        _ => {}
    }
}

/// The value at a path.
pub(super) fn get_mut<'a, 'i>(
    root: &'a mut DeTable<'i>,
    path: &Path,
) -> Option<&'a mut DeValue<'i>> {
    let (first, rest) = path.0.split_first()?;
    let Step::Key(key) = first else { return None };
    let mut value = root.get_mut(key.as_str())?.get_mut();
    for step in rest {
        value = match (step, value) {
            (Step::Key(key), DeValue::Table(table)) => table.get_mut(key.as_str())?.get_mut(),
            (Step::Index(index), DeValue::Array(array)) => array.get_mut(*index)?.get_mut(),
            _ => return None,
        };
    }
    Some(value)
}

/// Takes a key out of the tree. An element of a list goes with the whole list's key.
pub(super) fn remove(root: &mut DeTable<'_>, path: &Path) {
    let Some(last) = path.0.iter().rposition(|step| matches!(step, Step::Key(_))) else {
        return;
    };
    let Step::Key(key) = &path.0[last] else {
        return;
    };
    let parent = Path(path.0[..last].to_vec());
    if parent.0.is_empty() {
        root.remove(key.as_str());
    } else if let Some(DeValue::Table(table)) = get_mut(root, &parent) {
        table.remove(key.as_str());
    }
}

fn substitute_value(
    value: &mut DeValue<'_>,
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    findings: &mut Vec<Finding>,
) {
    match value {
        DeValue::String(text) if text.contains("${") => {
            let (replaced, problems) = substitute_text(text, env);
            findings.extend(
                problems
                    .into_iter()
                    .map(|(message, remedy)| Finding::new(path.clone(), message, remedy)),
            );
            *text = replaced.into();
        }
        DeValue::Array(array) => {
            for (index, element) in array.iter_mut().enumerate() {
                substitute_value(element.get_mut(), &path.index(index), env, findings);
            }
        }
        DeValue::Table(table) => {
            for (key, value) in table.iter_mut() {
                substitute_value(value.get_mut(), &path.key(key.get_ref()), env, findings);
            }
        }
        _ => {}
    }
}

/// The text with its variables replaced, and a message and remedy for each that cannot be.
fn substitute_text(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> (String, Vec<(String, String)>) {
    let mut out = String::new();
    let mut problems = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let Some((variable, after)) = rest[at + 2..].split_once('}') else {
            problems.push((
                "`${` without `}`".into(),
                "write ${NAME} for an environment variable, $${ for the characters ${".into(),
            ));
            rest = "";
            break;
        };
        match env(variable) {
            Some(value) => out.push_str(&value),
            None => problems.push((
                format!("environment variable `{variable}` is not set"),
                format!("set {variable} before starting pgdrover, or write $${{{variable}}} for the characters ${{{variable}}}"),
            )),
        }
        rest = after;
    }
    out.push_str(rest);
    (out, problems)
}

#[cfg(test)]
mod tests {
    use super::substitute_text;

    fn env(name: &str) -> Option<String> {
        (name == "A").then(|| "value".to_owned())
    }

    #[test]
    fn variables_are_replaced_and_escapes_kept() {
        for (text, expected) in [
            ("${A}", "value"),
            ("x${A}y${A}", "xvalueyvalue"),
            ("$${A}", "${A}"),
            ("$A $ $$ {A}", "$A $ $$ {A}"),
            (
                "SCRAM-SHA-256$4096:c2FsdA==$a:b",
                "SCRAM-SHA-256$4096:c2FsdA==$a:b",
            ),
        ] {
            let (out, problems) = substitute_text(text, &env);
            assert!(problems.is_empty(), "{text}: {problems:?}");
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn values_are_not_substituted_again() {
        let nested = |_: &str| Some("${A}".to_owned());
        assert_eq!(substitute_text("${B}", &nested).0, "${A}");
    }

    #[test]
    fn each_missing_variable_is_told() {
        let (_, problems) = substitute_text("${B}${C}${", &env);
        let messages: Vec<_> = problems.iter().map(|(m, _)| m.as_str()).collect();
        assert_eq!(
            messages,
            [
                "environment variable `B` is not set",
                "environment variable `C` is not set",
                "`${` without `}`"
            ]
        );
    }
}
