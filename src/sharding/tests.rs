//! Tests of keys and functions.

use proptest::prelude::*;

use super::*;
use KeyError::{Malformed, NoSuchKey, Unknown};

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

const SHARDS: [&str; 3] = ["a", "b", "c"];

fn settings(text: &str) -> Settings {
    toml::from_str(text).unwrap()
}

fn build(text: &str) -> Result<Function, Vec<Problem>> {
    Function::build(&settings(text), &SHARDS)
}

fn messages(text: &str) -> Vec<String> {
    build(text)
        .unwrap_err()
        .into_iter()
        .map(|p| p.message)
        .collect()
}

const RING: &str = r#"
    function = "ring"
    positions = [
        { shard = "a", position = 250 },
        { shard = "b", position = 500 },
        { shard = "c", position = 750 },
    ]"#;

fn ring(text: &str) -> Ring {
    match build(text) {
        Ok(Function::Ring(ring)) => ring,
        other => panic!("not a ring: {other:?}"),
    }
}

#[test]
fn modulo_is_never_negative() {
    let function = build("").unwrap();
    for (key, shard) in [
        (100, 1),
        (101, 2),
        (102, 0),
        (-5, 1),
        (i64::MIN, 1),
        (i64::MAX, 1),
    ] {
        assert_eq!(
            function.shard(&Key::Int(key)),
            Some(ShardId(shard)),
            "{key}"
        );
    }
    assert_eq!(function.shard(&Key::Text("1".into())), None);
}

#[test]
fn ring_hash_is_the_whole_md5_big_endian() {
    let ring = ring(RING);
    for (key, point) in [(1, 411), (2, 212), (3, 883), (7, 555), (42, 174)] {
        assert_eq!(ring.slot(&Key::Int(key)), Slot(point), "{key}");
        assert_eq!(
            ring.slot(&Key::Text(key.to_string().into())),
            Slot(point),
            "{key}"
        );
    }
    let uuid = Key::Uuid(0xa0eebc99_9c0b_4ef8_bb6d_6bb9bd380a11);
    assert_eq!(
        ring.slot(&uuid),
        ring.slot(&Key::Text(uuid.to_string().into()))
    );
}

#[test]
fn ring_owner_is_the_first_position_at_or_after() {
    let ring = ring(RING);
    for (point, shard) in [
        (0, 0),
        (250, 0),
        (251, 1),
        (500, 1),
        (501, 2),
        (750, 2),
        (751, 0),
        (999, 0),
    ] {
        assert_eq!(ring.owner(Slot(point)), Some(ShardId(shard)), "{point}");
    }
    assert_eq!(ring.owner(Slot(1000)), None);
}

#[test]
fn ring_shares_and_moves() {
    let ring = ring(RING);
    let percent: Vec<f64> = ring.shares(3).into_iter().map(Share::percent).collect();
    assert_eq!(percent, [50.0, 25.0, 25.0]);
    let gain = |position| {
        ring.gain_of(position)
            .map(|(from, share)| (from.0, share.percent()))
    };
    assert_eq!(gain(0), Some((0, 25.0)));
    assert_eq!(gain(875), Some((0, 12.5)));
    assert_eq!(gain(125), Some((0, 37.5)));
    assert_eq!(gain(400), Some((1, 15.0)));
    assert_eq!(gain(250), None);
    assert_eq!(gain(1000), None);
}

#[test]
fn modulo_moves_three_quarters_from_three_to_four() {
    assert_eq!(Modulo::new(3).unwrap().moved_by_one_more().percent(), 75.0);
}

#[test]
fn range_bounds_are_inclusive_below_and_exclusive_above() {
    let function = build(
        r#"
        function = "range"
        ranges = [
            { shard = "b", from = 33_000_000, to = 66_000_000 },
            { shard = "a", from = 0, to = 33_000_000 },
            { shard = "c", from = 66_000_000, to = 100_000_000 },
        ]"#,
    )
    .unwrap();
    let shard = |key| function.shard(&Key::Int(key)).map(|s| s.0);
    assert_eq!(shard(-1), None);
    assert_eq!(shard(0), Some(0));
    assert_eq!(shard(32_999_999), Some(0));
    assert_eq!(shard(33_000_000), Some(1));
    assert_eq!(shard(66_000_000), Some(2));
    assert_eq!(shard(99_999_999), Some(2));
    assert_eq!(shard(100_000_000), None);
}

#[test]
fn text_ranges_go_by_bytes() {
    let function = build(
        r#"
        function = "range"
        key_type = "text"
        ranges = [{ shard = "a", to = "M" }, { shard = "b", from = "M", to = "a" }, { shard = "c", from = "a" }]"#,
    )
    .unwrap();
    let shard = |key: &str| function.shard(&Key::Text(key.into())).map(|s| s.0);
    assert_eq!(
        [shard(""), shard("A"), shard("Z"), shard("a"), shard("é")],
        [Some(0), Some(0), Some(1), Some(2), Some(2)]
    );
}

#[test]
fn lists_leave_other_keys_without_a_shard() {
    let function = build(
        r#"
        function = "list"
        key_type = "text"
        lists = [{ shard = "a", keys = ["de", "fr"] }, { shard = "b", keys = ["us"] }, { shard = "c", keys = ["cn"] }]"#,
    )
    .unwrap();
    let shard = |key: &str| function.shard(&Key::Text(key.into())).map(|s| s.0);
    assert_eq!(
        [shard("fr"), shard("cn"), shard("xx")],
        [Some(0), Some(2), None]
    );
}

#[test]
fn all_problems_of_a_ring_come_at_once() {
    let found = messages(
        r#"
        function = "ring"
        positions = [
            { shard = "a", position = 1000 },
            { shard = "x", position = 5 },
            { shard = "b", position = 5 },
            { shard = "b", position = 5 },
        ]"#,
    );
    assert_eq!(
        found,
        [
            "position 1000 lies outside the ring of 1000 points",
            "there is no shard `x`",
            "position 5 is already taken by shard `b`",
            "shard `c` has no position on the ring: it would own no keys",
        ]
    );
}

#[test]
fn gaps_overlaps_and_empty_ranges_are_problems() {
    let three = |a: &str, b: &str, c: &str| {
        format!(
            "function = \"range\"\nranges = [{{shard = \"a\", {a}}}, {{shard = \"b\", {b}}}, {{shard = \"c\", {c}}}]"
        )
    };
    assert_eq!(
        messages(&three(
            "from = 0, to = 10",
            "from = 11, to = 20",
            "from = 19"
        )),
        [
            "keys from 10 up to 11 belong to no shard: a gap between `a` and `b`",
            "this range of `c` overlaps the one of `b` before it",
        ]
    );
    assert_eq!(
        messages(&three("to = 10", "to = 10", "from = 10")),
        ["this range of `b` overlaps the one of `a` before it"]
    );
    assert_eq!(
        messages(&three("to = 10", "from = 10, to = 10", "from = \"x\"")),
        [
            "the range from 10 to 10 is empty: `to` does not belong to it",
            "\"x\" is not a key of type bigint",
        ]
    );
}

#[test]
fn the_function_must_fit_its_keys() {
    assert_eq!(
        messages("key_type = \"uuid\""),
        ["function \"modulo\" needs an integer key, not uuid"]
    );
    assert_eq!(
        messages("lists = [{ shard = \"a\", keys = [1] }]"),
        ["`lists` belongs to function \"list\", but the function is \"modulo\""]
    );
    assert_eq!(
        messages(
            "function = \"list\"\nlists = [{ shard = \"a\", keys = [1, 2, \"01\"] }, {shard = \"b\", keys = []}]"
        ),
        [
            "key 1 is listed twice, first for shard `a`",
            "shard `b` has no keys",
            "shard `c` has no keys",
        ]
    );
    assert_eq!(
        messages("function = \"ring\"\nring_size = 0"),
        [
            "the ring has no points",
            "shard `a` has no position on the ring: it would own no keys",
            "shard `b` has no position on the ring: it would own no keys",
            "shard `c` has no position on the ring: it would own no keys",
        ]
    );
}

/// Walks from the point, clockwise, until a position is met.
fn naive_owner(size: u32, positions: &[RingPosition], point: u32) -> String {
    (0..size)
        .map(|step| (point + step) % size)
        .find_map(|p| positions.iter().find(|q| q.position == p))
        .map(|q| q.shard.clone())
        .unwrap()
}

proptest! {
    #[test]
    fn ring_agrees_with_walking(
        size in 3u32..400,
        raw in prop::collection::btree_set(0u32..400, 3..12),
    ) {
        let raw: Vec<u32> = raw.into_iter().filter(|p| *p < size).collect();
        prop_assume!(raw.len() >= 3);
        let positions: Vec<RingPosition> = raw
            .iter()
            .enumerate()
            .map(|(i, p)| RingPosition { shard: SHARDS[i % 3].into(), position: *p })
            .collect();
        let ring = Ring::new(size, &positions, &SHARDS).unwrap();
        let mut points = [0u64; 3];
        for point in 0..size {
            let owner = ring.owner(Slot(point)).unwrap();
            prop_assert_eq!(SHARDS[usize::from(owner.0)], naive_owner(size, &positions, point));
            prop_assert_eq!(ring.search(point), Some(owner));
            points[usize::from(owner.0)] += 1;
        }
        let shares: Vec<u64> = ring.shares(3).iter().map(|s| s.part).collect();
        prop_assert_eq!(&shares, &points.to_vec());
        // A further position takes exactly what its gain says.
        for added in 0..size {
            let Some((giver, gain)) = ring.gain_of(added) else { continue };
            let mut more = positions.clone();
            more.push(RingPosition { shard: "d".into(), position: added });
            let wider = Ring::new(size, &more, &["a", "b", "c", "d"]).unwrap();
            let moved: Vec<u32> = (0..size).filter(|p| wider.owner(Slot(*p)) != ring.owner(Slot(*p))).collect();
            prop_assert_eq!(moved.len() as u64, gain.part);
            prop_assert!(moved.iter().all(|p| ring.owner(Slot(*p)) == Some(giver)));
        }
    }

    #[test]
    fn large_rings_are_searched(point in 0u32..2_000_000) {
        let positions = [("a", 0u32), ("b", 700_000), ("c", 1_999_999)]
            .map(|(shard, position)| RingPosition { shard: shard.into(), position });
        let ring = Ring::new(2_000_000, &positions, &SHARDS).unwrap();
        let expected = if point == 0 { 0 } else if point <= 700_000 { 1 } else { 2 };
        prop_assert_eq!(ring.owner(Slot(point)), Some(ShardId(expected)));
    }

    #[test]
    fn every_integer_has_exactly_one_shard(key: i64) {
        let ranges = r#"
            function = "range"
            ranges = [{ shard = "a", to = 0 }, { shard = "b", from = 0, to = 9 }, { shard = "c", from = 9 }]"#;
        for text in ["", RING, ranges] {
            let function = build(text).unwrap();
            prop_assert!(function.shard(&Key::Int(key)).is_some_and(|s| s.0 < 3));
        }
    }

    #[test]
    fn modulo_move_is_exact(n in 1u16..40) {
        let (before, after) = (Modulo::new(n).unwrap(), Modulo::new(n + 1).unwrap());
        let cycle = i64::from(n) * i64::from(n + 1);
        let moved = (0..cycle).filter(|k| before.slot(&Key::Int(*k)) != after.slot(&Key::Int(*k))).count();
        let share = before.moved_by_one_more();
        prop_assert_eq!((moved as u64, cycle as u64), (share.part, share.whole));
    }
}
