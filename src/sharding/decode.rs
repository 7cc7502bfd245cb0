//! Parameters as clients bind them (text and binary) to canonical keys.

use super::key::is_space;
use super::{Key, KeyError, KeyType};

/// Object identifiers of PostgreSQL's built-in types (`pg_type.dat`).
mod oid {
    pub(super) const INT8: u32 = 20;
    pub(super) const INT2: u32 = 21;
    pub(super) const INT4: u32 = 23;
    pub(super) const TEXT: u32 = 25;
    pub(super) const UNKNOWN: u32 = 705;
    pub(super) const INT2_ARRAY: u32 = 1005;
    pub(super) const INT4_ARRAY: u32 = 1007;
    pub(super) const TEXT_ARRAY: u32 = 1009;
    pub(super) const VARCHAR_ARRAY: u32 = 1015;
    pub(super) const INT8_ARRAY: u32 = 1016;
    pub(super) const VARCHAR: u32 = 1043;
    pub(super) const NUMERIC_ARRAY: u32 = 1231;
    pub(super) const NUMERIC: u32 = 1700;
    pub(super) const UUID: u32 = 2950;
    pub(super) const UUID_ARRAY: u32 = 2951;
}

/// The type that a parameter has, as far as it can be told.
#[derive(Clone, Copy)]
enum ParamType {
    /// Left to PostgreSQL, which takes the key column's type.
    Inferred,
    Int2,
    Int4,
    Int8,
    Numeric,
    Text,
    Uuid,
}

impl ParamType {
    fn of(declared_oid: u32) -> Option<ParamType> {
        Some(match declared_oid {
            0 | oid::UNKNOWN => ParamType::Inferred,
            oid::INT2 => ParamType::Int2,
            oid::INT4 => ParamType::Int4,
            oid::INT8 => ParamType::Int8,
            oid::NUMERIC => ParamType::Numeric,
            oid::TEXT | oid::VARCHAR => ParamType::Text,
            oid::UUID => ParamType::Uuid,
            // bpchar among them: it compares without trailing blanks.
            _ => return None,
        })
    }
}

impl KeyType {
    /// The key that a bound parameter is equal to.
    ///
    /// `declared_oid` is the parameter's type in the client's Parse message, 0 when the client
    /// left it open: PostgreSQL then gives it the key column's type. Types that PostgreSQL
    /// compares with the key's type by value are decoded: `int2`, `int4`, `int8` and `numeric`
    /// (text format only) with an integer key, `text` and `varchar` with a text key, `uuid` with
    /// a UUID key. An `int8` that an `int` key cannot hold is [`KeyError::NoSuchKey`]. Any other
    /// pair is [`KeyError::Unknown`]. A binary value of the wrong length is
    /// [`KeyError::Malformed`]: PostgreSQL refuses it too.
    ///
    /// `value` is text in UTF-8 when not binary; text that is not UTF-8 proves nothing.
    pub fn decode_param(
        self,
        declared_oid: u32,
        binary: bool,
        value: &[u8],
    ) -> Result<Key, KeyError> {
        let declared = ParamType::of(declared_oid).ok_or(KeyError::Unknown)?;
        let known = match (declared, self) {
            (ParamType::Inferred, KeyType::BigInt) => ParamType::Int8,
            (ParamType::Inferred, KeyType::Int) => ParamType::Int4,
            (ParamType::Inferred, KeyType::Text) => ParamType::Text,
            (ParamType::Inferred, KeyType::Uuid) => ParamType::Uuid,
            (known, _) => known,
        };
        match (known, self) {
            (
                ParamType::Int2 | ParamType::Int4 | ParamType::Int8,
                KeyType::Int | KeyType::BigInt,
            ) if binary => self.in_range(binary_int(known, value)?),
            (ParamType::Numeric, KeyType::Int | KeyType::BigInt) if binary => {
                Err(KeyError::Unknown)
            }
            (
                ParamType::Int2 | ParamType::Int4 | ParamType::Int8 | ParamType::Numeric,
                KeyType::Int | KeyType::BigInt,
            ) => self.parse_text(utf8(value)?),
            (ParamType::Uuid, KeyType::Uuid) if binary => {
                let bytes = value.try_into().map_err(|_| KeyError::Malformed)?;
                Ok(Key::Uuid(u128::from_be_bytes(bytes)))
            }
            (ParamType::Text, KeyType::Text) | (ParamType::Uuid, KeyType::Uuid) => {
                self.parse_text(utf8(value)?)
            }
            _ => Err(KeyError::Unknown),
        }
    }

    /// The keys that the elements of a bound array are equal to, as in `key = ANY($1)`.
    ///
    /// An element is `None` when it can match no row: NULL, or a value that equals no key. One
    /// malformed element makes the whole [`KeyError::Malformed`]. Arrays of more than one
    /// dimension, with explicit bounds, or of a type that [`KeyType::decode_param`] does not
    /// decode, are [`KeyError::Unknown`].
    pub fn decode_array_param(
        self,
        declared_oid: u32,
        binary: bool,
        value: &[u8],
    ) -> Result<Vec<Option<Key>>, KeyError> {
        let element_oid = match declared_oid {
            0 | oid::UNKNOWN => 0,
            oid::INT2_ARRAY => oid::INT2,
            oid::INT4_ARRAY => oid::INT4,
            oid::INT8_ARRAY => oid::INT8,
            oid::NUMERIC_ARRAY => oid::NUMERIC,
            oid::TEXT_ARRAY => oid::TEXT,
            oid::VARCHAR_ARRAY => oid::VARCHAR,
            oid::UUID_ARRAY => oid::UUID,
            _ => return Err(KeyError::Unknown),
        };
        if binary {
            return self.binary_array(element_oid, value);
        }
        text_elements(utf8(value)?)?
            .iter()
            .map(|element| match element {
                Some(text) => {
                    no_row_as_none(self.decode_param(element_oid, false, text.as_bytes()))
                }
                None => Ok(None),
            })
            .collect()
    }

    /// `ndim, has-null, element type, length, lower bound`, then each element after its length.
    fn binary_array(self, element_oid: u32, value: &[u8]) -> Result<Vec<Option<Key>>, KeyError> {
        let mut rest = value;
        let dimensions = take_i32(&mut rest)?;
        let _has_null = take_i32(&mut rest)?;
        let sent_oid = take_i32(&mut rest)? as u32;
        if element_oid != 0 && sent_oid != element_oid {
            return Err(KeyError::Unknown);
        }
        if dimensions == 0 {
            return Ok(Vec::new());
        }
        if dimensions != 1 {
            return Err(KeyError::Unknown);
        }
        let length = take_i32(&mut rest)?;
        let _lower_bound = take_i32(&mut rest)?;
        let mut keys = Vec::new();
        for _ in 0..length {
            let size = take_i32(&mut rest)?;
            if size == -1 {
                keys.push(None);
                continue;
            }
            let size = usize::try_from(size).map_err(|_| KeyError::Malformed)?;
            let (element, after) = rest.split_at_checked(size).ok_or(KeyError::Malformed)?;
            rest = after;
            keys.push(no_row_as_none(self.decode_param(sent_oid, true, element))?);
        }
        if rest.is_empty() {
            Ok(keys)
        } else {
            Err(KeyError::Malformed)
        }
    }
}

fn no_row_as_none(key: Result<Key, KeyError>) -> Result<Option<Key>, KeyError> {
    match key {
        Ok(key) => Ok(Some(key)),
        Err(KeyError::NoSuchKey) => Ok(None),
        Err(other) => Err(other),
    }
}

fn utf8(value: &[u8]) -> Result<&str, KeyError> {
    std::str::from_utf8(value).map_err(|_| KeyError::Unknown)
}

fn binary_int(kind: ParamType, value: &[u8]) -> Result<i64, KeyError> {
    let read = match kind {
        ParamType::Int2 => value.try_into().map(|b| i64::from(i16::from_be_bytes(b))),
        ParamType::Int4 => value.try_into().map(|b| i64::from(i32::from_be_bytes(b))),
        _ => value.try_into().map(i64::from_be_bytes),
    };
    read.map_err(|_| KeyError::Malformed)
}

fn take_i32(rest: &mut &[u8]) -> Result<i32, KeyError> {
    let (head, tail) = rest.split_first_chunk().ok_or(KeyError::Malformed)?;
    *rest = tail;
    Ok(i32::from_be_bytes(*head))
}

/// The elements of a one-dimensional array's text, `None` for NULL. Whatever is not plainly such
/// an array proves nothing: versions of PostgreSQL differ in what they put up with.
fn text_elements(text: &str) -> Result<Vec<Option<String>>, KeyError> {
    let inner = text
        .trim_matches(is_space)
        .strip_prefix('{')
        .and_then(|t| t.strip_suffix('}'))
        .ok_or(KeyError::Unknown)?;
    if inner.trim_matches(is_space).is_empty() {
        return Ok(Vec::new());
    }
    let mut elements = Vec::new();
    let mut rest = inner;
    loop {
        rest = rest.trim_start_matches(is_space);
        let (element, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_element(quoted)?,
            None => bare_element(rest)?,
        };
        elements.push(element);
        let after = after.trim_start_matches(is_space);
        if after.is_empty() {
            return Ok(elements);
        }
        rest = after.strip_prefix(',').ok_or(KeyError::Unknown)?;
    }
}

/// The element up to the closing quote, and what follows it.
fn quoted_element(text: &str) -> Result<(Option<String>, &str), KeyError> {
    let mut element = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Some(element), &text[at + 1..])),
            '\\' => element.push(chars.next().ok_or(KeyError::Unknown)?.1),
            c => element.push(c),
        }
    }
    Err(KeyError::Unknown)
}

/// The element up to a comma, and what follows it.
fn bare_element(text: &str) -> Result<(Option<String>, &str), KeyError> {
    let end = text.find(',').unwrap_or(text.len());
    let element = text[..end].trim_end_matches(is_space);
    if element.is_empty() || element.contains(['{', '}', '"', '\\']) {
        return Err(KeyError::Unknown);
    }
    let value = (!element.eq_ignore_ascii_case("null")).then(|| element.to_owned());
    Ok((value, &text[end..]))
}
