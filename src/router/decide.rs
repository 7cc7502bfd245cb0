//! A plan with its values: which shard.

use std::collections::BTreeSet;

use crate::error::{ClientError, SqlState};
use crate::plan::{Decision, KeyExpr, KeySet, Plan, Statement, Target};
use crate::sharding::{Key, KeyError, KeyType, ShardId};

use super::keys::{of_type, textual};
use super::scan::{Literal, LiteralKind};
use super::statement::Detail;
use super::{Param, Params, Schema};

/// The values of one execution.
pub(super) struct Values<'a> {
    pub(super) schema: &'a Schema,
    pub(super) sql: &'a str,
    pub(super) literals: &'a [Literal],
    pub(super) params: &'a dyn Params,
    pub(super) detail: &'a Detail,
}

/// Keys of a set that is known.
enum Known {
    All,
    Keys(Vec<Key>),
}

/// Why a set is not known.
enum Stop {
    /// A parameter has no value yet.
    Unbound,
    /// The server will refuse the value, on whichever shard.
    ServerRefuses,
    /// pgdrover refuses it.
    Refused(ClientError),
}

impl Values<'_> {
    /// Decides a statement.
    pub(super) fn decide(&self, statement: &Statement) -> Decision {
        match &statement.plan {
            Plan::Local(_) => Decision::Local,
            Plan::Reject(error) => Decision::Refused(error.clone()),
            _ if self.schema.shards == 1 => Decision::Shard(ShardId(0)),
            Plan::Single(Target::AnyOne) => Decision::AnyShard,
            Plan::Single(Target::Home(shard) | Target::Forced(shard)) => Decision::Shard(*shard),
            Plan::Single(Target::All) => Decision::Refused(unproven()),
            Plan::Single(Target::Keys(sets)) => self.keys(sets, None),
            Plan::Several {
                target: Target::Keys(sets),
                because,
                ..
            } => self.keys(sets, Some(because)),
            Plan::Several { because, .. } => Decision::Refused(several(because, None)),
        }
    }

    fn keys(&self, sets: &[KeySet], because: Option<&str>) -> Decision {
        let decision = match self.one_shard(sets, because) {
            Ok(decision) => decision,
            Err(Stop::Unbound | Stop::ServerRefuses) => Decision::AnyShard,
            Err(Stop::Refused(error)) => Decision::Refused(error),
        };
        match (decision, self.detail.forced) {
            (Decision::Shard(shard), Some(forced)) if shard != forced => {
                Decision::Refused(elsewhere(shard, forced))
            }
            (Decision::AnyShard, Some(forced)) => Decision::Shard(forced),
            (decision, _) => decision,
        }
    }

    fn one_shard(&self, sets: &[KeySet], because: Option<&str>) -> Result<Decision, Stop> {
        if let [KeySet::One(expr)] = sets {
            // By far the most frequent: no set is built.
            if let Some(decision) = self.single(expr)? {
                return Ok(decision);
            }
        }
        if let [KeySet::Or(list)] = sets
            && let Some(decision) = self.in_list(list)?
        {
            return Ok(decision);
        }
        let mut known = Vec::with_capacity(sets.len());
        for set in sets {
            match self.known(set)? {
                Known::All => return Err(Stop::Refused(unproven())),
                Known::Keys(keys) if keys.is_empty() => {}
                Known::Keys(mut keys) => {
                    keys.sort_unstable();
                    keys.dedup();
                    known.push(keys);
                }
            }
        }
        let shards = self.owners(&known)?;
        let agree = match known.as_slice() {
            [] | [_] => true,
            [first, rest @ ..] => first.len() == 1 && rest.iter().all(|keys| keys == first),
        };
        match (agree, shards.len()) {
            (_, 0) => Ok(Decision::AnyShard),
            (true, 1) => Ok(shards
                .first()
                .map_or(Decision::AnyShard, |shard| Decision::Shard(*shard))),
            (true, _) => Err(Stop::Refused(several(
                because.unwrap_or("it concerns several keys"),
                Some(&shards),
            ))),
            (false, _) => Err(Stop::Refused(several(
                because.unwrap_or("its parts concern different keys"),
                Some(&shards),
            ))),
        }
    }

    /// One key: `None` where the general way must look.
    fn single(&self, expr: &KeyExpr) -> Result<Option<Decision>, Stop> {
        if let KeyExpr::ParamArray { .. } | KeyExpr::LiteralArray { .. } = expr {
            return Ok(None);
        }
        let Some(key) = self.key(expr)? else {
            return Ok(None);
        };
        match self.schema.function.shard(&key) {
            Some(shard) => Ok(Some(Decision::Shard(shard))),
            None if self.detail.assigns => Err(Stop::Refused(unowned())),
            None => Ok(Some(Decision::AnyShard)),
        }
    }

    /// A list of keys, all on one shard: `None` where the general way must look.
    fn in_list(&self, list: &[KeySet]) -> Result<Option<Decision>, Stop> {
        let mut one = Decision::AnyShard;
        for set in list {
            let KeySet::One(expr @ (KeyExpr::Literal { .. } | KeyExpr::Param { .. })) = set else {
                return Ok(None);
            };
            match self.single(expr) {
                Ok(Some(Decision::AnyShard)) => {}
                Ok(Some(shard)) if one == Decision::AnyShard || one == shard => one = shard,
                Err(Stop::ServerRefuses) => return Err(Stop::ServerRefuses),
                Ok(_) | Err(_) => return Ok(None),
            }
        }
        Ok(Some(one))
    }

    fn owners(&self, known: &[Vec<Key>]) -> Result<BTreeSet<ShardId>, Stop> {
        let mut shards = BTreeSet::new();
        for key in known.iter().flatten() {
            match self.schema.function.shard(key) {
                Some(shard) => {
                    shards.insert(shard);
                }
                None if self.detail.assigns => return Err(Stop::Refused(unowned())),
                // Nobody can have stored a row of it.
                None => {}
            }
        }
        Ok(shards)
    }

    fn known(&self, set: &KeySet) -> Result<Known, Stop> {
        match set {
            KeySet::All => Ok(Known::All),
            KeySet::Empty if self.detail.assigns => Err(Stop::Refused(null_key())),
            KeySet::Empty => Ok(Known::Keys(Vec::new())),
            KeySet::One(KeyExpr::ParamArray { index }) => self.param_array(*index),
            KeySet::One(KeyExpr::LiteralArray { index }) => self.literal_array(*index),
            KeySet::One(expr) => match self.key(expr) {
                Ok(key) => Ok(Known::Keys(key.into_iter().collect())),
                Err(Stop::Refused(error)) if !self.detail.assigns => {
                    drop(error);
                    Ok(Known::All)
                }
                Err(stop) => Err(stop),
            },
            KeySet::Or(sets) => {
                let mut all = Vec::new();
                let mut open = false;
                for set in sets {
                    match self.known(set)? {
                        Known::All => open = true,
                        Known::Keys(keys) => all.extend(keys),
                    }
                }
                Ok(if open { Known::All } else { Known::Keys(all) })
            }
            KeySet::And(sets) => {
                let mut both: Option<Vec<Key>> = None;
                for set in sets {
                    if let Known::Keys(keys) = self.known(set)? {
                        both = Some(match both {
                            None => keys,
                            Some(old) => old.into_iter().filter(|k| keys.contains(k)).collect(),
                        });
                    }
                }
                Ok(both.map_or(Known::All, Known::Keys))
            }
        }
    }

    /// A key's value; `None` where no key can equal it (NULL, 42.5).
    fn key(&self, expr: &KeyExpr) -> Result<Option<Key>, Stop> {
        let read = match expr {
            KeyExpr::Literal {
                index,
                negated,
                cast,
            } => self.literal(*index, *negated, *cast),
            KeyExpr::Param { index, cast } => match self.params.get(*index) {
                None => return Err(Stop::Unbound),
                Some(param) => match param.value {
                    None if self.detail.assigns => return Err(Stop::Refused(null_key())),
                    None => return Ok(None),
                    Some(bytes) => self.param(&param, bytes, *cast),
                },
            },
            KeyExpr::ParamArray { .. } | KeyExpr::LiteralArray { .. } => Err(KeyError::Unknown),
        };
        match read {
            Ok(key) => Ok(Some(key)),
            Err(KeyError::NoSuchKey) if self.detail.assigns => Err(Stop::Refused(rounded())),
            Err(KeyError::NoSuchKey) => Ok(None),
            Err(KeyError::Malformed) => Err(Stop::ServerRefuses),
            Err(KeyError::Unknown) => Err(Stop::Refused(undecoded())),
        }
    }

    fn literal(&self, index: usize, negated: bool, cast: Option<KeyType>) -> Result<Key, KeyError> {
        let literal = self.literals.get(index).ok_or(KeyError::Unknown)?;
        let key_type = self.schema.key_type;
        let text = literal.text(self.sql);
        match literal.kind {
            LiteralKind::Integer | LiteralKind::Decimal => {
                if !key_type.is_integer() {
                    return self.number_for_other();
                }
                if negated {
                    return key_type.parse_number(&format!("-{text}"));
                }
                key_type.parse_number(text)
            }
            LiteralKind::String | LiteralKind::Escape => {
                let inner = inner(literal, text)?;
                // A narrower integer type of a cast may overflow; the server says so.
                cast.unwrap_or(key_type).parse_text(&inner)
            }
        }
    }

    /// A number where the key is text or a UUID: comparing is an error on the server, but
    /// assigning makes it text.
    fn number_for_other(&self) -> Result<Key, KeyError> {
        match self.detail.assigns {
            true => Err(KeyError::Unknown),
            false => Err(KeyError::Malformed),
        }
    }

    fn param(&self, param: &Param, bytes: &[u8], cast: Option<KeyType>) -> Result<Key, KeyError> {
        let key_type = self.schema.key_type;
        let declared = match (param.declared_type, cast) {
            // An undeclared parameter takes the type of its cast, or else the key's.
            (0 | 705, Some(KeyType::Int)) => 23,
            (0 | 705, Some(KeyType::BigInt)) => 20,
            (0 | 705, _) if param.binary && key_type.is_integer() => match bytes.len() {
                2 => 21,
                4 => 23,
                _ => 20,
            },
            (705, _) => 0,
            // A cast of text reads it as the type's input function does.
            (oid, Some(_)) if textual(oid) => 0,
            (oid, _) => oid,
        };
        let known = declared == 0 || of_type(declared, key_type);
        // The binary form of text is the text.
        let binary = param.binary && !textual(param.declared_type);
        match key_type.decode_param(declared, binary, bytes) {
            // Assigning may convert what comparing would refuse.
            Err(KeyError::Malformed) if !known => Err(KeyError::Unknown),
            // A cast of text fails when it is computed, which may be never.
            Err(KeyError::Malformed) if textual(param.declared_type) && cast.is_some() => {
                Err(KeyError::Unknown)
            }
            read => read,
        }
    }

    fn param_array(&self, index: usize) -> Result<Known, Stop> {
        let Some(param) = self.params.get(index) else {
            return Err(Stop::Unbound);
        };
        let Some(bytes) = param.value else {
            return Ok(Known::Keys(Vec::new()));
        };
        self.array(param.declared_type, param.binary, bytes)
    }

    fn literal_array(&self, index: usize) -> Result<Known, Stop> {
        let Some(literal) = self.literals.get(index) else {
            return Ok(Known::All);
        };
        match inner(literal, literal.text(self.sql)) {
            Ok(text) => self.array(0, false, text.as_bytes()),
            Err(_) => Ok(Known::All),
        }
    }

    fn array(&self, declared: u32, binary: bool, bytes: &[u8]) -> Result<Known, Stop> {
        match self
            .schema
            .key_type
            .decode_array_param(declared, binary, bytes)
        {
            Ok(keys) => Ok(Known::Keys(keys.into_iter().flatten().collect())),
            Err(KeyError::Malformed) if declared == 0 => Err(Stop::ServerRefuses),
            Err(_) => Ok(Known::All),
        }
    }
}

/// The value of a string literal.
fn inner(literal: &Literal, text: &str) -> Result<String, KeyError> {
    let text = match literal.kind {
        LiteralKind::Escape => text.get(2..).unwrap_or_default(),
        _ => text.get(1..).unwrap_or_default(),
    };
    let text = text.strip_suffix('\'').unwrap_or(text);
    if literal.kind == LiteralKind::Escape && text.contains('\\') {
        return Err(KeyError::Unknown);
    }
    Ok(match text.contains('\'') {
        true => text.replace("''", "'"),
        false => text.to_string(),
    })
}

/// The refusal of a statement over several shards.
pub(super) fn several(because: &str, shards: Option<&BTreeSet<ShardId>>) -> ClientError {
    let mut error = ClientError::error(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("statement needs several shards: {because}"),
    )
    .hint("Compare the sharding key with one value, or name a shard: /* pgdrover: shard=0 */.");
    if let Some(shards) = shards {
        let names: Vec<String> = shards.iter().map(ToString::to_string).collect();
        error = error.detail(match names.as_slice() {
            [one] => format!("All keys are on shard {one} for now, but they are different keys."),
            _ => format!("Its keys are on shards {}.", names.join(", ")),
        });
    }
    error
}

fn unproven() -> ClientError {
    several("its sharding key is not known for certain", None)
}

fn refuse(message: &'static str, hint: &'static str) -> ClientError {
    ClientError::error(SqlState::FEATURE_NOT_SUPPORTED, message).hint(hint)
}

fn null_key() -> ClientError {
    refuse(
        "the sharding key of a written row is NULL",
        "Give the row a key: no shard owns NULL.",
    )
}

fn rounded() -> ClientError {
    refuse(
        "the sharding key of a written row is no value of the key's type",
        "PostgreSQL would round it to another key: write the key itself.",
    )
}

fn undecoded() -> ClientError {
    refuse(
        "the sharding key is given in a form that pgdrover does not decode",
        "Give it as a value of the key's own type.",
    )
}

fn unowned() -> ClientError {
    ClientError::error(
        SqlState::CHECK_VIOLATION,
        "no shard owns the sharding key of the row",
    )
    .hint("The ranges or lists of [databases.sharding] leave this key out.")
}

fn elsewhere(shard: ShardId, forced: ShardId) -> ClientError {
    ClientError::error(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("the hint names shard {forced}, but the row's key belongs to shard {shard}"),
    )
    .hint("Remove the hint: the key alone leads to the right shard.")
}
