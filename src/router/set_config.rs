//! `set_config()`: SET in the shape of a function, as asyncpg and PostgREST send it.
//!
//! A SELECT that does nothing else is understood, so that the session can repeat it on any server
//! connection. Any other use of the function stays with the connection on which it ran.

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, SelectItem,
    SetExpr, Statement, Value,
};

use super::Params;
use super::keys::fold;
use super::scan::scan;
use super::words::{Word, WordKind, words};

/// One call of set_config().
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetConfig {
    /// The setting, in lower case.
    pub name: String,
    /// Its new value.
    pub value: String,
    /// Only until the transaction ends.
    pub local: bool,
}

impl SetConfig {
    /// The call, for a select list.
    pub fn call(&self) -> String {
        // pgdrover keeps standard_conforming_strings on: a backslash is itself.
        let quote = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let SetConfig { name, value, local } = self;
        let (name, value) = (quote(name), quote(value));
        format!("pg_catalog.set_config({name}, {value}, {local})")
    }
}

/// Whether the statement is a SELECT of calls of set_config() and current_setting() alone, each
/// run exactly once, with arguments that [`calls`] can read.
pub(super) fn only_sets(statement: &Statement) -> bool {
    let Statement::Query(query) = statement else {
        return false;
    };
    let SetExpr::Select(select) = &*query.body else {
        return false;
    };
    let bare = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && select.from.is_empty()
        && select.selection.is_none()
        && select.having.is_none()
        && select.into.is_none()
        && select.distinct.is_none()
        && matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    bare && select.projection.iter().all(|item| match item {
        SelectItem::UnnamedExpr(Expr::Function(function))
        | SelectItem::ExprWithAlias {
            expr: Expr::Function(function),
            ..
        } => is_plain(function),
        _ => false,
    })
}

fn is_plain(function: &Function) -> bool {
    let parts: Vec<_> = function
        .name
        .0
        .iter()
        .filter_map(|p| p.as_ident())
        .collect();
    let name = match parts.as_slice() {
        [name] => fold(name),
        [schema, name] if &*fold(schema) == "pg_catalog" => fold(name),
        _ => return false,
    };
    let FunctionArguments::List(list) = &function.args else {
        return false;
    };
    let arguments: Option<Vec<&Expr>> = list.args.iter().map(positional).collect();
    let alone = list.clauses.is_empty()
        && list.duplicate_treatment.is_none()
        && function.filter.is_none()
        && function.over.is_none();
    let text = |e: &Expr| matches!(value(e), Some(Value::SingleQuotedString(_)));
    match (&*name, arguments.as_deref(), alone) {
        ("set_config", Some([name, to, local]), true) => {
            let placeholder = matches!(
                value(to), Some(Value::Placeholder(name)) if parameter(name).is_some()
            );
            let known = matches!(value(local), Some(Value::Boolean(_)));
            text(name) && (text(to) || placeholder) && known
        }
        ("current_setting", Some([name]), true) => text(name),
        _ => false,
    }
}

fn positional(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

fn value(expr: &Expr) -> Option<&Value> {
    match expr {
        Expr::Value(value) => Some(&value.value),
        _ => None,
    }
}

/// The calls of set_config() in a text that [`only_sets`] found to be nothing else, with the
/// values of parameters; `None` if a value is NULL or not known.
pub fn set_configs(sql: &str, params: &dyn Params) -> Option<Vec<SetConfig>> {
    let scan = scan(sql);
    let words = words(sql, &scan, scan.statements.first()?);
    // A column may bear the name too.
    let called = |at: usize| words.get(at + 1).is_some_and(|next| next.sign("("));
    let calls = words.iter().enumerate();
    let calls = calls.filter(|(at, word)| is_set_config(word) && called(*at));
    calls
        .map(|(at, _)| {
            let [_, name, _, value, _, local, _] = words.get(at + 1..at + 8)? else {
                return None;
            };
            Some(SetConfig {
                name: argument(sql, name, params)?.to_ascii_lowercase(),
                value: argument(sql, value, params)?,
                local: local.is("true"),
            })
        })
        .collect()
}

/// The number of a parameter, counted from 0. `$1x` is one only to the parser.
fn parameter(text: &str) -> Option<usize> {
    let number: usize = text.strip_prefix('$')?.parse().ok()?;
    number.checked_sub(1)
}

fn is_set_config(word: &Word) -> bool {
    word.is_name() && &*word.text == "set_config"
}

/// The text of a plain string or of a parameter, which is the same in both formats.
fn argument(sql: &str, word: &Word, params: &dyn Params) -> Option<String> {
    let text = sql.get(word.span.clone())?;
    match word.kind {
        WordKind::String => {
            let inner = text.strip_prefix('\'')?.strip_suffix('\'')?;
            Some(inner.replace("''", "'"))
        }
        WordKind::Number => {
            let bytes = params.get(parameter(text)?)?.value?;
            String::from_utf8(bytes.to_vec()).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NoParams, Param};
    use super::*;

    struct One(Option<&'static [u8]>);

    impl Params for One {
        fn get(&self, index: usize) -> Option<Param<'_>> {
            (index == 0).then_some(Param {
                value: self.0,
                binary: true,
                declared_type: 25,
            })
        }
    }

    fn call(name: &str, value: &str, local: bool) -> SetConfig {
        SetConfig {
            name: name.into(),
            value: value.into(),
            local,
        }
    }

    fn parsed(sql: &str) -> Statement {
        let dialect = sqlparser::dialect::PostgreSqlDialect {};
        let mut all = sqlparser::parser::Parser::parse_sql(&dialect, sql).unwrap();
        all.remove(0)
    }

    #[test]
    fn calls_are_read_from_the_text_and_its_parameters() {
        let sql = "SELECT current_setting('jit') AS cur, /* x */ pg_catalog.set_config('JIT', 'it''s', false) AS new, set_config('a.b', $1, true)";
        assert!(only_sets(&parsed(sql)));
        let expected = [call("jit", "it's", false), call("a.b", "42", true)];
        assert_eq!(set_configs(sql, &One(Some(b"42"))).unwrap(), expected);
        assert_eq!(set_configs(sql, &One(None)), None);
        assert_eq!(set_configs(sql, &NoParams), None);
    }

    #[test]
    fn a_column_may_be_called_like_the_function() {
        let sql = "SELECT set_config('a', 'b', false) AS set_config, set_config('c', 'd', true) set_config";
        assert!(only_sets(&parsed(sql)));
        let expected = [call("a", "b", false), call("c", "d", true)];
        assert_eq!(set_configs(sql, &NoParams).unwrap(), expected);
    }

    #[test]
    fn a_call_that_may_not_run_once_is_not_understood() {
        for sql in [
            "SELECT set_config('a', 'b', false) FROM t",
            "SELECT set_config('a', 'b', false) WHERE x",
            "SELECT set_config('a', 'b', false) LIMIT 0",
            "SELECT coalesce(set_config('a', 'b', false), 'c')",
            "SELECT CASE WHEN true THEN set_config('a', 'b', false) END",
            "SELECT set_config('a', 'b' || 'c', false)",
            "SELECT set_config('a', 'b', $1)",
            "SELECT set_config($1, 'b', false)",
            "SELECT set_config('a', $1WORK, false)",
            "SELECT set_config('a', $0, false)",
            "SELECT set_config(E'a', 'b', false)",
            "SELECT set_config('a', 'b', false), pg_advisory_lock(1)",
            "SELECT my.set_config('a', 'b', false)",
            "SELECT set_config('a', 'b', false) UNION SELECT 'c'",
        ] {
            assert!(!only_sets(&parsed(sql)), "{sql}");
        }
    }

    #[test]
    fn a_call_is_repeated_with_every_character() {
        let one = call("a.b", "it's \\ $1 \"x\" SELECT", true);
        let sql = format!("SELECT {}", one.call());
        assert!(only_sets(&parsed(&sql)));
        assert_eq!(set_configs(&sql, &NoParams).unwrap(), [one]);
    }
}
