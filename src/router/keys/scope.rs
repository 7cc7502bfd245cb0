//! Names: which key a column reference means.

use super::arena::Node;

/// What a FROM item offers under its name.
#[derive(Clone, Debug, Default)]
pub(super) struct Relation {
    /// Columns by name; an unnamed one may bear any name. The node is there for key columns.
    pub(super) columns: Vec<(Option<Box<str>>, Option<Node>)>,
    /// The columns above are all there are, in order.
    pub(super) complete: bool,
    /// A restriction on an exported key may be applied inside: every output row comes from rows
    /// with that key, and no other row counts.
    pub(super) transparent: bool,
    /// Why it must see the rows of all shards at once, unless they are all on one.
    pub(super) whole: Option<&'static str>,
}

/// What a name means within one relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// A key column.
    Key(Node),
    /// Another column.
    Other,
    /// Perhaps a column.
    Perhaps,
    /// No column.
    No,
}

impl Relation {
    /// Looks a column up.
    pub(super) fn lookup(&self, name: &str) -> Lookup {
        let mut found = self
            .columns
            .iter()
            .filter(|(n, _)| n.as_deref() == Some(name));
        match (found.next(), found.next()) {
            (Some((_, Some(node))), None) => Lookup::Key(*node),
            (Some(_), _) => Lookup::Other,
            (None, _) if !self.complete => Lookup::Perhaps,
            (None, _) if self.columns.iter().any(|(n, _)| n.is_none()) => Lookup::Perhaps,
            (None, _) => Lookup::No,
        }
    }
}

/// One FROM item of a query block.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Its alias, or the table's name; `None` when nothing can name it.
    pub(super) name: Option<Box<str>>,
    /// Not an alias: `public.name.column` may be written too.
    pub(super) is_table_name: bool,
    /// Columns of it can be named at all (not within an aliased join).
    pub(super) visible: bool,
    /// Its columns.
    pub(super) relation: Relation,
    /// It holds rows of a sharded table.
    pub(super) sharded: bool,
}

/// The columns that USING made one, over a range of sources.
#[derive(Clone, Debug)]
pub(super) struct Merged {
    pub(super) name: Box<str>,
    pub(super) node: Option<Node>,
    /// The source that the node belongs to.
    pub(super) source: usize,
    pub(super) range: std::ops::Range<usize>,
}

/// The sources of a query block, within those around it.
#[derive(Default)]
pub(super) struct Scope<'p> {
    pub(super) sources: Vec<Source>,
    pub(super) merged: Vec<Merged>,
    pub(super) parent: Option<&'p Scope<'p>>,
    /// Unqualified names are not looked up here from within: this block is half-built, or only
    /// part of it can be seen there.
    pub(super) qualified_only: bool,
}

/// A column's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) node: Node,
    /// The source of this block that it belongs to; `None` for a column of a block around.
    pub(super) source: Option<usize>,
}

impl<'p> Scope<'p> {
    pub(super) fn within(parent: Option<&'p Scope<'p>>) -> Scope<'p> {
        Scope {
            parent,
            ..Scope::default()
        }
    }

    /// The key column that a name means, seen from the sources in `range`; `None` when it is not
    /// certain to be one.
    pub(super) fn resolve(
        &self,
        parts: &[Box<str>],
        range: std::ops::Range<usize>,
    ) -> Option<Column> {
        match parts {
            [name] => self.unqualified(name, range),
            [table, name] => self.qualified(None, table, name, range),
            [schema, table, name] => self.qualified(Some(schema), table, name, range),
            _ => None,
        }
    }

    fn unqualified(&self, name: &str, range: std::ops::Range<usize>) -> Option<Column> {
        let merged =
            self.merged.iter().rev().find(|m| {
                &*m.name == name && m.range.start >= range.start && m.range.end <= range.end
            });
        if let Some(merged) = merged {
            return merged.node.map(|node| Column {
                node,
                source: Some(merged.source),
            });
        }
        let mut found = None;
        let mut perhaps = false;
        for index in range {
            let source = &self.sources[index];
            if !source.visible {
                continue;
            }
            match source.relation.lookup(name) {
                Lookup::Key(_) if found.is_some() => return None,
                Lookup::Key(node) => found = Some((node, index)),
                Lookup::Other => return None,
                Lookup::Perhaps => perhaps = true,
                Lookup::No => {}
            }
        }
        if let Some((node, index)) = found {
            return Some(Column {
                node,
                source: Some(index),
            });
        }
        let parent = self.parent?;
        if perhaps || parent.qualified_only {
            return None;
        }
        let outer = parent.unqualified(name, 0..parent.sources.len())?;
        Some(Column {
            node: outer.node,
            source: None,
        })
    }

    fn qualified(
        &self,
        schema: Option<&str>,
        table: &str,
        name: &str,
        range: std::ops::Range<usize>,
    ) -> Option<Column> {
        let named = |source: &Source| {
            source.visible
                && source.name.as_deref() == Some(table)
                && match schema {
                    None => true,
                    Some(schema) => schema == "public" && source.is_table_name,
                }
        };
        let mut found = range.filter(|i| named(&self.sources[*i]));
        match (found.next(), found.next()) {
            (Some(index), None) => match self.sources[index].relation.lookup(name) {
                Lookup::Key(node) => Some(Column {
                    node,
                    source: Some(index),
                }),
                _ => None,
            },
            (Some(_), Some(_)) => None,
            (None, _) => {
                // Within an aliased join the name is hidden; it is not one of a block around.
                let outer =
                    self.parent?
                        .qualified(schema, table, name, 0..self.parent?.sources.len())?;
                Some(Column {
                    node: outer.node,
                    source: None,
                })
            }
        }
    }
}
