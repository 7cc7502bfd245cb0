//! Several clients change settings at random over fewer server connections: each sees at every
//! point what it would see with a PostgreSQL of its own.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::support::daemon::Setup;
use crate::support::database::TestDb;
use crate::support::raw::{Frame, Raw};

const STATEMENTS: &[&str] = &[
    "SET work_mem = '1MB'",
    "SET work_mem TO 2048",
    "SET SESSION work_mem = '3MB'",
    "SET LOCAL work_mem = '4MB'",
    "SET LOCAL work_mem TO DEFAULT",
    "SET work_mem = 'much'",
    "RESET work_mem",
    "SET search_path TO \"A b\", 'c d', public",
    "SET search_path = ''",
    "SET LOCAL search_path = \"e\"\"f\"",
    "RESET search_path",
    "SET application_name = 'it''s; -- me'",
    "SET application_name = ''",
    "SET LOCAL application_name TO E'tab\\there'",
    "SELECT set_config('application_name', 'by function', false)",
    "SELECT set_config('application_name', 'until the end', true)",
    "SELECT set_config('work_mem', '5MB', false), set_config('my.own', 'x', false)",
    "SET my.own = ''",
    "RESET my.own",
    "SET DateStyle = German",
    "SET TIME ZONE 'Asia/Tokyo'",
    "SET LOCAL TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE",
    "SET TIME ZONE LOCAL",
    "SET ROLE app",
    "SET LOCAL ROLE none",
    "RESET ROLE",
    "SET SESSION AUTHORIZATION app",
    "RESET ALL",
    "DISCARD ALL",
    "DISCARD PLANS",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET TRANSACTION READ ONLY",
    "BEGIN; SET work_mem = '6MB'; COMMIT; SELECT 1/0",
    "BEGIN; SET work_mem = '7MB'; SAVEPOINT s; SET work_mem = '8MB'; ROLLBACK TO s; COMMIT",
    "SET work_mem = '9MB'; SELECT 1/0",
];

const CONTROL: &[&str] = &[
    "BEGIN",
    "BEGIN READ ONLY",
    "COMMIT",
    "ROLLBACK",
    "COMMIT AND CHAIN",
    "SAVEPOINT s",
    "SAVEPOINT \"S s\"",
    "ROLLBACK TO s",
    "ROLLBACK TO \"S s\"",
    "RELEASE s",
    "SELECT 1/0",
];

/// Everything that the statements above change.
const SHOWN: &str = "SELECT current_setting('work_mem'), current_setting('search_path'), \
    current_setting('application_name'), coalesce(current_setting('my.own', true), ''), \
    current_setting('DateStyle'), current_setting('TimeZone'), current_setting('role'), \
    session_user, current_setting('default_transaction_isolation'), \
    current_setting('transaction_isolation'), current_setting('transaction_read_only')";

/// The answer without what PostgreSQL tells of parameters.
async fn ask(client: &mut Raw, sql: &str) -> Vec<String> {
    let frames = client.query(sql).await;
    let answer = frames.iter().filter(|f| f.tag != b'S');
    answer.map(said).collect()
}

fn said(frame: &Frame) -> String {
    match frame.tag {
        b'E' | b'N' => format!("{} {}", frame.field(b'C'), frame.field(b'M')),
        b'D' => format!("{:?}", frame.values()),
        b'T' => String::new(),
        _ => format!("{frame:?}"),
    }
}

/// With `RANDOM_SEED` in the environment other choices are made.
#[tokio::test]
async fn everybody_has_the_own_settings() {
    let seed = std::env::var("RANDOM_SEED").map_or(1, |s| s.parse().unwrap());
    let mut random = StdRng::seed_from_u64(seed);
    let (behind, direct) = (TestDb::new("").await, TestDb::new("").await);
    let trust = "[session]\nauth_type = \"trust\"\n[pool]\ndefault_pool_size = 5";
    let pgdrover = Setup::solo(&behind).with(trust).start().await;
    let primary = direct.primary();
    let mut clients = Vec::new();
    for n in 0..5 {
        let name = format!("started as {n}");
        let startup: &[(&str, &str)] = match n {
            0 => &[],
            1 => &[("options", "-c work_mem=10MB -c my.own=from\\ startup")],
            _ => &[("application_name", &name), ("search_path", "\"X\", y")],
        };
        let address = (primary.host.as_str(), primary.port);
        let mut own = Raw::new(tokio::net::TcpStream::connect(address).await.unwrap());
        own.login("app", "app", &direct.name, startup).await;
        let mut through = pgdrover.stranger().await;
        through
            .login("app", "app", &pgdrover.database, startup)
            .await;
        clients.push([own, through]);
    }
    let mut said = Vec::new();
    for _ in 0..700 {
        let who = random.random_range(0..clients.len());
        let from = if random.random_bool(0.4) {
            CONTROL
        } else {
            STATEMENTS
        };
        let sql = *from.choose(&mut random).unwrap();
        said.push(format!("{who}: {sql}"));
        let [own, through] = &mut clients[who];
        let recent = said[said.len().saturating_sub(40)..].join("\n");
        assert_eq!(
            ask(own, sql).await,
            ask(through, sql).await,
            "seed {seed}\n{recent}"
        );
        let (wanted, found) = (ask(own, SHOWN).await, ask(through, SHOWN).await);
        assert_eq!(wanted, found, "seed {seed}\n{recent}");
    }
}
