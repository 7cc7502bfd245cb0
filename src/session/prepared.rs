//! Prepared statements: one name space for each client, one statement on a server for each text.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::backend::StatementId;
use crate::error::{ClientError, SqlState};
use crate::plan::Effect;
use crate::router::{Params, Routed, Router, SetConfig, set_configs};

/// A parsed statement of a client.
#[derive(Debug)]
pub struct Prepared {
    /// Its number on the servers; 0 for the unnamed statement, which has none.
    pub id: StatementId,
    /// Its text, for planning.
    pub sql: Box<str>,
    /// Its bytes as the client sent them, if the text could not keep them: in an encoding other
    /// than UTF-8.
    raw: Option<Box<[u8]>>,
    /// The declared parameter types.
    pub types: Vec<u32>,
    /// Its plan.
    pub routed: Routed,
    /// What its names mean, as [`super::gucs::Gucs::naming`] has it: a server analyses a statement
    /// once for all who share it.
    naming: Box<str>,
}

type Key = (Box<[u8]>, Vec<u32>, Box<str>);

impl Prepared {
    /// The text in the client's own bytes.
    pub fn bytes(&self) -> &[u8] {
        self.raw.as_deref().unwrap_or(self.sql.as_bytes())
    }
}

#[derive(Default)]
struct State {
    known: HashMap<Key, Weak<Prepared>, foldhash::fast::RandomState>,
    next: StatementId,
    purge_at: usize,
    /// About how much memory all of `known` takes.
    bytes: usize,
}

/// About how much memory a statement takes: its text is kept twice, and its plan's places.
fn cost((sql, types, naming): &Key) -> usize {
    1024 + 2 * sql.len() + 4 * types.len() + 2 * naming.len()
}

impl State {
    /// Forgets the statements that no client has any more.
    fn purge(&mut self) {
        let bytes = &mut self.bytes;
        self.known.retain(|key, statement| {
            let used = statement.strong_count() > 0;
            if !used {
                *bytes -= cost(key);
            }
            used
        });
        self.purge_at = 1024.max(self.known.len() * 2);
    }
}

/// The statements that any client of a database has prepared by name: the same text and types are
/// one statement on the servers. Those that no client has any more are forgotten.
#[derive(Default)]
pub struct Statements {
    state: Mutex<State>,
}

impl Statements {
    /// The statement of this text and these types, whose names mean what `naming` says. An error
    /// if all statements together would take more than `limit` bytes.
    pub fn intern(
        &self,
        router: &Router,
        sql: &[u8],
        types: Vec<u32>,
        naming: &str,
        limit: usize,
    ) -> Result<Arc<Prepared>, ClientError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (Box::from(sql), types, Box::from(naming));
        if let Some(known) = state.known.get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let cost = cost(&key);
        if state.known.len() >= state.purge_at || state.bytes + cost > limit {
            state.purge();
        }
        if state.bytes + cost > limit {
            let message = "the prepared statements of all clients take too much memory";
            let error = ClientError::error(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message);
            return Err(error.hint("Close statements, or raise session.max_statement_memory."));
        }
        state.bytes += cost;
        // A text that is prepared again after it was forgotten gets a new number: the old one may
        // still exist on some server under a plan that a change of the schema made stale.
        state.next += 1;
        let prepared = Arc::new(Prepared {
            naming: naming.into(),
            ..unnamed(router, sql, key.1.clone(), state.next)
        });
        // The same text may have stood there for clients that are gone.
        if let Some((key, _)) = state.known.remove_entry(&key) {
            state.bytes -= self::cost(&key);
        }
        state.known.insert(key, Arc::downgrade(&prepared));
        Ok(prepared)
    }

    /// The statement's plan is stale: who prepares the text again gets another statement, though
    /// other clients may still have this one.
    pub(super) fn forget(&self, stale: &Prepared) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (
            Box::from(stale.bytes()),
            stale.types.clone(),
            stale.naming.clone(),
        );
        if let Some(known) = state.known.get(&key)
            && known.upgrade().is_none_or(|known| known.id == stale.id)
        {
            state.known.remove(&key);
            state.bytes -= cost(&key);
        }
    }
}

/// A statement with a number of the caller's choice.
pub(super) fn unnamed(router: &Router, sql: &[u8], types: Vec<u32>, id: StatementId) -> Prepared {
    let text = String::from_utf8_lossy(sql);
    let routed = router.route(&text, &types);
    Prepared {
        id,
        raw: (text.as_bytes() != sql).then(|| sql.into()),
        sql: text.into(),
        types,
        routed,
        naming: "".into(),
    }
}

impl Prepared {
    /// The statement with its parameters' values written in, where the session will have to
    /// remember them.
    pub(super) fn with_values(
        &self,
        router: &Router,
        params: &dyn Params,
    ) -> Option<Arc<Prepared>> {
        let statement = self.routed.shape.statements.first()?;
        if statement.effect != Effect::SetConfig {
            return None;
        }
        let calls = set_configs(&self.sql, params)?;
        let calls: Vec<_> = calls.iter().map(SetConfig::call).collect();
        let text = format!("SELECT {}", calls.join(", "));
        let bound = unnamed(router, text.as_bytes(), Vec::new(), self.id);
        Some(Arc::new(bound))
    }
}

/// A client's portals by name: what each was bound to. Most clients only ever use the unnamed one,
/// which costs no look-up.
#[derive(Debug, Default)]
pub(super) struct Portals {
    unnamed: Option<Arc<Prepared>>,
    named: HashMap<Box<[u8]>, Arc<Prepared>, foldhash::fast::RandomState>,
}

impl Portals {
    /// What the portal was bound to.
    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<Prepared>> {
        if name.is_empty() {
            self.unnamed.as_ref()
        } else {
            self.named.get(name)
        }
    }

    /// The portal is bound to a statement, whatever it was before.
    pub(super) fn insert(&mut self, name: &[u8], statement: Arc<Prepared>) {
        if name.is_empty() {
            self.unnamed = Some(statement);
        } else {
            self.named.insert(name.into(), statement);
        }
    }

    /// The portal was closed.
    pub(super) fn remove(&mut self, name: &[u8]) {
        if name.is_empty() {
            self.unnamed = None;
        } else {
            self.named.remove(name);
        }
    }

    /// The transaction is over, and its portals with it.
    pub(super) fn clear(&mut self) {
        self.unnamed = None;
        self.named.clear();
    }
}
