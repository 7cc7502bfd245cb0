//! Whether a statement only reads, and which functions it calls.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, ObjectName, ObjectNamePart, Query, Select, SetExpr, Statement, TableFactor,
    Visit, Visitor, WindowType,
};

use crate::plan::Pin;

use super::functions::{Class, class};
use super::keys::fold;
use super::utility::function_state;

/// What a statement does beyond reading tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Footprint {
    /// It surely writes or locks: the reason, for people.
    pub(super) writes: Option<Box<str>>,
    /// It might: the reason.
    pub(super) unsure: Option<Box<str>>,
    /// A function that may touch tables by itself.
    pub(super) unknown_function: Option<Box<str>>,
    /// A function that runs SQL from a string, or reads a table by its name in a string.
    pub(super) dynamic: Option<Box<str>>,
    /// Functions that change or read a sequence.
    pub(super) sequence: Option<Box<str>>,
    /// A function whose effect stays with the server connection.
    pub(super) pin: Option<Pin>,
    /// An advisory lock of the session is given up.
    pub(super) unlocks: bool,
    /// An advisory lock is taken: it must always be sought on the same shard.
    pub(super) advisory: bool,
    /// A catalog is read.
    pub(super) volatile: bool,
}

/// Walks a statement for its footprint.
pub(super) fn footprint(statement: &Statement) -> Footprint {
    let mut visitor = Prints::default();
    let _ = statement.visit(&mut visitor);
    visitor.0
}

#[derive(Default)]
struct Prints(Footprint);

impl Prints {
    fn writes(&mut self, why: impl Into<Box<str>>) {
        self.0.writes.get_or_insert(why.into());
    }

    fn function(&mut self, name: &ObjectName) {
        let names: Vec<Box<str>> = name
            .0
            .iter()
            .map(|part| match part {
                ObjectNamePart::Identifier(ident) => fold(ident),
                ObjectNamePart::Function(f) => fold(&f.name),
            })
            .collect();
        let (own, last) = match names.as_slice() {
            [last] => (true, last),
            // Its few functions read catalogs at most: JDBC's getPrimaryKeys calls one.
            [schema, last] if &**schema == "information_schema" => {
                let unsure = &mut self.0.unsure;
                unsure.get_or_insert_with(|| format!("since {last}() may be volatile").into());
                return;
            }
            [schema, last] => (&**schema == "pg_catalog", last),
            _ => return self.unknown(name),
        };
        if !own {
            return self.unknown(name);
        }
        let print = &mut self.0;
        match &**last {
            "nextval" | "setval" | "currval" | "lastval" => {
                print.sequence.get_or_insert_with(|| last.clone());
            }
            "ts_stat" | "ts_rewrite" => print.dynamic = Some(last.clone()),
            l if l.contains("_to_xml") => print.dynamic = Some(last.clone()),
            l if l.contains("advisory") => {
                print.advisory = true;
                print.unlocks |= l.contains("unlock");
            }
            _ => {}
        }
        print.pin = function_state(last).or(print.pin);
        match class(last) {
            Class::Scalar | Class::Aggregate | Class::Window => {}
            Class::Volatile if matches!(&**last, "nextval" | "setval" | "set_config") => {
                self.writes(format!("since {last}() writes"));
            }
            Class::Volatile if print.advisory => self.writes("since it takes an advisory lock"),
            Class::Volatile => {
                print.volatile = true;
                print
                    .unsure
                    .get_or_insert_with(|| format!("since {last}() is volatile").into());
            }
            Class::Unknown if last.starts_with("pg_") || names.len() == 2 => {
                print
                    .unsure
                    .get_or_insert_with(|| format!("since {last}() may be volatile").into());
            }
            Class::Unknown => self.unknown(name),
        }
    }

    fn unknown(&mut self, name: &ObjectName) {
        let why = || format!("since function {name} is not known to only read").into();
        self.0.unsure.get_or_insert_with(why);
        self.0
            .unknown_function
            .get_or_insert_with(|| name.to_string().into());
    }
}

impl Visitor for Prints {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if !query.locks.is_empty() || query.for_clause.is_some() {
            self.writes("since it locks rows");
        }
        if let SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) =
            &*query.body
        {
            self.writes("since it writes within WITH");
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        if select.into.is_some() {
            self.writes("since SELECT INTO makes a table");
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        let verb = match statement {
            Statement::Insert(_) => "INSERT",
            Statement::Update(_) => "UPDATE",
            Statement::Delete(_) => "DELETE",
            Statement::Merge(_) => "MERGE",
            _ => return ControlFlow::Continue(()),
        };
        self.writes(format!("since {verb} writes"));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            self.function(&function.name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table {
                name,
                args: Some(_),
                ..
            }
            | TableFactor::Function { name, .. } => self.function(name),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// What the output of a block is made with, its subqueries aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Use {
    /// An aggregate, or a function that may be one.
    pub(super) aggregates: bool,
    /// A window function.
    pub(super) windows: bool,
}

/// Looks at a block's output list and HAVING.
pub(super) fn uses(select: &Select) -> Use {
    let mut visitor = Functions::default();
    let _ = select.projection.visit(&mut visitor);
    let _ = select.having.visit(&mut visitor);
    let windows = visitor.found.iter().any(|f| f.over.is_some()) || !select.named_window.is_empty();
    let aggregates = visitor.found.iter().any(|f| {
        let name = f.name.0.last().and_then(ObjectNamePart::as_ident).map(fold);
        f.over.is_none()
            && matches!(
                name.as_deref().map(class),
                None | Some(Class::Aggregate | Class::Unknown)
            )
    });
    Use {
        aggregates,
        windows,
    }
}

/// PARTITION BY of each window of a block; an empty list where there is none, or where a named
/// window is used.
pub(super) fn window_partitions(select: &Select) -> Vec<Vec<Expr>> {
    let mut visitor = Functions::default();
    let _ = select.projection.visit(&mut visitor);
    visitor
        .found
        .into_iter()
        .filter_map(|f| f.over)
        .map(|over| match over {
            WindowType::WindowSpec(spec) => spec.partition_by,
            WindowType::NamedWindow(_) => Vec::new(),
        })
        .collect()
}

/// Function calls outside subqueries.
#[derive(Default)]
struct Functions {
    depth: usize,
    found: Vec<Function>,
}

impl Visitor for Functions {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let (0, Expr::Function(function)) = (self.depth, expr) {
            self.found.push(function.clone());
        }
        ControlFlow::Continue(())
    }
}

/// The names of the aggregates that make a block's output.
pub(super) fn aggregate_names(select: &Select) -> Vec<String> {
    let mut visitor = Functions::default();
    let _ = select.projection.visit(&mut visitor);
    let _ = select.having.visit(&mut visitor);
    let mut names: Vec<String> = visitor
        .found
        .iter()
        .filter(|f| f.over.is_none())
        .filter_map(|f| f.name.0.last().and_then(ObjectNamePart::as_ident).map(fold))
        .filter(|n| matches!(class(n), Class::Aggregate | Class::Unknown))
        .map(String::from)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}
