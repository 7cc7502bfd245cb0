//! Keys: one canonical form for each.

use proptest::prelude::*;

use crate::sharding::KeyError::{Malformed, NoSuchKey, Unknown};
use crate::sharding::*;

fn int(value: i64) -> Result<Key, KeyError> {
    Ok(Key::Int(value))
}

/// Checked once against PostgreSQL 15: `select k = LITERAL from (select 42::bigint k) t`.
#[test]
fn numbers_equal_their_key() {
    for text in [
        "42",
        "42.0",
        "42.",
        "4.2e1",
        "4.2E+1",
        "420e-1",
        "0042",
        "42.000000000000000000000000000000000",
    ] {
        assert_eq!(KeyType::BigInt.parse_number(text), int(42), "{text}");
    }
    for text in [
        "42.5",
        ".5",
        "1e-5",
        "1e19",
        "9223372036854775808",
        "-9223372036854775809",
        "1e1000000",
    ] {
        assert_eq!(KeyType::BigInt.parse_number(text), Err(NoSuchKey), "{text}");
    }
    for text in ["0x2a", "1_000", "42e", "1e99999999999", "42a"] {
        assert_eq!(KeyType::BigInt.parse_number(text), Err(Unknown), "{text}");
    }
    assert_eq!(
        KeyType::BigInt.parse_number("-9223372036854775808"),
        int(i64::MIN)
    );
    assert_eq!(KeyType::BigInt.parse_number("-5"), int(-5));
    assert_eq!(KeyType::BigInt.parse_number("-0.0e7"), int(0));
    assert_eq!(
        KeyType::BigInt.parse_number("9.223372036854775807e18"),
        int(i64::MAX)
    );
    assert_eq!(KeyType::Int.parse_number("2147483647"), int(2147483647));
    assert_eq!(KeyType::Int.parse_number("2147483648"), Err(NoSuchKey));
    assert_eq!(KeyType::Text.parse_number("42"), Err(Unknown));
    assert_eq!(KeyType::Uuid.parse_number("42"), Err(Malformed));
}

#[test]
fn strings_are_read_as_the_type() {
    for text in ["43", " 43 ", "+43", "\t\n\x0b\x0c\r43", "043"] {
        assert_eq!(KeyType::BigInt.parse_text(text), int(43), "{text:?}");
    }
    for text in ["", " ", "abc", "- 43", "--43", "+", "43 3x "] {
        let error = KeyType::BigInt.parse_text(text).unwrap_err();
        assert!(matches!(error, Malformed | Unknown), "{text:?}");
    }
    assert_eq!(KeyType::BigInt.parse_text("abc"), Err(Malformed));
    assert_eq!(KeyType::BigInt.parse_text("43.0"), int(43));
    assert_eq!(KeyType::BigInt.parse_text("NaN"), Err(NoSuchKey));
    assert_eq!(
        KeyType::BigInt.parse_text("99999999999999999999"),
        Err(NoSuchKey)
    );
    assert_eq!(KeyType::Int.parse_text("3000000000"), Err(NoSuchKey));
    assert_eq!(
        KeyType::Text.parse_text(" 43 "),
        Ok(Key::Text(" 43 ".into()))
    );
}

#[test]
fn uuids_have_one_canonical_form() {
    let canonical = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    for text in [
        canonical,
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        "{a0eebc999c0b4ef8bb6d6bb9bd380a11}",
    ] {
        let key = KeyType::Uuid.parse_text(text).unwrap();
        assert_eq!(key.to_string(), canonical, "{text}");
    }
    for text in [
        "",
        "a0e-ebc999c0b4ef8bb6d6bb9bd380a11",
        "{a0eebc999c0b4ef8bb6d6bb9bd380a11",
        " a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11-",
        "a0eebc999c0b4ef8bb6d6bb9bd380a1",
    ] {
        assert_eq!(KeyType::Uuid.parse_text(text), Err(Malformed), "{text}");
    }
    assert_eq!(
        Key::Uuid(1).to_string(),
        "00000000-0000-0000-0000-000000000001"
    );
}

#[test]
fn parameters_in_both_formats() {
    let big = KeyType::BigInt;
    assert_eq!(big.decode_param(0, false, b"42"), int(42));
    assert_eq!(big.decode_param(705, false, b" 42 "), int(42));
    assert_eq!(big.decode_param(0, true, &42i64.to_be_bytes()), int(42));
    assert_eq!(
        big.decode_param(0, true, &42i32.to_be_bytes()),
        Err(Malformed)
    );
    assert_eq!(big.decode_param(23, true, &(-5i32).to_be_bytes()), int(-5));
    assert_eq!(big.decode_param(21, true, &(-5i16).to_be_bytes()), int(-5));
    assert_eq!(big.decode_param(20, true, &42i64.to_be_bytes()), int(42));
    assert_eq!(big.decode_param(1700, false, b"42.00"), int(42));
    assert_eq!(big.decode_param(1700, false, b"42.50"), Err(NoSuchKey));
    assert_eq!(big.decode_param(1700, true, &[0; 8]), Err(Unknown));
    assert_eq!(big.decode_param(25, false, b"42"), Err(Unknown));
    assert_eq!(big.decode_param(701, false, b"42"), Err(Unknown));
    let small = KeyType::Int;
    assert_eq!(small.decode_param(0, true, &42i32.to_be_bytes()), int(42));
    assert_eq!(
        small.decode_param(20, true, &(1i64 << 40).to_be_bytes()),
        Err(NoSuchKey)
    );
    assert_eq!(small.decode_param(20, true, &42i64.to_be_bytes()), int(42));
    let text = KeyType::Text;
    for (oid, binary) in [
        (0, false),
        (0, true),
        (25, true),
        (1043, false),
        (705, false),
    ] {
        assert_eq!(
            text.decode_param(oid, binary, "é ".as_bytes()),
            Ok(Key::Text("é ".into()))
        );
    }
    assert_eq!(text.decode_param(1042, false, b"a "), Err(Unknown));
    assert_eq!(text.decode_param(23, false, b"42"), Err(Unknown));
    assert_eq!(text.decode_param(25, false, b"\xff"), Err(Unknown));
    let uuid = KeyType::Uuid;
    assert_eq!(
        uuid.decode_param(2950, true, &7u128.to_be_bytes()),
        Ok(Key::Uuid(7))
    );
    assert_eq!(uuid.decode_param(0, true, &[1; 15]), Err(Malformed));
    assert_eq!(
        uuid.decode_param(0, false, b"{00000000000000000000000000000007}"),
        Ok(Key::Uuid(7))
    );
    assert_eq!(
        uuid.decode_param(25, false, b"00000000000000000000000000000007"),
        Err(Unknown)
    );
}

fn binary_array(element_oid: u32, elements: &[Option<&[u8]>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [1, 1, element_oid as i32, elements.len() as i32, 1] {
        bytes.extend(word.to_be_bytes());
    }
    for element in elements {
        bytes.extend(element.map_or(-1, |e| e.len() as i32).to_be_bytes());
        bytes.extend(element.unwrap_or_default());
    }
    bytes
}

#[test]
fn array_parameters() {
    let big = KeyType::BigInt;
    let four = vec![
        Some(Key::Int(1)),
        Some(Key::Int(2)),
        None,
        Some(Key::Int(3)),
    ];
    assert_eq!(
        big.decode_array_param(0, false, br#"{1,2,NULL,"3"}"#),
        Ok(four.clone())
    );
    assert_eq!(
        big.decode_array_param(1007, false, br#" { 1 , 2,null, "\3" } "#),
        Ok(four.clone())
    );
    assert_eq!(big.decode_array_param(1016, false, b"{}"), Ok(vec![]));
    for text in [
        "{{1},{2}}",
        "[1:2]={1,2}",
        "{1,,2}",
        "{1",
        "{1}x",
        "{1 \"2\"}",
        "{\"1}",
        "1",
    ] {
        assert_eq!(
            big.decode_array_param(0, false, text.as_bytes()),
            Err(Unknown),
            "{text}"
        );
    }
    assert_eq!(big.decode_array_param(0, false, b"{1,x}"), Err(Malformed));
    assert_eq!(
        big.decode_array_param(1231, false, b"{1.5,1.0}"),
        Ok(vec![None, Some(Key::Int(1))])
    );
    let one = 1i64.to_be_bytes();
    let sent = binary_array(20, &[Some(&one), None]);
    assert_eq!(
        big.decode_array_param(1016, true, &sent),
        Ok(vec![Some(Key::Int(1)), None])
    );
    assert_eq!(
        big.decode_array_param(0, true, &sent),
        Ok(vec![Some(Key::Int(1)), None])
    );
    assert_eq!(big.decode_array_param(1007, true, &sent), Err(Unknown));
    assert_eq!(
        big.decode_array_param(1016, true, &sent[..sent.len() - 1]),
        Err(Malformed)
    );
    let text = KeyType::Text;
    let quoted = br#"{a,"null","b,\"c"}"#;
    let keys = ["a", "null", "b,\"c"].map(|t| Some(Key::Text(t.into())));
    assert_eq!(
        text.decode_array_param(1009, false, quoted),
        Ok(keys.to_vec())
    );
    assert_eq!(text.decode_array_param(1014, false, quoted), Err(Unknown));
}

proptest! {
    #[test]
    fn every_spelling_of_an_integer_is_one_key(value: i64, zeros in 0usize..5, spaces in "[ \t]{0,3}") {
        let key = int(value);
        prop_assert_eq!(&KeyType::BigInt.parse_number(&value.to_string()), &key);
        let fraction = format!("{value}.{}", "0".repeat(zeros));
        prop_assert_eq!(&KeyType::BigInt.parse_number(&fraction), &key);
        let exponent = format!("{value}{}e-{zeros}", "0".repeat(zeros));
        prop_assert_eq!(&KeyType::BigInt.parse_number(&exponent), &key);
        let padded = format!("{spaces}{value}{spaces}");
        prop_assert_eq!(&KeyType::BigInt.parse_text(&padded), &key);
        prop_assert_eq!(&KeyType::BigInt.decode_param(20, true, &value.to_be_bytes()), &key);
        prop_assert_eq!(&KeyType::BigInt.decode_param(1700, false, padded.as_bytes()), &key);
    }

    #[test]
    fn a_uuid_reads_back(bits: u128) {
        let text = Key::Uuid(bits).to_string();
        prop_assert_eq!(KeyType::Uuid.parse_text(&text), Ok(Key::Uuid(bits)));
        prop_assert_eq!(text, uuid::Uuid::from_u128(bits).to_string());
    }

    #[test]
    fn no_bytes_make_decoding_panic(oid in prop::sample::select(vec![0u32, 20, 21, 23, 25, 705, 1007, 1009, 1016, 1700, 2950, 2951]), binary: bool, bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        for key_type in [KeyType::BigInt, KeyType::Int, KeyType::Text, KeyType::Uuid] {
            let _ = key_type.decode_param(oid, binary, &bytes);
            let _ = key_type.decode_array_param(oid, binary, &bytes);
        }
    }
}
