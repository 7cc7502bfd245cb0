//! Queries and their blocks: WITH, set operations, SELECT.

use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Query, Select, SelectItem, SelectItemQualifiedWildcardKind,
    SetExpr, Values,
};

use crate::error::ClientError;
use crate::plan::KeySet;

use super::arena::Node;
use super::constant::{Constant, Form};
use super::from::{Restrict, rename};
use super::scope::{Relation, Scope};
use super::{Analyzer, Cte, fold, not_proven, parts, subqueries};
use crate::router::access::{Use, uses};

impl Analyzer<'_> {
    /// A query with its WITH, ORDER BY and LIMIT.
    pub(super) fn query(
        &mut self,
        query: &Query,
        parent: Option<&Scope>,
    ) -> Result<Relation, ClientError> {
        let odd = query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty();
        if odd {
            return Err(not_proven("this kind of query is not followed"));
        }
        let mark = self.ctes.len();
        if let Some(with) = &query.with {
            if with.recursive {
                // Every name is known in every body; what it exports is known only afterwards.
                for cte in &with.cte_tables {
                    self.push_cte(fold(&cte.alias.name), Relation::default(), true);
                }
            }
            for (index, cte) in with.cte_tables.iter().enumerate() {
                let before = self.arena.reference_count();
                let mut relation = self.query(&cte.query, parent)?;
                self.nested(&relation);
                let names: Vec<_> = cte.alias.columns.iter().map(|c| fold(&c.name)).collect();
                rename(&mut relation, &names);
                let sharded = self.arena.reference_count() > before;
                if with.recursive {
                    // A forward or self reference was made without exports: it proved nothing.
                    let entry = &mut self.ctes[mark + index];
                    entry.relation = relation;
                    entry.sharded = sharded;
                    entry.uses.push(Vec::new());
                } else {
                    self.push_cte(fold(&cte.alias.name), relation, sharded);
                }
            }
        }
        let mut relation = self.set_expr(&query.body, parent, Some(query))?;
        if query.limit_clause.is_some() || query.fetch.is_some() {
            relation.transparent = false;
            relation.whole.get_or_insert("LIMIT or OFFSET");
        }
        let outer = Scope::within(parent);
        for sub in query.limit_clause.iter().flat_map(subqueries) {
            self.subquery(&sub, &outer)?;
        }
        for sub in query.fetch.iter().flat_map(subqueries) {
            self.subquery(&sub, &outer)?;
        }
        self.pop_ctes(mark);
        Ok(relation)
    }

    fn push_cte(&mut self, name: Box<str>, relation: Relation, sharded: bool) {
        self.ctes.push(Cte {
            name,
            relation,
            sharded,
            uses: Vec::new(),
        });
    }

    /// Leaves a WITH. A query that is used once may be restricted from its use.
    fn pop_ctes(&mut self, mark: usize) {
        for cte in self.ctes.split_off(mark) {
            if let ([only], true) = (cte.uses.as_slice(), cte.relation.transparent) {
                for (inner, outer) in only {
                    self.arena.edge(*inner, *outer);
                }
            }
        }
    }

    fn set_expr(
        &mut self,
        body: &SetExpr,
        parent: Option<&Scope>,
        tail: Option<&Query>,
    ) -> Result<Relation, ClientError> {
        match body {
            SetExpr::Select(select) => self.select(select, parent, tail),
            SetExpr::Query(query) => self.query(query, parent),
            SetExpr::Values(values) => self.values(values, parent),
            SetExpr::SetOperation { left, right, .. } => {
                self.set_operation(left, right, parent, tail)
            }
            SetExpr::Insert(statement)
            | SetExpr::Update(statement)
            | SetExpr::Delete(statement)
            | SetExpr::Merge(statement) => {
                self.write(statement, parent)?;
                Ok(Relation {
                    whole: Some("a write within WITH"),
                    ..Relation::default()
                })
            }
            SetExpr::Table(_) => Err(not_proven("TABLE name; write SELECT * FROM name")),
        }
    }

    fn set_operation(
        &mut self,
        left: &SetExpr,
        right: &SetExpr,
        parent: Option<&Scope>,
        tail: Option<&Query>,
    ) -> Result<Relation, ClientError> {
        let start = self.arena.reference_count();
        let l = self.set_expr(left, parent, None)?;
        let middle = self.arena.reference_count();
        let r = self.set_expr(right, parent, None)?;
        let end = self.arena.reference_count();
        if (middle > start) != (end > middle) {
            self.barrier("a set operation between a sharded table and one that is not");
        }
        self.nested(&l);
        self.nested(&r);
        let outer = Scope::within(parent);
        for query in tail
            .iter()
            .filter_map(|t| t.order_by.as_ref())
            .flat_map(subqueries)
        {
            self.subquery(&query, &outer)?;
        }
        Ok(Relation {
            columns: l
                .columns
                .iter()
                .map(|(name, _)| (name.clone(), None))
                .collect(),
            complete: l.complete,
            transparent: false,
            whole: Some("a set operation"),
        })
    }

    /// VALUES: of one row, its integers are known values.
    fn values(&mut self, values: &Values, parent: Option<&Scope>) -> Result<Relation, ClientError> {
        let scope = Scope::within(parent);
        for row in &values.rows {
            for expr in &row.content {
                self.walk(expr, &scope)?;
            }
        }
        let width = values.rows.first().map_or(0, |r| r.content.len());
        let mut columns: Vec<(Option<Box<str>>, Option<Node>)> = (1..=width)
            .map(|n| (Some(format!("column{n}").into()), None))
            .collect();
        if let [row] = values.rows.as_slice() {
            for (expr, column) in row.content.iter().zip(&mut columns) {
                column.1 = self.integer_column(expr);
            }
        }
        Ok(Relation {
            columns,
            complete: true,
            transparent: false,
            whole: None,
        })
    }

    /// A node for an output column that is one known integer. Strings and undeclared parameters
    /// become text there.
    fn integer_column(&mut self, expr: &Expr) -> Option<Node> {
        match self.constants.read(expr)? {
            Constant::Key(key, Form::Integer) => {
                let node = self.arena.node();
                self.arena.restrict(node, KeySet::One(key));
                Some(node)
            }
            _ => None,
        }
    }

    fn select(
        &mut self,
        select: &Select,
        parent: Option<&Scope>,
        tail: Option<&Query>,
    ) -> Result<Relation, ClientError> {
        let odd = select.top.is_some()
            || select.exclude.is_some()
            || !select.lateral_views.is_empty()
            || select.prewhere.is_some()
            || !select.connect_by.is_empty()
            || !select.cluster_by.is_empty()
            || !select.distribute_by.is_empty()
            || !select.sort_by.is_empty()
            || select.qualify.is_some()
            || select.value_table_mode.is_some()
            || select.into.is_some();
        if odd {
            return Err(not_proven("this kind of SELECT is not followed"));
        }
        let mut scope = Scope::within(parent);
        for item in &select.from {
            self.add_item(item, &mut scope)?;
        }
        let all = 0..scope.sources.len();
        if let Some(condition) = &select.selection {
            self.filter(condition, &scope, all, &Restrict::All)?;
        }
        let mut inner = Vec::new();
        inner.extend(subqueries(&select.projection));
        inner.extend(subqueries(&select.group_by));
        inner.extend(select.having.iter().flat_map(subqueries));
        inner.extend(select.distinct.iter().flat_map(subqueries));
        inner.extend(subqueries(&select.named_window));
        inner.extend(
            tail.and_then(|t| t.order_by.as_ref())
                .iter()
                .flat_map(|o| subqueries(*o)),
        );
        for query in &inner {
            self.subquery(query, &scope)?;
        }
        Ok(self.exports(select, &scope))
    }

    /// What a block offers to the query around it.
    fn exports(&self, select: &Select, scope: &Scope) -> Relation {
        let mut relation = Relation {
            complete: true,
            transparent: true,
            ..Relation::default()
        };
        for item in &select.projection {
            self.export(item, scope, &mut relation);
        }
        let sharded = scope.sources.iter().any(|s| s.sharded);
        let grouped = self.grouped(select, scope);
        if let Some(grouped) = &grouped {
            for (_, node) in &mut relation.columns {
                *node = node.filter(|n| grouped.contains(&self.arena.find(*n)));
            }
        }
        let key_grouped = grouped.is_some_and(|g| {
            scope.sources.iter().any(|s| {
                s.sharded
                    && s.relation
                        .columns
                        .iter()
                        .any(|(_, n)| n.is_some_and(|n| g.contains(&self.arena.find(n))))
            })
        });
        let used: Use = uses(select);
        if used.windows && !self.partitioned_by_key(select, scope) {
            relation.transparent = false;
            relation.whole = Some(crate::router::merge::WINDOW);
        } else if used.windows {
            relation.transparent = false;
        }
        if let Some(Distinct::On(list)) = &select.distinct {
            relation.transparent = false;
            let all = 0..scope.sources.len();
            if !list
                .iter()
                .any(|e| self.column(e, scope, all.clone()).is_some())
            {
                relation.whole = Some("DISTINCT ON");
            }
        }
        if select.distinct.is_some() && !relation.columns.iter().any(|(_, n)| n.is_some()) {
            relation.whole = Some("DISTINCT");
        }
        let aggregates = used.aggregates || has_groups(&select.group_by) || select.having.is_some();
        if aggregates && !key_grouped {
            relation.whole = Some(crate::router::merge::AGGREGATE);
        }
        if !sharded {
            relation.whole = None;
        }
        relation
    }

    fn partitioned_by_key(&self, select: &Select, scope: &Scope) -> bool {
        crate::router::access::window_partitions(select)
            .iter()
            .all(|partition| {
                partition
                    .iter()
                    .any(|e| self.column(e, scope, 0..scope.sources.len()).is_some())
            })
    }

    /// The classes of the keys that a block groups by; `None` without GROUP BY.
    fn grouped(&self, select: &Select, scope: &Scope) -> Option<Vec<Node>> {
        let GroupByExpr::Expressions(list, modifiers) = &select.group_by else {
            return Some(Vec::new());
        };
        if list.is_empty() && modifiers.is_empty() {
            return None;
        }
        if !modifiers.is_empty() {
            return Some(Vec::new());
        }
        let mut classes = Vec::new();
        for expr in list {
            let expr = match ordinal(expr) {
                Some(n) => match select.projection.get(n.wrapping_sub(1)) {
                    Some(
                        SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. },
                    ) => e,
                    _ => continue,
                },
                None => expr,
            };
            if let Some(column) = self.column(expr, scope, 0..scope.sources.len()) {
                classes.push(self.arena.find(column.node));
            }
        }
        Some(classes)
    }

    fn export(&self, item: &SelectItem, scope: &Scope, relation: &mut Relation) {
        let all = 0..scope.sources.len();
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let name = match expr {
                    Expr::Identifier(ident) => Some(fold(ident)),
                    Expr::CompoundIdentifier(idents) => idents.last().map(fold),
                    _ => None,
                };
                let node = self.column(expr, scope, all).map(|c| c.node);
                relation.columns.push((name, node));
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                let node = self.column(expr, scope, all).map(|c| c.node);
                relation.columns.push((Some(fold(alias)), node));
            }
            SelectItem::Wildcard(_) => {
                for index in all {
                    star(scope, index, relation);
                }
                relation.complete &= scope.merged.is_empty();
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                let names = parts(name).unwrap_or_default();
                let source = scope
                    .sources
                    .iter()
                    .position(|s| s.visible && s.name.as_ref() == names.last());
                match source {
                    Some(index) => star(scope, index, relation),
                    None => relation.complete = false,
                }
            }
            _ => relation.complete = false,
        }
    }

    /// A query within an expression.
    pub(super) fn subquery(
        &mut self,
        query: &Query,
        scope: &Scope,
    ) -> Result<Relation, ClientError> {
        let before = self.arena.reference_count();
        let relation = self.query(query, Some(scope))?;
        self.nested(&relation);
        let driven = scope.sources.iter().any(|s| s.sharded);
        if self.arena.reference_count() > before && !driven {
            self.barrier("a subquery over a sharded table, for rows that are not sharded");
        }
        Ok(relation)
    }

    /// Takes note that a query stands within another.
    pub(super) fn nested(&mut self, relation: &Relation) {
        if let Some(why) = relation.whole {
            self.barrier(&format!("a subquery with {why}"));
        }
    }
}

/// Whether GROUP BY is there.
fn has_groups(group_by: &GroupByExpr) -> bool {
    match group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(list, modifiers) => !list.is_empty() || !modifiers.is_empty(),
    }
}

/// An ordinal of GROUP BY.
fn ordinal(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(value) => match &value.value {
            sqlparser::ast::Value::Number(digits, false) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// All columns of one source.
fn star(scope: &Scope, index: usize, relation: &mut Relation) {
    let source = &scope.sources[index];
    relation.complete &= source.relation.complete && source.visible;
    if source.visible {
        relation
            .columns
            .extend(source.relation.columns.iter().cloned());
    }
}
