//! Expressions whose value is known before the statement runs: literals, parameters, NULL, with
//! the casts that keep a key what it is.

use std::collections::{HashMap, HashSet};

use sqlparser::ast::{CastKind, DataType, Expr, UnaryOperator, Value, ValueWithSpan};
use sqlparser::tokenizer::Location;

use crate::plan::{KeyExpr, KeySet};
use crate::router::scan::{Literal, LiteralKind};
use crate::router::stand_in::literal_of;
use crate::sharding::KeyType;

use super::arena::or;

/// Reads constants, and remembers where parameters served as keys.
pub(super) struct Constants<'a> {
    literals: &'a [Literal],
    param_types: &'a [u32],
    key_type: KeyType,
    /// Parameters by number: the places where they stand as keys, and the casts there.
    uses: HashMap<usize, Uses>,
}

#[derive(Default)]
struct Uses {
    places: HashSet<Location>,
    casts: HashSet<Option<KeyType>>,
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Constant {
    /// NULL.
    Null,
    /// A value.
    Key(KeyExpr, Form),
}

/// How PostgreSQL decides the type of a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An integer, a value of the key's type, or a parameter declared so.
    Integer,
    /// A number that is no integer.
    Decimal,
    /// A string or an undeclared parameter: it takes its type from what it is compared with.
    Unknown,
    /// A parameter declared otherwise.
    Declared,
}

impl<'a> Constants<'a> {
    pub(super) fn new(
        literals: &'a [Literal],
        param_types: &'a [u32],
        key_type: KeyType,
    ) -> Constants<'a> {
        Constants {
            literals,
            param_types,
            key_type,
            uses: HashMap::new(),
        }
    }

    /// The constant that `expr` is, if its value stays the same key when PostgreSQL compares it
    /// with, or assigns it to, a key column.
    pub(super) fn read(&mut self, expr: &Expr) -> Option<Constant> {
        match expr {
            Expr::Nested(inner) => self.read(inner),
            Expr::Value(value) => self.value(value, None),
            Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr,
            } => self.negative(expr),
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
            } => self.cast(expr, self.family(data_type)?),
            Expr::TypedString(typed) => {
                let cast = self.family(&typed.data_type)?;
                self.value(&typed.value, Some(cast))
            }
            _ => None,
        }
    }

    fn value(&mut self, value: &ValueWithSpan, cast: Option<KeyType>) -> Option<Constant> {
        let literal = |index, form| {
            let key = KeyExpr::Literal {
                index,
                negated: false,
                cast,
            };
            Some(Constant::Key(key, form))
        };
        let (text, kind) = match &value.value {
            Value::Null => return Some(Constant::Null),
            Value::Placeholder(name) => return self.param(name, value.span.start, cast),
            Value::Number(digits, false) if digits.contains('.') => (digits, LiteralKind::Decimal),
            Value::Number(digits, false) => (digits, LiteralKind::Integer),
            Value::SingleQuotedString(text) => (text, LiteralKind::String),
            Value::EscapedStringLiteral(text) => (text, LiteralKind::Escape),
            _ => return None,
        };
        let index = literal_of(text, kind, self.literals)?;
        match (kind, cast) {
            // A cast rounds: 41.6::bigint is 42.
            (LiteralKind::Decimal, Some(_)) => None,
            (LiteralKind::Decimal, None) => literal(index, Form::Decimal),
            // 042::text is '42'.
            (LiteralKind::Integer, Some(KeyType::Text | KeyType::Uuid)) => None,
            (LiteralKind::Integer, _) => literal(index, Form::Integer),
            (_, Some(_)) => literal(index, Form::Integer),
            (_, None) => literal(index, Form::Unknown),
        }
    }

    fn param(&mut self, name: &str, place: Location, cast: Option<KeyType>) -> Option<Constant> {
        let number: usize = name.strip_prefix('$')?.parse().ok()?;
        let index = number.checked_sub(1)?;
        let uses = self.uses.entry(index).or_default();
        uses.places.insert(place);
        uses.casts.insert(cast);
        let form = match (self.declared(index), cast) {
            (0, None) => Form::Unknown,
            (0, Some(_)) => Form::Integer,
            // numeric and float parameters: a cast rounds them.
            (oid, Some(cast)) if !textual(oid) && !of_type(oid, cast) => return None,
            (oid, _) if of_type(oid, self.key_type) => Form::Integer,
            _ => Form::Declared,
        };
        Some(Constant::Key(KeyExpr::Param { index, cast }, form))
    }

    fn declared(&self, index: usize) -> u32 {
        self.param_types.get(index).copied().unwrap_or(0)
    }

    fn negative(&mut self, expr: &Expr) -> Option<Constant> {
        // Only numbers: what `-'42'` and `-$1` mean depends on the operators there are.
        if !matches!(expr, Expr::Value(_)) {
            return None;
        }
        match self.read(expr)? {
            Constant::Key(KeyExpr::Literal { index, cast, .. }, form)
                if matches!(
                    self.literals[index].kind,
                    LiteralKind::Integer | LiteralKind::Decimal
                ) =>
            {
                let key = KeyExpr::Literal {
                    index,
                    negated: true,
                    cast,
                };
                Some(Constant::Key(key, form))
            }
            _ => None,
        }
    }

    fn cast(&mut self, inner: &Expr, cast: KeyType) -> Option<Constant> {
        match inner {
            Expr::Nested(inner) => self.cast(inner, cast),
            Expr::Value(value) => self.value(value, Some(cast)),
            // (-42)::bigint
            Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr,
            } if matches!(cast, KeyType::BigInt | KeyType::Int) => match self.negative(expr)? {
                Constant::Key(
                    KeyExpr::Literal {
                        index,
                        negated: true,
                        cast: None,
                    },
                    Form::Integer,
                ) => {
                    let key = KeyExpr::Literal {
                        index,
                        negated: true,
                        cast: Some(cast),
                    };
                    Some(Constant::Key(key, Form::Integer))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The key type that a cast names, if it is of the key's family and keeps every value as it
    /// is. Types with a modifier cut or round.
    fn family(&self, data_type: &DataType) -> Option<KeyType> {
        let cast = match data_type {
            DataType::BigInt(None) | DataType::Int8(None) => KeyType::BigInt,
            DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => KeyType::Int,
            DataType::Text | DataType::Varchar(None) | DataType::CharacterVarying(None) => {
                KeyType::Text
            }
            DataType::Uuid => KeyType::Uuid,
            _ => return None,
        };
        let integer = |t| matches!(t, KeyType::BigInt | KeyType::Int);
        (cast == self.key_type || integer(cast) && integer(self.key_type)).then_some(cast)
    }

    /// The keys of a list, as of IN or ARRAY. PostgreSQL gives a list one type: strings and
    /// undeclared parameters become decimals beside a decimal, which this does not follow.
    pub(super) fn list(&mut self, list: &[Expr]) -> KeySet {
        let mut sets = Vec::with_capacity(list.len());
        let (mut unknown, mut other) = (false, false);
        for item in list {
            match self.read(item) {
                None => return KeySet::All,
                Some(Constant::Null) => {}
                Some(Constant::Key(key, form)) => {
                    unknown |= form == Form::Unknown;
                    other |= matches!(form, Form::Decimal | Form::Declared);
                    sets.push(KeySet::One(key));
                }
            }
        }
        if unknown && other {
            return KeySet::All;
        }
        or(sets)
    }

    /// The keys of the right side of `= ANY (…)`.
    pub(super) fn any(&mut self, right: &Expr) -> KeySet {
        match right {
            Expr::Nested(inner) => self.any(inner),
            Expr::Array(array) => self.list(&array.elem),
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type: DataType::Array(element),
                format: None,
            } => {
                use sqlparser::ast::ArrayElemTypeDef::{AngleBracket, SquareBracket};
                let (AngleBracket(element) | SquareBracket(element, None)) = element else {
                    return KeySet::All;
                };
                match self.family(element) {
                    Some(_) => self.cast_array(expr),
                    None => KeySet::All,
                }
            }
            Expr::Value(value) => self.array_value(value),
            _ => KeySet::All,
        }
    }

    /// An array cast to the key's type: its elements must not be rounded by the cast.
    fn cast_array(&mut self, expr: &Expr) -> KeySet {
        match expr {
            Expr::Nested(inner) => self.cast_array(inner),
            Expr::Value(value) => self.array_value(value),
            Expr::Array(array) => {
                for item in &array.elem {
                    let kept = matches!(
                        self.read(item),
                        Some(Constant::Null | Constant::Key(_, Form::Integer | Form::Unknown))
                    );
                    if !kept {
                        return KeySet::All;
                    }
                }
                self.list(&array.elem)
            }
            _ => KeySet::All,
        }
    }

    fn array_value(&mut self, value: &ValueWithSpan) -> KeySet {
        match &value.value {
            Value::Null => KeySet::Empty,
            Value::Placeholder(name) => {
                let index = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
                let Some(index) = index.and_then(|n| n.checked_sub(1)) else {
                    return KeySet::All;
                };
                let uses = self.uses.entry(index).or_default();
                uses.places.insert(value.span.start);
                uses.casts.insert(None);
                KeySet::One(KeyExpr::ParamArray { index })
            }
            Value::SingleQuotedString(text) => {
                match literal_of(text, LiteralKind::String, self.literals) {
                    Some(index) => KeySet::One(KeyExpr::LiteralArray { index }),
                    None => KeySet::All,
                }
            }
            _ => KeySet::All,
        }
    }

    /// The parameters whose type is not certain to be the key's: undeclared ones that also stand
    /// elsewhere. PostgreSQL gives a parameter the type of its first place, so `$1` beside a
    /// numeric column is numeric everywhere.
    pub(super) fn doubtful(&self, places: &[(usize, Location)]) -> HashSet<usize> {
        let mut doubtful = HashSet::new();
        for (index, place) in places {
            let certain = match self.uses.get(index) {
                None => true,
                Some(uses) => {
                    place.line > 0 && uses.places.contains(place) && uses.casts.len() == 1
                }
            };
            if !certain && self.declared(*index) == 0 {
                doubtful.insert(*index);
            }
        }
        doubtful
    }
}

/// Takes back what a set claims by doubtful parameters.
pub(super) fn without(set: KeySet, doubtful: &HashSet<usize>) -> KeySet {
    match set {
        KeySet::One(KeyExpr::Param { index, .. } | KeyExpr::ParamArray { index })
            if doubtful.contains(&index) =>
        {
            KeySet::All
        }
        KeySet::Or(sets) => or(sets.into_iter().map(|s| without(s, doubtful)).collect()),
        KeySet::And(sets) => {
            super::arena::and(sets.into_iter().map(|s| without(s, doubtful)).collect())
        }
        other => other,
    }
}

/// text, varchar and unknown: a cast reads them as it reads a string.
pub(in crate::router) fn textual(oid: u32) -> bool {
    matches!(oid, 25 | 705 | 1043)
}

/// Whether a type's values are keys of `key_type` as they are.
pub(in crate::router) fn of_type(oid: u32, key_type: KeyType) -> bool {
    match key_type {
        KeyType::BigInt | KeyType::Int => matches!(oid, 20 | 21 | 23),
        KeyType::Text => matches!(oid, 25 | 1043),
        KeyType::Uuid => oid == 2950,
    }
}
