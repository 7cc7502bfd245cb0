//! FROM: sources, joins, and what their conditions prove.

use std::ops::Range;

use sqlparser::ast::{
    Expr, Join, JoinConstraint, JoinOperator, ObjectName, TableAlias, TableFactor, TableWithJoins,
    Visit,
};

use crate::error::ClientError;
use crate::router::Table;

use super::arena::Node;
use super::scope::{Lookup, Merged, Relation, Scope, Source};
use super::{Analyzer, Named, fold, not_proven, parts, subqueries};

/// Which rows a condition restricts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Restrict {
    /// Those of every source (WHERE, inner ON).
    All,
    /// Those of these sources only: the nullable side of an outer join.
    Only(Range<usize>),
    /// None (FULL JOIN).
    Nothing,
}

impl Analyzer<'_> {
    /// Adds one FROM item with its joins to a block.
    pub(super) fn add_item(
        &mut self,
        item: &TableWithJoins,
        scope: &mut Scope,
    ) -> Result<(), ClientError> {
        let start = scope.sources.len();
        self.factor(&item.relation, scope)?;
        for join in &item.joins {
            let right = scope.sources.len();
            self.factor(&join.relation, scope)?;
            self.join(join, start, right, scope)?;
        }
        Ok(())
    }

    fn join(
        &mut self,
        join: &Join,
        start: usize,
        right: usize,
        scope: &mut Scope,
    ) -> Result<(), ClientError> {
        let end = scope.sources.len();
        let sharded = |range: Range<usize>| scope.sources[range].iter().any(|s| s.sharded);
        let (left_sharded, right_sharded) = (sharded(start..right), sharded(right..end));
        let (restrict, constraint) = match &join.join_operator {
            JoinOperator::Join(c) | JoinOperator::Inner(c) | JoinOperator::CrossJoin(c) => {
                (Restrict::All, c)
            }
            JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => {
                if right_sharded && !left_sharded {
                    self.barrier("an outer join that keeps the rows of a table not sharded");
                }
                (Restrict::Only(right..end), c)
            }
            JoinOperator::Right(c) | JoinOperator::RightOuter(c) => {
                if left_sharded && !right_sharded {
                    self.barrier("an outer join that keeps the rows of a table not sharded");
                }
                (Restrict::Only(start..right), c)
            }
            JoinOperator::FullOuter(c) => {
                if left_sharded != right_sharded {
                    self.barrier("a full join with a table not sharded");
                }
                (Restrict::Nothing, c)
            }
            _ => return Err(not_proven("this kind of join is not followed")),
        };
        match constraint {
            JoinConstraint::None => Ok(()),
            JoinConstraint::On(condition) => self.on(condition, start..end, &restrict, scope),
            JoinConstraint::Using(columns) => {
                for column in columns {
                    self.using(column, start, right, &restrict, scope)?;
                }
                Ok(())
            }
            JoinConstraint::Natural => Err(not_proven(
                "NATURAL JOIN depends on columns that pgdrover does not know; write USING",
            )),
        }
    }

    /// ON sees the join's own sources and those of blocks around, but no other FROM item: a name
    /// that one of these has means a source further out.
    fn on(
        &mut self,
        condition: &Expr,
        own: Range<usize>,
        restrict: &Restrict,
        scope: &mut Scope,
    ) -> Result<(), ClientError> {
        let others = 0..own.start;
        let visible: Vec<bool> = scope.sources[others.clone()]
            .iter_mut()
            .map(|s| std::mem::replace(&mut s.visible, false))
            .collect();
        // Subqueries would see too much without qualification.
        scope.qualified_only = true;
        let done = self.filter(condition, scope, own, restrict);
        scope.qualified_only = false;
        for (source, visible) in scope.sources[others].iter_mut().zip(visible) {
            source.visible = visible;
        }
        done
    }

    /// USING: the column of both sides becomes one.
    fn using(
        &mut self,
        column: &ObjectName,
        start: usize,
        right: usize,
        restrict: &Restrict,
        scope: &mut Scope,
    ) -> Result<(), ClientError> {
        let end = scope.sources.len();
        let names = parts(column)?;
        let [name] = names.as_slice() else {
            return Err(not_proven("a qualified name in USING"));
        };
        let left_side = side(scope, name, start..right);
        let right_side = side(scope, name, right..end);
        if let (Some((l, _)), Some((r, _))) = (left_side, right_side) {
            match restrict {
                Restrict::All => self.arena.union(l, r),
                Restrict::Only(range) if range.start == right => self.arena.edge(r, l),
                Restrict::Only(_) => self.arena.edge(l, r),
                Restrict::Nothing => {}
            }
        }
        // The merged column is the left one, but the right one of a right join.
        let kept = match restrict {
            Restrict::All => left_side.or(right_side),
            Restrict::Only(range) if range.start == right => left_side,
            Restrict::Only(_) => right_side,
            Restrict::Nothing => None,
        };
        // An inner join keeps the left column; equality makes the right one as good only if
        // both are keys, and otherwise the left one's type decides.
        let kept = match (restrict, left_side) {
            (Restrict::All, None) => None,
            _ => kept,
        };
        scope.merged.push(Merged {
            name: name.clone(),
            node: kept.map(|(node, _)| node),
            source: kept.map_or(start, |(_, source)| source),
            range: start..end,
        });
        Ok(())
    }

    /// Adds the sources of one table factor.
    fn factor(&mut self, factor: &TableFactor, scope: &mut Scope) -> Result<(), ClientError> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample: _,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                let source = self.table_source(name, alias.as_ref())?;
                scope.sources.push(source);
                Ok(())
            }
            TableFactor::Table {
                name: _,
                alias,
                args: Some(_),
                ..
            } => {
                // A function: the parser calls its name a relation.
                self.accounted += 1;
                self.constant_source(factor, alias.as_ref(), scope)
            }
            TableFactor::Derived {
                lateral,
                subquery,
                alias,
                sample: None,
            } => {
                let before = self.arena.reference_count();
                let relation = if *lateral {
                    scope.qualified_only = true;
                    let relation = self.query(subquery, Some(&*scope));
                    scope.qualified_only = false;
                    relation?
                } else {
                    self.query(subquery, scope.parent)?
                };
                self.nested(&relation);
                let sharded = self.arena.reference_count() > before;
                let relation = self.derive(&relation, relation.transparent);
                scope
                    .sources
                    .push(source(relation, alias.as_ref(), sharded));
                Ok(())
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                let start = scope.sources.len();
                self.add_item(table_with_joins, scope)?;
                if alias.is_some() {
                    for hidden in &mut scope.sources[start..] {
                        hidden.visible = false;
                    }
                    scope.merged.retain(|m| m.range.start < start);
                    scope
                        .sources
                        .push(source(Relation::default(), alias.as_ref(), false));
                }
                Ok(())
            }
            TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::JsonTable { alias, .. }
            | TableFactor::XmlTable { alias, .. }
            | TableFactor::TableFunction { alias, .. } => {
                self.constant_source(factor, alias.as_ref(), scope)
            }
            _ => Err(not_proven("this kind of FROM item is not followed")),
        }
    }

    /// A source that holds no table's rows, such as a function.
    fn constant_source(
        &mut self,
        factor: &impl Visit,
        alias: Option<&TableAlias>,
        scope: &mut Scope,
    ) -> Result<(), ClientError> {
        scope.qualified_only = true;
        for query in subqueries(factor) {
            let done = self.subquery(&query, scope);
            if done.is_err() {
                scope.qualified_only = false;
                return done.map(|_| ());
            }
        }
        scope.qualified_only = false;
        scope
            .sources
            .push(source(Relation::default(), alias, false));
        Ok(())
    }

    /// A table or CTE as a source.
    pub(super) fn table_source(
        &mut self,
        name: &ObjectName,
        alias: Option<&TableAlias>,
    ) -> Result<Source, ClientError> {
        let mut out = match self.table(name)? {
            Named::Cte(index) => {
                let relation = self.ctes[index].relation.clone();
                let before = relation.clone();
                let derived = self.derive(&relation, false);
                let pairs = before
                    .columns
                    .iter()
                    .zip(&derived.columns)
                    .filter_map(|((_, inner), (_, outer))| Some(((*inner)?, (*outer)?)))
                    .collect();
                self.ctes[index].uses.push(pairs);
                source(derived, alias, self.ctes[index].sharded)
            }
            Named::Table(name, Table::Sharded { column, columns }) => {
                let node = self.arena.reference(&name, &column);
                let columns = match &columns {
                    None => vec![(Some(column), Some(node))],
                    Some(all) => all
                        .iter()
                        .map(|c| (Some(c.clone()), (*c == column).then_some(node)))
                        .collect(),
                };
                // Declared columns may lag behind ALTER TABLE, so they never prove that a name
                // is not a column.
                let relation = Relation {
                    columns,
                    complete: false,
                    transparent: true,
                    whole: None,
                };
                source(relation, alias, true)
            }
            Named::Table(name, Table::Home(shard)) => {
                self.out.homes.push((shard, name));
                source(Relation::default(), alias, false)
            }
            Named::Table(_, Table::Reference) | Named::Catalog => {
                source(Relation::default(), alias, false)
            }
        };
        if out.name.is_none() {
            out.name = parts(name)?.pop();
            out.is_table_name = true;
        }
        Ok(out)
    }

    /// Fresh nodes for a use of a subquery's columns: their values come from inside, and a
    /// restriction outside holds inside where `transparent` says so.
    pub(super) fn derive(&mut self, relation: &Relation, transparent: bool) -> Relation {
        let columns = relation
            .columns
            .iter()
            .map(|(name, node)| (name.clone(), node.map(|n| self.derive_node(n, transparent))))
            .collect();
        Relation {
            columns,
            complete: relation.complete,
            transparent,
            whole: None,
        }
    }

    fn derive_node(&mut self, inner: Node, transparent: bool) -> Node {
        let outer = self.arena.node();
        self.arena.edge(outer, inner);
        if transparent {
            self.arena.edge(inner, outer);
        }
        outer
    }
}

/// The key column that USING names on one side: the only candidate there.
fn side(scope: &Scope, name: &str, range: Range<usize>) -> Option<(Node, usize)> {
    let merged = scope
        .merged
        .iter()
        .rev()
        .find(|m| &*m.name == name && m.range.start >= range.start && m.range.end <= range.end);
    if let Some(merged) = merged {
        return merged.node.map(|node| (node, merged.source));
    }
    let mut found = None;
    for index in range {
        let source = &scope.sources[index];
        if !source.visible {
            continue;
        }
        match source.relation.lookup(name) {
            Lookup::Key(node) if found.is_none() => found = Some((node, index)),
            Lookup::Key(_) | Lookup::Other => return None,
            Lookup::Perhaps | Lookup::No => {}
        }
    }
    found
}

/// A source under its alias, whose column list renames.
fn source(mut relation: Relation, alias: Option<&TableAlias>, sharded: bool) -> Source {
    if let Some(alias) = alias {
        rename(
            &mut relation,
            &alias
                .columns
                .iter()
                .map(|c| fold(&c.name))
                .collect::<Vec<_>>(),
        );
    }
    Source {
        name: alias.map(|a| fold(&a.name)),
        is_table_name: false,
        visible: true,
        relation,
        sharded,
    }
}

/// Applies a column list: by position, so only where the positions are known.
pub(super) fn rename(relation: &mut Relation, names: &[Box<str>]) {
    if names.is_empty() {
        return;
    }
    if !relation.complete {
        *relation = Relation {
            transparent: relation.transparent,
            ..Relation::default()
        };
        return;
    }
    for ((old, _), new) in relation.columns.iter_mut().zip(names) {
        *old = Some(new.clone());
    }
}
