//! Functions: who owns a key, which share, and what is wrong with the settings.

use proptest::prelude::*;

use crate::sharding::*;

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
