//! Conditions: what a WHERE or ON proves about keys.

use std::ops::Range;

use sqlparser::ast::{BinaryOperator, Expr, Query};

use crate::error::ClientError;
use crate::plan::KeySet;

use super::arena::{Node, and, or};
use super::constant::Constant;
use super::from::Restrict;
use super::scope::{Column, Scope};
use super::{Analyzer, fold, subqueries};

impl Analyzer<'_> {
    /// Takes from a condition what every row that passes it fulfils.
    pub(super) fn filter(
        &mut self,
        condition: &Expr,
        scope: &Scope,
        range: Range<usize>,
        restrict: &Restrict,
    ) -> Result<(), ClientError> {
        match condition {
            Expr::Nested(inner) => return self.filter(inner, scope, range, restrict),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::And,
                right,
            } => {
                self.filter(left, scope, range.clone(), restrict)?;
                return self.filter(right, scope, range, restrict);
            }
            Expr::InSubquery {
                expr,
                subquery,
                negated: false,
            } => {
                self.walk(expr, scope)?;
                return self.in_subquery(expr, subquery, scope, range, restrict);
            }
            Expr::AnyOp {
                left,
                compare_op: BinaryOperator::Eq,
                right,
                ..
            } if matches!(**right, Expr::Subquery(_)) => {
                self.walk(left, scope)?;
                if let Expr::Subquery(subquery) = &**right {
                    return self.in_subquery(left, subquery, scope, range, restrict);
                }
            }
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Eq,
                right,
            } => self.equal_columns(left, right, scope, &range, restrict),
            _ => {}
        }
        for (column, set) in self.restrictions(condition, scope, &range) {
            if restricts(restrict, column) {
                self.arena.restrict(column.node, set);
            }
        }
        self.walk(condition, scope)
    }

    /// Analyses the subqueries within an expression, taking nothing from where they stand.
    pub(super) fn walk(&mut self, expr: &Expr, scope: &Scope) -> Result<(), ClientError> {
        for query in subqueries(expr) {
            self.subquery(&query, scope)?;
        }
        Ok(())
    }

    /// `a = b`, also by rows, between key columns.
    fn equal_columns(
        &mut self,
        left: &Expr,
        right: &Expr,
        scope: &Scope,
        range: &Range<usize>,
        restrict: &Restrict,
    ) {
        if let (Expr::Tuple(l), Expr::Tuple(r)) = (plain(left), plain(right)) {
            if l.len() == r.len() {
                for (l, r) in l.iter().zip(r) {
                    self.equal_columns(l, r, scope, range, restrict);
                }
            }
            return;
        }
        let l = self.column(left, scope, range.clone());
        let r = self.column(right, scope, range.clone());
        if let (Some(l), Some(r)) = (l, r) {
            match (restricts(restrict, l), restricts(restrict, r)) {
                (true, true) => self.arena.union(l.node, r.node),
                (true, false) => self.arena.edge(l.node, r.node),
                (false, true) => self.arena.edge(r.node, l.node),
                (false, false) => {}
            }
        }
    }

    /// `x IN (SELECT …)`: both ways, as far as the query lets a restriction through.
    fn in_subquery(
        &mut self,
        expr: &Expr,
        query: &Query,
        scope: &Scope,
        range: Range<usize>,
        restrict: &Restrict,
    ) -> Result<(), ClientError> {
        let relation = self.subquery(query, scope)?;
        let expr = plain(expr);
        let single = std::slice::from_ref(expr);
        let left = match expr {
            Expr::Tuple(exprs) => exprs.as_slice(),
            _ => single,
        };
        if !relation.complete || relation.columns.len() != left.len() {
            return Ok(());
        }
        for (expr, (_, node)) in left.iter().zip(&relation.columns) {
            let Some(inner) = *node else { continue };
            let Some(column) = self.column(expr, scope, range.clone()) else {
                continue;
            };
            if restricts(restrict, column) {
                self.arena.edge(column.node, inner);
            }
            if relation.transparent {
                self.arena.edge(inner, column.node);
            }
        }
        Ok(())
    }

    /// The constants that each key column is confined to in rows that pass `condition`.
    fn restrictions(
        &mut self,
        condition: &Expr,
        scope: &Scope,
        range: &Range<usize>,
    ) -> Vec<(Column, KeySet)> {
        match condition {
            Expr::Nested(inner) => self.restrictions(inner, scope, range),
            Expr::BinaryOp { left, op, right } => match op {
                BinaryOperator::And => {
                    let mut sets = self.restrictions(left, scope, range);
                    for (column, set) in self.restrictions(right, scope, range) {
                        add(&mut sets, column, set);
                    }
                    sets
                }
                BinaryOperator::Or => {
                    let left = self.restrictions(left, scope, range);
                    let right = self.restrictions(right, scope, range);
                    either(left, &right)
                }
                BinaryOperator::Eq => {
                    let mut sets = Vec::new();
                    self.equal_constant(left, right, scope, range, &mut sets);
                    sets
                }
                _ => Vec::new(),
            },
            Expr::InList {
                expr,
                list,
                negated: false,
            } => self.in_list(expr, list, scope, range),
            Expr::AnyOp {
                left,
                compare_op: BinaryOperator::Eq,
                right,
                ..
            } => match self.column(left, scope, range.clone()) {
                Some(column) => vec![(column, self.constants.any(right))],
                None => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// `key = constant`, either way round, also by rows.
    fn equal_constant(
        &mut self,
        left: &Expr,
        right: &Expr,
        scope: &Scope,
        range: &Range<usize>,
        sets: &mut Vec<(Column, KeySet)>,
    ) {
        if let (Expr::Tuple(l), Expr::Tuple(r)) = (plain(left), plain(right)) {
            if l.len() == r.len() {
                for (l, r) in l.iter().zip(r) {
                    self.equal_constant(l, r, scope, range, sets);
                }
            }
            return;
        }
        for (column, constant) in [(left, right), (right, left)] {
            if let Some(column) = self.column(column, scope, range.clone()) {
                match self.constants.read(constant) {
                    Some(Constant::Null) => add(sets, column, KeySet::Empty),
                    Some(Constant::Key(key, _)) => add(sets, column, KeySet::One(key)),
                    None => {}
                }
            }
        }
    }

    fn in_list(
        &mut self,
        expr: &Expr,
        list: &[Expr],
        scope: &Scope,
        range: &Range<usize>,
    ) -> Vec<(Column, KeySet)> {
        let expr = plain(expr);
        let Expr::Tuple(columns) = expr else {
            return match self.column(expr, scope, range.clone()) {
                Some(column) => vec![(column, self.constants.list(list))],
                None => Vec::new(),
            };
        };
        let mut sets = Vec::new();
        for (position, column) in columns.iter().enumerate() {
            let Some(column) = self.column(column, scope, range.clone()) else {
                continue;
            };
            let at_position: Option<Vec<Expr>> = list
                .iter()
                .map(|row| match plain(row) {
                    Expr::Tuple(items) if items.len() == columns.len() => {
                        items.get(position).cloned()
                    }
                    _ => None,
                })
                .collect();
            if let Some(items) = at_position {
                sets.push((column, self.constants.list(&items)));
            }
        }
        sets
    }

    /// The key column that an expression is.
    pub(super) fn column(&self, expr: &Expr, scope: &Scope, range: Range<usize>) -> Option<Column> {
        match expr {
            Expr::Nested(inner) => self.column(inner, scope, range),
            Expr::Identifier(ident) => scope.resolve(&[fold(ident)], range),
            Expr::CompoundIdentifier(idents) => {
                let parts: Vec<Box<str>> = idents.iter().map(fold).collect();
                scope.resolve(&parts, range)
            }
            _ => None,
        }
    }
}

/// Without parentheses around it.
fn plain(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => plain(inner),
        _ => expr,
    }
}

/// Whether a condition confines the rows of a column's source.
fn restricts(restrict: &Restrict, column: Column) -> bool {
    match (restrict, column.source) {
        (Restrict::All, source) => source.is_some(),
        (Restrict::Only(range), Some(source)) => range.contains(&source),
        (Restrict::Only(_) | Restrict::Nothing, _) => false,
    }
}

fn add(sets: &mut Vec<(Column, KeySet)>, column: Column, set: KeySet) {
    match sets.iter_mut().find(|(c, _)| c.node == column.node) {
        Some((_, old)) => {
            let before = std::mem::replace(old, KeySet::All);
            *old = and(vec![before, set]);
        }
        None => sets.push((column, set)),
    }
}

/// What holds on either side of an OR.
fn either(left: Vec<(Column, KeySet)>, right: &[(Column, KeySet)]) -> Vec<(Column, KeySet)> {
    left.into_iter()
        .filter_map(|(column, l)| {
            let node: Node = column.node;
            let (_, r) = right.iter().find(|(c, _)| c.node == node)?;
            Some((column, or(vec![l, r.clone()])))
        })
        .collect()
}
