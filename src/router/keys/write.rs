//! INSERT, UPDATE, DELETE, MERGE: the rows that they read and the keys that they give.

use sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, Expr, FromTable, Insert, Merge, MergeAction,
    MergeClauseKind, MergeInsertKind, MergeUpdateKind, ObjectName, OnConflictAction, OnInsert,
    SelectItem, SetExpr, Statement, TableFactor, TableObject, Update, UpdateTableFromKind,
};

use crate::error::{ClientError, SqlState};
use crate::plan::KeySet;
use crate::router::Table;

use super::arena::or;
use super::constant::{Constant, Form};
use super::from::Restrict;
use super::scope::Scope;
use super::{Analyzer, Named, fold, not_proven, parts, subqueries};

/// Where rows are written.
enum Target {
    Sharded {
        table: Box<str>,
        column: Box<str>,
        columns: Option<Vec<Box<str>>>,
    },
    /// Reference or home.
    Other,
}

impl Analyzer<'_> {
    /// A writing statement, at the top or within WITH.
    pub(super) fn write(
        &mut self,
        statement: &Statement,
        parent: Option<&Scope>,
    ) -> Result<(), ClientError> {
        match statement {
            Statement::Insert(insert) => self.insert(insert, parent),
            Statement::Update(update) => self.update(update, parent),
            Statement::Delete(delete) => self.delete(delete, parent),
            Statement::Merge(merge) => self.merge(merge, parent),
            _ => Err(not_proven("this kind of write is not followed")),
        }
    }

    /// The written table; its mention counts as accounted for here.
    fn target(&mut self, name: &ObjectName) -> Result<Target, ClientError> {
        match self.table(name)? {
            Named::Table(table, Table::Sharded { column, columns }) => Ok(Target::Sharded {
                table,
                column,
                columns,
            }),
            Named::Table(table, Table::Reference) => {
                self.out.reference_written = Some(table);
                Ok(Target::Other)
            }
            Named::Table(table, Table::Home(shard)) => {
                self.out.homes.push((shard, table));
                Ok(Target::Other)
            }
            Named::Cte(_) | Named::Catalog => Err(not_proven(&format!("a write to {name}"))),
        }
    }

    fn insert(&mut self, insert: &Insert, parent: Option<&Scope>) -> Result<(), ClientError> {
        let odd = insert.or.is_some()
            || insert.ignore
            || insert.overwrite
            || insert.partitioned.is_some()
            || !insert.assignments.is_empty()
            || !insert.after_columns.is_empty()
            || insert.output.is_some()
            || insert.replace_into
            || insert.insert_alias.is_some()
            || insert.multi_table_insert_type.is_some();
        let TableObject::TableName(name) = &insert.table else {
            return Err(not_proven("this kind of INSERT is not followed"));
        };
        if odd {
            return Err(not_proven("this kind of INSERT is not followed"));
        }
        let target = self.target(name)?;
        let scope = Scope::within(parent);
        match (&target, &insert.source) {
            (
                Target::Sharded {
                    table,
                    column,
                    columns,
                },
                source,
            ) => {
                let position = key_position(table, column, columns.as_deref(), &insert.columns)?;
                let Some(source) = source else {
                    return Err(no_key(table, column));
                };
                match &*source.body {
                    SetExpr::Values(values) if source.with.is_none() => {
                        let mut sets = Vec::new();
                        for row in &values.rows {
                            let expr = row.content.get(position);
                            let expr = expr.ok_or_else(|| no_key(table, column))?;
                            sets.push(self.assigned(expr, table, column)?);
                            for expr in &row.content {
                                self.walk(expr, &scope)?;
                            }
                        }
                        self.out.splits = true;
                        self.out.assigned.push(or(sets));
                    }
                    _ => {
                        let relation = self.query(source, parent)?;
                        self.nested(&relation);
                        let node = relation
                            .columns
                            .get(position)
                            .filter(|_| relation.complete)
                            .and_then(|(_, node)| *node);
                        let Some(node) = node else {
                            return Err(self.select_without_key(source, position, table, column)?);
                        };
                        // The new row's key is that of the row it comes from.
                        let target = self.arena.reference(table, column);
                        self.arena.edge(target, node);
                    }
                }
            }
            (Target::Other, Some(source)) => {
                self.query(source, parent)?;
            }
            (Target::Other, None) => {}
        }
        self.on_conflict(insert.on.as_ref(), &target, &scope)?;
        self.returning(insert.returning.as_deref(), &scope)
    }

    /// INSERT … SELECT whose key is no key column: a known integer will do.
    fn select_without_key(
        &mut self,
        source: &sqlparser::ast::Query,
        position: usize,
        table: &str,
        column: &str,
    ) -> Result<ClientError, ClientError> {
        if let SetExpr::Select(select) = &*source.body {
            let simple = select.projection.iter().all(|i| {
                matches!(
                    i,
                    SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. }
                )
            });
            if simple && select.projection.len() <= position {
                return Ok(no_key(table, column));
            }
        }
        Ok(ClientError::error(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "INSERT … SELECT into sharded table {table}: the value for key column {column} \
                 is not the key of the rows it comes from"
            ),
        )
        .hint("Select the sharding key of the source into it, or insert VALUES."))
    }

    /// The key that an expression gives to a row.
    fn assigned(&mut self, expr: &Expr, table: &str, column: &str) -> Result<KeySet, ClientError> {
        match self.constants.read(expr) {
            Some(Constant::Key(key, Form::Integer | Form::Decimal | Form::Unknown)) => {
                Ok(KeySet::One(key))
            }
            Some(Constant::Key(key, Form::Declared)) => Ok(KeySet::One(key)),
            Some(Constant::Null) => Err(no_key(table, column)),
            None if is_default(expr) => Err(no_key(table, column)),
            None => Err(ClientError::error(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!(
                    "the value for key column {column} of sharded table {table} is not known \
                     before the statement runs"
                ),
            )
            .hint("Give the key as a literal or a parameter.")),
        }
    }

    fn on_conflict(
        &mut self,
        on: Option<&OnInsert>,
        target: &Target,
        scope: &Scope,
    ) -> Result<(), ClientError> {
        let Some(on) = on else { return Ok(()) };
        let OnInsert::OnConflict(conflict) = on else {
            return Err(not_proven("ON DUPLICATE KEY is not PostgreSQL's"));
        };
        for query in subqueries(conflict) {
            self.subquery(&query, scope)?;
        }
        if let (OnConflictAction::DoUpdate(update), Target::Sharded { table, column, .. }) =
            (&conflict.action, target)
            && update.assignments.iter().any(|a| sets(a, column))
        {
            return Err(moves_row(table, column));
        }
        Ok(())
    }

    fn returning(
        &mut self,
        returning: Option<&[SelectItem]>,
        scope: &Scope,
    ) -> Result<(), ClientError> {
        for item in returning.unwrap_or_default() {
            for query in subqueries(item) {
                self.subquery(&query, scope)?;
            }
        }
        Ok(())
    }

    fn update(&mut self, update: &Update, parent: Option<&Scope>) -> Result<(), ClientError> {
        let odd = update.output.is_some()
            || update.or.is_some()
            || !update.order_by.is_empty()
            || update.limit.is_some()
            || !update.table.joins.is_empty();
        let TableFactor::Table { name, .. } = &update.table.relation else {
            return Err(not_proven("this kind of UPDATE is not followed"));
        };
        if odd {
            return Err(not_proven("this kind of UPDATE is not followed"));
        }
        let target = self.target(name)?;
        // Named a second time as a source, but mentioned once.
        self.accounted -= 1;
        let mut scope = Scope::within(parent);
        self.target_source(&update.table.relation, &target, &mut scope)?;
        match &update.from {
            None => {}
            Some(UpdateTableFromKind::AfterSet(items)) => {
                for item in items {
                    self.add_item(item, &mut scope)?;
                }
            }
            Some(UpdateTableFromKind::BeforeSet(_)) => {
                return Err(not_proven("this kind of UPDATE is not followed"));
            }
        }
        self.restrict_rows(update.selection.as_ref(), &scope)?;
        for query in subqueries(&update.assignments) {
            self.subquery(&query, &scope)?;
        }
        if let Target::Sharded { table, column, .. } = &target {
            for assignment in update.assignments.iter().filter(|a| sets(a, column)) {
                if matches!(assignment.target, AssignmentTarget::Tuple(_)) {
                    return Err(moves_row(table, column));
                }
                let Some(Constant::Key(key, _)) = self.constants.read(&assignment.value) else {
                    return Err(moves_row(table, column));
                };
                self.out.assigned.push(KeySet::One(key));
                self.out.moves = true;
            }
        }
        self.returning(update.returning.as_deref(), &scope)
    }

    fn delete(&mut self, delete: &Delete, parent: Option<&Scope>) -> Result<(), ClientError> {
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
        let odd = !delete.tables.is_empty()
            || delete.output.is_some()
            || !delete.order_by.is_empty()
            || delete.limit.is_some();
        let [item] = from.as_slice() else {
            return Err(not_proven("this kind of DELETE is not followed"));
        };
        let TableFactor::Table { name, .. } = &item.relation else {
            return Err(not_proven("this kind of DELETE is not followed"));
        };
        if odd || !item.joins.is_empty() {
            return Err(not_proven("this kind of DELETE is not followed"));
        }
        let target = self.target(name)?;
        self.accounted -= 1;
        let mut scope = Scope::within(parent);
        self.target_source(&item.relation, &target, &mut scope)?;
        for item in delete.using.iter().flatten() {
            self.add_item(item, &mut scope)?;
        }
        self.restrict_rows(delete.selection.as_ref(), &scope)?;
        self.returning(delete.returning.as_deref(), &scope)
    }

    fn restrict_rows(
        &mut self,
        selection: Option<&Expr>,
        scope: &Scope,
    ) -> Result<(), ClientError> {
        match selection {
            Some(condition) => {
                self.filter(condition, scope, 0..scope.sources.len(), &Restrict::All)
            }
            None => Ok(()),
        }
    }

    /// The written table as the first source of its block.
    fn target_source(
        &mut self,
        factor: &TableFactor,
        target: &Target,
        scope: &mut Scope,
    ) -> Result<(), ClientError> {
        let TableFactor::Table {
            name,
            alias,
            args: None,
            ..
        } = factor
        else {
            return Err(not_proven("this kind of write is not followed"));
        };
        let homes = self.out.homes.len();
        let source = self.table_source(name, alias.as_ref())?;
        if matches!(target, Target::Other) {
            self.out.homes.truncate(homes);
        }
        scope.sources.push(source);
        Ok(())
    }

    fn merge(&mut self, merge: &Merge, parent: Option<&Scope>) -> Result<(), ClientError> {
        let TableFactor::Table { name, .. } = &merge.table else {
            return Err(not_proven("this kind of MERGE is not followed"));
        };
        if merge.output.is_some() {
            return Err(not_proven("MERGE … RETURNING is not followed"));
        }
        let target = self.target(name)?;
        self.accounted -= 1;
        let mut scope = Scope::within(parent);
        self.target_source(&merge.table, &target, &mut scope)?;
        let source = sqlparser::ast::TableWithJoins {
            relation: merge.source.clone(),
            joins: Vec::new(),
        };
        self.add_item(&source, &mut scope)?;
        // Every source row counts; a target row does only where ON holds.
        let all = 0..scope.sources.len();
        self.filter(&merge.on, &scope, all, &Restrict::Only(0..1))?;
        for clause in &merge.clauses {
            if clause.clause_kind == MergeClauseKind::NotMatchedBySource {
                return Err(not_proven("WHEN NOT MATCHED BY SOURCE touches every row"));
            }
            for query in subqueries(&clause.predicate) {
                self.subquery(&query, &scope)?;
            }
            for query in subqueries(&clause.action) {
                self.subquery(&query, &scope)?;
            }
            if let Target::Sharded {
                table,
                column,
                columns,
            } = &target
            {
                self.merge_action(&clause.action, table, column, columns.as_deref(), &scope)?;
            }
        }
        Ok(())
    }

    fn merge_action(
        &mut self,
        action: &MergeAction,
        table: &str,
        column: &str,
        columns: Option<&[Box<str>]>,
        scope: &Scope,
    ) -> Result<(), ClientError> {
        match action {
            MergeAction::Insert(insert) => {
                let MergeInsertKind::Values(values) = &insert.kind else {
                    return Err(no_key(table, column));
                };
                let position = key_position(table, column, columns, &insert.columns)?;
                for row in &values.rows {
                    let expr = row.content.get(position);
                    let expr = expr.ok_or_else(|| no_key(table, column))?;
                    match self.column(expr, scope, 1..scope.sources.len()) {
                        Some(source) => {
                            let new = self.arena.reference(table, column);
                            self.arena.edge(new, source.node);
                        }
                        None => {
                            let set = self.assigned(expr, table, column)?;
                            self.out.assigned.push(set);
                        }
                    }
                }
                Ok(())
            }
            MergeAction::Update(update) => match &update.kind {
                MergeUpdateKind::Set(assignments) => {
                    if assignments.iter().any(|a| sets(a, column)) {
                        return Err(moves_row(table, column));
                    }
                    Ok(())
                }
                MergeUpdateKind::Wildcard => Err(not_proven("UPDATE * in MERGE")),
            },
            MergeAction::Delete { .. } | MergeAction::DoNothing { .. } => Ok(()),
        }
    }
}

/// The position of the key among the inserted columns.
fn key_position(
    table: &str,
    column: &str,
    declared: Option<&[Box<str>]>,
    listed: &[ObjectName],
) -> Result<usize, ClientError> {
    if listed.is_empty() {
        let declared = declared.ok_or_else(|| {
            ClientError::error(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!(
                    "INSERT into sharded table {table} without a column list: pgdrover does not \
                     know which value is the key {column}"
                ),
            )
            .hint("List the columns, or declare them under [[databases.tables]] as columns.")
        })?;
        return declared
            .iter()
            .position(|c| **c == *column)
            .ok_or_else(|| no_key(table, column));
    }
    for (index, name) in listed.iter().enumerate() {
        if parts(name)?.last().is_some_and(|n| **n == *column) {
            return Ok(index);
        }
    }
    Err(no_key(table, column))
}

fn no_key(table: &str, column: &str) -> ClientError {
    ClientError::error(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("a row for sharded table {table} has no value for its key column {column}"),
    )
    .detail("Without a key no shard owns the row; NULL and DEFAULT are no keys.")
    .hint(format!("Give {column} as a literal or a parameter."))
}

fn moves_row(table: &str, column: &str) -> ClientError {
    ClientError::error(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!(
            "setting key column {column} of sharded table {table} may move a row to another shard"
        ),
    )
    .hint("Delete the row and insert it with its new key.")
}

/// Whether an assignment sets the column or a part of it.
fn sets(assignment: &Assignment, column: &str) -> bool {
    let names = |name: &ObjectName| match parts(name) {
        Ok(parts) => parts.iter().any(|p| **p == *column),
        Err(_) => true,
    };
    match &assignment.target {
        AssignmentTarget::ColumnName(name) => names(name),
        AssignmentTarget::Tuple(all) => all.iter().any(names),
    }
}

/// The word DEFAULT, which the parser takes for a name.
fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident) if &*fold(ident) == "default")
}
