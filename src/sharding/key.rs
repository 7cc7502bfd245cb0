//! Key types and their canonical forms: two spellings that PostgreSQL holds equal are one key.
//!
//! The rules lean to one side. A value becomes a [`Key`] only when PostgreSQL, if it accepts the
//! value at all, is sure to hold it equal to that key. Where PostgreSQL would refuse the value,
//! any answer is safe, since no row can come of it.

use std::fmt;

use serde::Deserialize;

/// The type of a sharding key's column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// `bigint`, `int8`.
    #[serde(alias = "int8")]
    BigInt,
    /// `integer`, `int4`.
    #[serde(alias = "integer", alias = "int4")]
    Int,
    /// `text`, `varchar`. The column must have a deterministic collation (all are, unless created
    /// with `deterministic = false`), so that equal keys are equal bytes.
    #[serde(alias = "varchar")]
    Text,
    /// `uuid`.
    Uuid,
}

/// A canonical key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// An integer of any width.
    Int(i64),
    /// Text, byte for byte.
    Text(Box<str>),
    /// A UUID's 128 bits.
    Uuid(u128),
}

/// Why a value is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// A valid value that equals no key of the type: 42.5, or 3000000000 for an integer column.
    /// Reads find no row; a write must be refused, since PostgreSQL may round it to a key.
    NoSuchKey,
    /// Not a value of the type: PostgreSQL itself will say 22P02 or 22003.
    Malformed,
    /// A form that pgdrover does not decode: nothing is proven.
    Unknown,
}

/// Longest number that is looked at, in bytes. PostgreSQL's `numeric` loses digits beyond its
/// own limits, which are far above this, so that a longer text proves nothing.
const MAX_NUMBER_LEN: usize = 1000;

impl KeyType {
    /// As PostgreSQL spells the type.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyType::BigInt => "bigint",
            KeyType::Int => "int",
            KeyType::Text => "text",
            KeyType::Uuid => "uuid",
        }
    }

    /// Whether keys are integers.
    pub fn is_integer(self) -> bool {
        matches!(self, KeyType::BigInt | KeyType::Int)
    }

    /// The key that a number of SQL, written without quotes and perhaps with a sign, is equal to.
    ///
    /// Integer types: `42`, `42.0` and `4.2e1` are all key 42, because PostgreSQL compares them
    /// as `numeric`. A fraction, or a value outside the type's range, equals no key
    /// ([`KeyError::NoSuchKey`]). Forms that only some versions read as one number (`0x2a`,
    /// `1_000`) are [`KeyError::Unknown`].
    ///
    /// `text`: [`KeyError::Unknown`]. A comparison with a number fails in PostgreSQL, but an
    /// INSERT stores the number's text, which depends on the number's type.
    ///
    /// `uuid`: [`KeyError::Malformed`]. No number can be compared with or stored in one.
    pub fn parse_number(self, text: &str) -> Result<Key, KeyError> {
        match self {
            KeyType::BigInt | KeyType::Int => self.in_range(parse_decimal(text)?),
            KeyType::Text => Err(KeyError::Unknown),
            KeyType::Uuid => Err(KeyError::Malformed),
        }
    }

    /// The key that a string literal is equal to once PostgreSQL has read it as the column's type.
    ///
    /// Integer types: white space around, then an optional sign and digits. A string that only
    /// `numeric` accepts (`'42.0'`) gives the key that it is equal to as `numeric`: alone,
    /// PostgreSQL refuses it, but beside a decimal number in an IN list it is read as `numeric`.
    ///
    /// `uuid`: 32 hexadecimal digits of either case, a hyphen allowed after every four, the whole
    /// perhaps in braces.
    ///
    /// `text`: taken as it is.
    pub fn parse_text(self, text: &str) -> Result<Key, KeyError> {
        match self {
            KeyType::BigInt | KeyType::Int => {
                self.in_range(parse_decimal(text.trim_matches(is_space))?)
            }
            KeyType::Text if text.contains('\0') => Err(KeyError::Malformed),
            KeyType::Text => Ok(Key::Text(text.into())),
            KeyType::Uuid => parse_uuid(text).map(Key::Uuid).ok_or(KeyError::Malformed),
        }
    }

    /// The key of an integer, if the column's type has it.
    pub(super) fn in_range(self, value: i64) -> Result<Key, KeyError> {
        if self == KeyType::Int && i32::try_from(value).is_err() {
            return Err(KeyError::NoSuchKey);
        }
        Ok(Key::Int(value))
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The canonical text, the one that PostgreSQL's output function gives: it is what `ring` hashes.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Int(value) => write!(f, "{value}"),
            Key::Text(text) => f.write_str(text),
            Key::Uuid(bits) => {
                let group = |shift: u32, digits: u32| (bits >> shift) & ((1 << (4 * digits)) - 1);
                write!(
                    f,
                    "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
                    group(96, 8),
                    group(80, 4),
                    group(64, 4),
                    group(48, 4),
                    group(0, 12)
                )
            }
        }
    }
}

/// What C's `isspace` holds for space in the C locale.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

/// The integer that a decimal number is equal to, exactly.
fn parse_decimal(text: &str) -> Result<i64, KeyError> {
    // The common case first: plain digits.
    if let Ok(value) = text.parse::<i64>() {
        return Ok(value);
    }
    if text.len() > MAX_NUMBER_LEN || !text.is_ascii() {
        return Err(KeyError::Unknown);
    }
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let digits_end = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = unsigned.split_at(digits_end(unsigned));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits_end(rest)),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(not_digits(unsigned));
    }
    let exponent = match rest.strip_prefix(['e', 'E']) {
        Some(exponent) => parse_exponent(exponent)?,
        None if rest.is_empty() => 0,
        None => return Err(not_digits(unsigned)),
    };
    integral(negative, whole, fraction, exponent).ok_or(KeyError::NoSuchKey)
}

/// What a text is that does not have the form of a decimal number.
fn not_digits(unsigned: &str) -> KeyError {
    let special = ["nan", "inf", "infinity"];
    if special.iter().any(|s| unsigned.eq_ignore_ascii_case(s)) {
        return KeyError::NoSuchKey;
    }
    // PostgreSQL 16 reads 0x2A, 0o52, 0b101010 and 1_000 as numbers; 15 does not.
    if unsigned.starts_with(|c: char| c.is_ascii_digit()) {
        return KeyError::Unknown;
    }
    KeyError::Malformed
}

fn parse_exponent(text: &str) -> Result<i64, KeyError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(KeyError::Unknown);
    }
    // Beyond this PostgreSQL refuses the number.
    text.parse()
        .ok()
        .filter(|e: &i64| e.abs() < 1 << 30)
        .ok_or(KeyError::Unknown)
}

/// `whole.fraction × 10^exponent` if it is an integer of 64 bits.
fn integral(negative: bool, whole: &str, fraction: &str, exponent: i64) -> Option<i64> {
    let mut digits = whole
        .bytes()
        .chain(fraction.bytes())
        .skip_while(|b| *b == b'0')
        .collect::<Vec<_>>();
    let mut exponent = exponent - fraction.len() as i64;
    while digits.last() == Some(&b'0') {
        digits.pop();
        exponent += 1;
    }
    if digits.is_empty() {
        return Some(0);
    }
    // No integer of 64 bits has more than 19 digits.
    if exponent < 0 || digits.len() as i64 + exponent > 19 {
        return None;
    }
    let mut value = digits
        .iter()
        .fold(0i128, |v, d| v * 10 + i128::from(d - b'0'));
    value *= 10i128.pow(exponent as u32);
    i64::try_from(if negative { -value } else { value }).ok()
}

/// The forms that PostgreSQL's `uuid_in` documents.
fn parse_uuid(text: &str) -> Option<u128> {
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let mut bytes = inner.bytes().peekable();
    let mut value = 0u128;
    for digit in 0..32 {
        value = (value << 4) | u128::from((bytes.next()? as char).to_digit(16)?);
        if digit % 4 == 3 && digit != 31 {
            bytes.next_if_eq(&b'-');
        }
    }
    bytes.next().is_none().then_some(value)
}
