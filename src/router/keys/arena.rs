//! Which key values the rows of each sharded table reference can matter for.
//!
//! Every sharded reference has a *node* for its key column. Inner equality merges nodes into
//! classes; constants restrict a class. Where a restriction holds in one direction only (the
//! nullable side of an outer join, a correlated subquery, a column that a subquery exports) it
//! is an edge: the rows that matter at `from` have keys that rows that matter at `to` have.
//! Removing all other rows leaves the statement's answer as it was, so a statement may run on
//! one shard when all that remain are there.

use crate::plan::KeySet;

/// A key column of one reference, or of a subquery's output.
pub(super) type Node = usize;

/// A class that nothing else restricts, and what is known of its values.
#[derive(Debug)]
pub(in crate::router) struct Group {
    /// The values.
    pub(in crate::router) keys: KeySet,
    /// The key's column in the first of them.
    pub(in crate::router) column: Box<str>,
    /// The tables whose rows it governs.
    pub(in crate::router) tables: Vec<Box<str>>,
}

/// A mention of a sharded table.
#[derive(Debug)]
struct Reference {
    node: Node,
    table: Box<str>,
    column: Box<str>,
}

/// Nodes, classes, restrictions and edges of one statement.
#[derive(Debug, Default)]
pub(super) struct Arena {
    parent: Vec<Node>,
    constants: Vec<(Node, KeySet)>,
    edges: Vec<(Node, Node)>,
    references: Vec<Reference>,
}

impl Arena {
    /// A new node.
    pub(super) fn node(&mut self) -> Node {
        self.parent.push(self.parent.len());
        self.parent.len() - 1
    }

    /// A new node for the key of a sharded table's reference.
    pub(super) fn reference(&mut self, table: &str, column: &str) -> Node {
        let node = self.node();
        self.references.push(Reference {
            node,
            table: table.into(),
            column: column.into(),
        });
        node
    }

    /// How many nodes there are: the time that [`Arena::groups`] takes grows with its cube.
    pub(super) fn len(&self) -> usize {
        self.parent.len()
    }

    /// How many sharded references there are so far.
    pub(super) fn reference_count(&self) -> usize {
        self.references.len()
    }

    /// The class of a node.
    pub(super) fn find(&self, mut node: Node) -> Node {
        while self.parent[node] != node {
            node = self.parent[node];
        }
        node
    }

    /// Both are equal in every row that matters.
    pub(super) fn union(&mut self, a: Node, b: Node) {
        let (a, b) = (self.find(a), self.find(b));
        self.parent[a] = b;
    }

    /// Rows matter at `from` only with keys that `to` has.
    pub(super) fn edge(&mut self, from: Node, to: Node) {
        self.edges.push((from, to));
    }

    /// Rows matter at `node` only with keys in `set`.
    pub(super) fn restrict(&mut self, node: Node, set: KeySet) {
        self.constants.push((node, set));
    }

    /// The groups of references that restrict each other in circles (or are one class), except
    /// those that another group restricts: what holds there holds for these.
    pub(super) fn groups(&self) -> Vec<Group> {
        let reach = self.reachability();
        let class_of: Vec<Node> = (0..self.parent.len()).map(|n| self.find(n)).collect();
        let holds_reference =
            |class: Node| self.references.iter().any(|r| class_of[r.node] == class);
        let mut seen: Vec<Node> = Vec::new();
        let mut groups = Vec::new();
        for reference in &self.references {
            let class = class_of[reference.node];
            let together =
                |other: Node| other == class || (reach[class][other] && reach[other][class]);
            if seen.iter().any(|s| together(*s)) {
                continue;
            }
            let governed = (0..self.parent.len()).any(|other| {
                class_of[other] == other
                    && !together(other)
                    && reach[class][other]
                    && holds_reference(other)
            });
            if governed {
                continue;
            }
            seen.push(class);
            groups.push(self.group(reference, &reach, &class_of));
        }
        groups
    }

    /// What is known of a reference's class: its constants, and those of every class that restricts it.
    fn group(&self, reference: &Reference, reach: &[Vec<bool>], class_of: &[Node]) -> Group {
        let class = class_of[reference.node];
        let sets = self
            .constants
            .iter()
            .filter(|(n, _)| class_of[*n] == class || reach[class][class_of[*n]])
            .map(|(_, set)| set.clone())
            .collect();
        let tables = self
            .references
            .iter()
            .filter(|r| {
                let other = class_of[r.node];
                other == class || reach[other][class]
            })
            .map(|r| r.table.clone())
            .collect();
        Group {
            keys: and(sets),
            column: reference.column.clone(),
            tables,
        }
    }

    /// `reach[a][b]`: edges lead from class `a` to class `b`.
    fn reachability(&self) -> Vec<Vec<bool>> {
        let n = self.parent.len();
        let mut reach = vec![vec![false; n]; n];
        for (from, to) in &self.edges {
            reach[self.find(*from)][self.find(*to)] = true;
        }
        for via in 0..n {
            for from in 0..n {
                if reach[from][via] {
                    let onward = reach[via].clone();
                    for (to, reached) in reach[from].iter_mut().zip(onward) {
                        *to |= reached;
                    }
                }
            }
        }
        reach
    }
}

/// The intersection, flattened.
pub(in crate::router) fn and(sets: Vec<KeySet>) -> KeySet {
    let mut flat: Vec<KeySet> = Vec::new();
    for set in sets {
        match set {
            KeySet::All => {}
            KeySet::Empty => return KeySet::Empty,
            KeySet::And(inner) => flat.extend(inner),
            other if flat.contains(&other) => {}
            other => flat.push(other),
        }
    }
    match flat.len() {
        0 => KeySet::All,
        1 => flat.remove(0),
        _ => KeySet::And(flat),
    }
}

/// The union, flattened.
pub(in crate::router) fn or(sets: Vec<KeySet>) -> KeySet {
    let mut flat: Vec<KeySet> = Vec::new();
    for set in sets {
        match set {
            KeySet::All => return KeySet::All,
            KeySet::Empty => {}
            KeySet::Or(inner) => flat.extend(inner),
            other => flat.push(other),
        }
    }
    match flat.len() {
        0 => KeySet::Empty,
        1 => flat.remove(0),
        _ => KeySet::Or(flat),
    }
}
