//! Fuzzing: many inputs made from a corpus by chance, each given to a check that must not panic.
//!
//! Every room that reads what strangers send has its targets in a `fuzz` module of its own. They
//! run shortly with the other tests, and for long by `make fuzz`. Chance comes from a seed, and
//! each input from the seed and its own number, so that a failure says how to run it again.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// Whoever wants other inputs sets FUZZ_SEED.
const SEED: u64 = 2026;

/// Chance that is the same each time (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// True once in `n` times.
    pub(crate) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of `all`.
    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// One of `corpus`, or a few of `tokens`, changed in a few places.
    pub(crate) fn bytes<C: AsRef<[u8]>>(&mut self, corpus: &[C], tokens: &[&[u8]]) -> Vec<u8> {
        let mut out = match self.below(8) {
            0 => (0..self.below(12)).fold(Vec::new(), |mut out, _| {
                out.extend_from_slice(self.pick(tokens));
                out
            }),
            _ => corpus[self.below(corpus.len())].as_ref().to_vec(),
        };
        for _ in 0..self.below(6) {
            self.change(&mut out, corpus, tokens);
        }
        out
    }

    /// The same as text: what is no UTF-8 becomes U+FFFD.
    pub(crate) fn text<C: AsRef<[u8]>>(&mut self, corpus: &[C], tokens: &[&str]) -> String {
        let tokens: Vec<&[u8]> = tokens.iter().map(|t| t.as_bytes()).collect();
        String::from_utf8_lossy(&self.bytes(corpus, &tokens)).into_owned()
    }

    fn change<C: AsRef<[u8]>>(&mut self, out: &mut Vec<u8>, corpus: &[C], tokens: &[&[u8]]) {
        const NUMBERS: [u32; 8] = [0, 1, 3, 4, 0x7fff_ffff, 0x8000_0000, 0xffff, u32::MAX];
        let at = self.below(out.len() + 1);
        let end = (at + 1 + self.below(8)).min(out.len());
        match self.below(9) {
            0 if at < out.len() => out[at] ^= 1 << self.below(8),
            1 if at < out.len() => out[at] = self.next() as u8,
            2 => drop(out.drain(at..end)),
            3 => out.truncate(at),
            4 => {
                let again = out[at..end].to_vec();
                out.splice(at..at, again);
            }
            5 => {
                let number = self.pick(&NUMBERS).to_be_bytes();
                let width = self.pick(&[1, 2, 4]);
                let end = (at + width).min(out.len());
                out.splice(at..end, number[4 - width..].iter().copied());
            }
            6 => {
                let other = corpus[self.below(corpus.len())].as_ref();
                let from = self.below(other.len() + 1);
                let to = (from + self.below(40)).min(other.len());
                out.splice(at..at, other[from..to].iter().copied());
            }
            _ => drop(out.splice(at..at, self.pick(tokens).iter().copied())),
        }
    }

    /// Cuts `bytes` into chunks.
    pub(crate) fn chunks<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let longest = self.pick(&[1, 3, 7, 40, 4000]);
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let (chunk, rest) = bytes.split_at((1 + self.below(longest)).min(bytes.len()));
            out.push(chunk);
            bytes = rest;
        }
        out
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

/// Gives inputs of `make` to `check`: `few` of them, or what FUZZ_CASES says, or as many as
/// FUZZ_SECONDS allow. FUZZ_CASE runs the one with this number.
pub(crate) fn run<I: Debug>(
    target: &str,
    few: u64,
    make: impl Fn(&mut Rng) -> I,
    mut check: impl FnMut(&I, &mut Rng),
) {
    let seed = variable("FUZZ_SEED").unwrap_or(SEED);
    let seconds = variable("FUZZ_SECONDS").map(Duration::from_secs);
    let cases = match (variable("FUZZ_CASE"), variable("FUZZ_CASES")) {
        (Some(one), _) => one..one + 1,
        (None, cases) => 0..cases.unwrap_or(few),
    };
    let begin = Instant::now();
    let mut done = 0_u64;
    for case in cases {
        if seconds.is_some_and(|most| done.is_multiple_of(64) && begin.elapsed() >= most) {
            break;
        }
        let mut rng = Rng(seed ^ case.wrapping_mul(0xd134_2543_de82_ef95));
        let input = make(&mut rng);
        let outcome = catch_unwind(AssertUnwindSafe(|| check(&input, &mut rng)));
        if let Err(panic) = outcome {
            eprintln!("again: FUZZ_SEED={seed} FUZZ_CASE={case} cargo test --lib {target}");
            eprintln!("input: {input:?}");
            resume_unwind(panic);
        }
        done += 1;
    }
    eprintln!("{target}: {done} inputs in {:.1?}", begin.elapsed());
}

/// The statements of a plan file, `tests/plans/*.sql`.
pub(crate) fn statements(plans: &str) -> impl Iterator<Item = String> {
    plans.split("\n\n").skip(1).map(|block| {
        let lines = block.lines();
        let sql = lines.filter(|l| !l.starts_with("-- row ") && !l.starts_with("-- $"));
        sql.collect::<Vec<_>>().join("\n")
    })
}

/// What statements are made of, for changing them.
pub(crate) const SQL_TOKENS: &[&str] = &[
    " ",
    "\n",
    ";",
    "'",
    "''",
    "\"",
    "$$",
    "$a$",
    "$1",
    "$2",
    "$65535",
    "$99999999999999999999",
    "E'\\",
    "E'",
    "U&'",
    "U&\"",
    "b'",
    "x'",
    "--",
    "/*",
    "*/",
    "/* shard: 1 */",
    "/* pgdrover: shard=1 role=replica */",
    "-- pgdrover: role=primary\n",
    "(",
    ")",
    "[",
    "]",
    ",",
    ".",
    "..",
    "::",
    ":",
    "=",
    "<>",
    "-",
    "+",
    "*",
    "\\",
    "é",
    "漢",
    "😀",
    "\u{a0}",
    "\u{0b}",
    "\0",
    "\u{1}",
    "\u{2}",
    "\u{4}",
    "0",
    "1",
    "42",
    "1.5",
    "1e5",
    "1e",
    "0x1f",
    "1_0",
    "9223372036854775808",
    "-170141183460469231731687303715884105728",
    "NULL",
    "SELECT ",
    "FROM ",
    "WHERE ",
    "user_id",
    "notifications ",
    "user_preferences ",
    "countries ",
    "settings ",
    " user_id = 1 ",
    " user_id IN (1, '2', $1) ",
    " AND ",
    " OR ",
    " NOT ",
    " UNION ALL ",
    " ORDER BY 1",
    " GROUP BY 1, 2",
    " LIMIT 1",
    " JOIN ",
    " USING (user_id) ",
    " LATERAL ",
    "WITH x AS (",
    "INSERT INTO ",
    " VALUES (",
    "UPDATE ",
    " SET ",
    "DELETE FROM ",
    "RETURNING ",
    "COPY ",
    "BEGIN ",
    "ATOMIC ",
    "CASE ",
    "END ",
    "COMMIT ",
    "ROLLBACK TO ",
    "SAVEPOINT ",
    "RELEASE ",
    "WORK ",
    "AND CHAIN ",
    "ISOLATION LEVEL ",
    "READ ONLY ",
    "SET ",
    "LOCAL ",
    "RESET ALL ",
    "DISCARD ALL",
    "PREPARE p AS ",
    "EXECUTE p (",
    "DEALLOCATE ",
    "LISTEN ",
    "CAST(",
    " AS int8)",
    " AS ",
    "EXPLAIN ",
    "EXPLAIN (ROUTE) ",
    "EXPLAIN (",
    "set_config(",
    "pg_catalog.set_config('a', 'b', true)",
    "DECLARE c CURSOR WITH HOLD FOR ",
    "ANY('{1,2}')",
    "ANY($1)",
    "ARRAY[1,2]",
];
