//! Settings, roles and channels: the session's own at every point, and nobody else's.

use std::time::Duration;

use crate::support::cluster::shared;
use crate::support::daemon::Setup;
use crate::support::database::TestDb;
use crate::support::differ::{Cut, Pair, Until};
use crate::support::raw::Raw;
use crate::support::script;

const ONE: &str = "[pool]\ndefault_pool_size = 1";

/// What the scripts of `settings.txt` change.
const SHOWN: [&str; 6] = [
    "work_mem",
    "geqo",
    "search_path",
    "application_name",
    "TimeZone",
    "client_encoding",
];

async fn shown(client: &mut Raw) -> Vec<String> {
    let mut values = Vec::new();
    for name in SHOWN {
        values.push(client.value(&format!("SHOW {name}")).await);
    }
    let sql = "SELECT string_agg(name, ',') FROM pg_settings WHERE name LIKE 'my.%'";
    values.push(client.value(sql).await);
    values
}

/// Lesson 11. At every point the value is PostgreSQL's, though other clients use the same server
/// connection; and each of those has the defaults.
#[tokio::test]
async fn settings_are_what_postgresql_says() {
    let pair = Pair::new("", ONE).await;
    let mut bystander = pair.pgdrover.raw().await;
    let defaults = shown(&mut bystander).await;
    for (name, script) in script::read(include_str!("../../wire/settings.txt")) {
        // A client that leaves the session as the script did.
        let mut left = pair.pgdrover.raw().await;
        for step in &script {
            left.send(&step.bytes).await;
            if let Until::Ready(n) = step.until {
                for _ in 0..n {
                    left.ready().await;
                }
            }
        }
        drop(left);
        let compared = pair.difference(&script, Cut::Whole).await;
        compared.unwrap_or_else(|difference| panic!("=== {name}: {difference}"));
        assert_eq!(shown(&mut bystander).await, defaults, "after {name}");
        assert_eq!(
            shown(&mut pair.pgdrover.raw().await).await,
            defaults,
            "after {name}"
        );
    }
}

/// Lesson 11. RESET ALL does not end a role: neither must it stay for the next client.
#[tokio::test]
async fn roles_follow_and_leave_with_their_session() {
    let db = TestDb::new("").await;
    let (user, password) = (&shared().superuser, &shared().superuser_password);
    let admin = db.superuser().await;
    admin
        .batch_execute("CREATE ROLE lesson_a; CREATE ROLE \"Lesson b\"")
        .await
        .unwrap();
    let pgdrover = Setup::solo(&db)
        .with(ONE)
        .user(&format!("name = \"{user}\"\npassword = \"{password}\""))
        .start()
        .await;
    let login = async || {
        let mut raw = pgdrover.stranger().await;
        raw.login(user, password, &pgdrover.database, &[]).await;
        raw
    };
    let (mut a, mut b) = (login().await, login().await);
    let who = "SELECT session_user || ' as ' || current_user";
    let own = format!("{user} as {user}");
    let steps = [
        ("SET ROLE lesson_a", format!("{user} as lesson_a")),
        ("RESET ALL", format!("{user} as lesson_a")),
        (
            "BEGIN; SET LOCAL ROLE \"Lesson b\"; COMMIT",
            format!("{user} as lesson_a"),
        ),
        (
            "BEGIN; SAVEPOINT s; RESET ROLE; ROLLBACK TO s; COMMIT",
            format!("{user} as lesson_a"),
        ),
        ("RESET ROLE", own.clone()),
        (
            "SET SESSION AUTHORIZATION \"Lesson b\"",
            "Lesson b as Lesson b".to_owned(),
        ),
        ("SET ROLE NONE", "Lesson b as Lesson b".to_owned()),
        ("RESET SESSION AUTHORIZATION", own.clone()),
        (
            "SET SESSION AUTHORIZATION lesson_a",
            "lesson_a as lesson_a".to_owned(),
        ),
        ("SET SESSION AUTHORIZATION DEFAULT", own.clone()),
        ("SET ROLE lesson_a", format!("{user} as lesson_a")),
        // It takes the role back as well.
        (
            "SET SESSION AUTHORIZATION \"Lesson b\"",
            "Lesson b as Lesson b".to_owned(),
        ),
        ("DISCARD ALL", own.clone()),
        ("BEGIN; SET ROLE lesson_a; ROLLBACK", own.clone()),
    ];
    for (sql, expected) in steps {
        let frames = a.query(sql).await;
        assert!(frames.iter().all(|f| f.tag != b'E'), "{sql}: {frames:?}");
        for _ in 0..2 {
            assert_eq!(b.value(who).await, own, "the other after {sql}");
            assert_eq!(a.value(who).await, expected, "after {sql}");
        }
    }
    a.query("SET SESSION AUTHORIZATION lesson_a").await;
    drop(a);
    assert_eq!(login().await.value(who).await, own);
    // Roles are the cluster's, not the database's.
    admin
        .batch_execute("DROP ROLE lesson_a; DROP ROLE \"Lesson b\"")
        .await
        .unwrap();
}

/// Lesson 12. A channel is heard from the moment LISTEN is answered, in its own database alone; a
/// listener that does not read holds up nobody.
#[tokio::test]
async fn channels_are_of_one_database() {
    let (here, there) = (TestDb::new("").await, TestDb::new("").await);
    let first = Setup::solo(&here).start().await;
    let second = Setup::solo(&there).start().await;
    let (mut listener, mut foreign) = (first.raw().await, second.raw().await);
    let (mut slow, mut notifier) = (first.raw().await, first.raw().await);
    for client in [&mut listener, &mut foreign, &mut slow] {
        client.query("LISTEN news").await;
    }
    for i in 0..50 {
        let payload = format!("{i} {}", "x".repeat(7000));
        notifier.query(&format!("NOTIFY news, '{payload}'")).await;
        let heard = listener.frame().await.unwrap();
        assert_eq!(heard.tag, b'A', "{heard:?}");
        let text = String::from_utf8_lossy(&heard.body[4..]).into_owned();
        assert_eq!(text, format!("news\0{payload}\0"));
    }
    assert!(
        foreign
            .frame_within(Duration::from_millis(100))
            .await
            .is_none()
    );
    assert_eq!(foreign.value("SELECT 1").await, "1");
    let frames = slow.query("SELECT 2").await;
    assert_eq!(frames.iter().filter(|f| f.tag == b'A').count(), 50);
}
