//! Tests of reading and checking.

mod template;

use std::io;
use std::path::Path;

use super::*;
use crate::session::UserSettings;

const GOOD: &str = r#"
[[users]]
name = "app"
password = "secret"

[[databases]]
name = "app"
[[databases.tables]]
name = "Notifications"
kind = "sharded"
[[databases.shards]]
name = "s0"
[[databases.shards.servers]]
host = "a"
role = "master"
[[databases.shards.servers]]
host = "b"
role = "slave"
weight = 2
"#;

fn no_files(_: &Path) -> io::Result<String> {
    Err(io::ErrorKind::NotFound.into())
}

fn parse_with(
    text: &str,
    read_file: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Config, Errors> {
    let env = |name: &str| (name == "SECRET").then(|| "from the environment".to_owned());
    parse(text, "f", &env, read_file)
}

fn good(text: &str) -> Config {
    parse_with(text, &no_files).unwrap_or_else(|e| panic!("{e}"))
}

/// `line key: message` of each error.
fn errors(text: &str) -> Vec<String> {
    let errors = parse_with(text, &no_files).unwrap_err();
    errors
        .iter()
        .map(|e| format!("{} {}: {}", e.line, e.key, e.message))
        .collect()
}

#[test]
fn a_minimal_file_gets_the_defaults() {
    let config = good(GOOD);
    assert_eq!(config.listener, listener::Settings::default());
    assert_eq!(config.databases[0].sharding, sharding::Settings::default());
    let topology = config.topology();
    let shard = &topology.databases["app"].shards[0];
    assert_eq!(&*shard.dbname, "app");
    assert_eq!(shard.primary().unwrap().address.to_string(), "a:5432");
    assert_eq!(shard.replicas().map(|s| s.weight).collect::<Vec<_>>(), [2]);
}

#[test]
fn the_schema_has_folded_names() {
    let text = GOOD.replace(
        "kind = \"sharded\"",
        "kind = \"sharded\"\nkey_column = \"User_ID\"\ncolumns = [\"id\", \"USER_ID\", '\"Title\"']",
    );
    let schema = good(&text).databases[0].schema().unwrap();
    let Some(Table::Sharded {
        column,
        columns: Some(columns),
    }) = schema.tables.get("notifications")
    else {
        panic!("{:?}", schema.tables);
    };
    assert_eq!(&**column, "user_id");
    assert_eq!(
        columns.iter().map(|c| &**c).collect::<Vec<_>>(),
        ["id", "user_id", "Title"]
    );
}

#[test]
fn errors_of_every_step_come_together() {
    let text = GOOD
        .replace("weight = 2", "weight = 2\n[pool]\ndefault_pool_siz = 3\nserver_lifetime = \"5x\"\nquery_wait_timeout = 5\n")
        .replace("name = \"s0\"", "name = \"s0\"\ndbname = \"${UNSET}\"")
        .replace("role = \"slave\"", "role = \"primary\"");
    let text = format!("workers = -1\n{text}[listener]\nport = 70000\nmax_client_conn = 0\n");
    assert_eq!(
        errors(&text),
        [
            "1 workers: invalid value: integer `-1`, expected a whole number that is not negative",
            "14 databases[0].shards[0].dbname: environment variable `UNSET` is not set",
            "20 databases[0].shards[0].servers[1].role: shard `s0` has a second primary; the first is a:5432",
            "23 pool.default_pool_siz: unknown key `default_pool_siz`",
            "24 pool.server_lifetime: invalid value: string \"5x\", expected a duration",
            "25 pool.query_wait_timeout: invalid type: integer `5`, expected a duration",
            "28 listener.port: invalid value: integer `70000`, expected a whole number from 0 to 65535",
        ]
    );
}

#[test]
fn several_shape_errors_in_one_list_keep_their_places() {
    let text = GOOD
        .replace("host = \"a\"\nrole = \"master\"", "rol = \"master\"")
        .replace("role = \"slave\"", "role = \"slav\"");
    assert_eq!(
        errors(&text),
        [
            "13 databases[0].shards[0].servers[0]: missing key `host`",
            "14 databases[0].shards[0].servers[0].rol: unknown key `rol`",
            "17 databases[0].shards[0].servers[1].role: \"slav\" is not a value of this key",
        ]
    );
}

#[test]
fn remedies_name_what_was_meant() {
    let remedy = |text: &str| {
        parse_with(text, &no_files)
            .unwrap_err()
            .iter()
            .next()
            .unwrap()
            .remedy
            .clone()
    };
    assert_eq!(
        remedy(&GOOD.replace("[[databases.shards]]", "[[databases.shard]]")),
        "did you mean `shards`?"
    );
    assert_eq!(
        remedy(&GOOD.replace("\"master\"", "\"primry\"")),
        "did you mean `primary`?"
    );
    assert_eq!(
        remedy(&format!("zzz = 1\n{GOOD}")),
        "the keys here are workers, listener, http, log, session, pool, router, control, hba, users, databases"
    );
}

#[test]
fn a_mistyped_section_does_not_also_count_as_absent() {
    assert_eq!(
        errors(&GOOD.replace("[[users]]", "[[user]]")),
        ["2 user: unknown key `user`"]
    );
}

#[test]
fn syntax_errors_have_their_line() {
    let found = errors("[pool]\nx = \n[listener\nport = 1\n");
    assert!(found[0].starts_with("2 : "), "{found:?}");
    assert!(found.iter().any(|e| e.starts_with("3 : ")), "{found:?}");
}

#[test]
fn passwords_come_from_files_and_variables() {
    let text = GOOD.replace(
        "password = \"secret\"",
        "password_file = \"p\"\nserver_password = \"${SECRET}\"",
    );
    let read = |path: &Path| match path.to_str() {
        Some("p") => Ok("first line\nsecond\n".to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let user = parse_with(&text, &read).unwrap().users.remove(0);
    assert_eq!(user.password.unwrap().as_str(), "first line");
    assert_eq!(
        user.server_password.unwrap().as_str(),
        "from the environment"
    );
    assert_eq!(
        errors(&text),
        ["4 users[0].password_file: cannot read p: entity not found"]
    );
}

#[test]
fn secrets_stay_out_of_debug_and_errors() {
    let config = good(GOOD);
    assert!(!format!("{config:?}").contains("secret"));
    let text = GOOD.replace("\"secret\"", "4711");
    let shown = parse_with(&text, &no_files).unwrap_err().to_string();
    assert!(!shown.contains("4711"), "{shown}");
}

fn password_errors(password: &str, auth: &str) -> usize {
    let text = format!(
        "[session]\nauth_type = \"{auth}\"\n{}",
        GOOD.replace("secret", password)
    );
    parse_with(&text, &no_files).map_or_else(|e| e.iter().len(), |_| 0)
}

#[test]
fn password_forms_are_checked() {
    let verifier = postgres_protocol::password::scram_sha_256(b"x");
    let digest = "md50123456789abcdef0123456789abcdef";
    for (password, auth, expected) in [
        (verifier.as_str(), "scram-sha-256", 0),
        (verifier.as_str(), "md5", 0),
        (&verifier[..verifier.len() - 4], "md5", 1),
        ("SCRAM-SHA-256$4096", "md5", 1),
        (digest, "md5", 0),
        (digest, "scram-sha-256", 1),
        (&digest[..34], "md5", 1),
        ("md5sum", "md5", 0),
        ("", "md5", 1),
    ] {
        assert_eq!(
            password_errors(password, auth),
            expected,
            "{password} {auth}"
        );
    }
}

#[test]
fn tls_needs_both_files_and_pem() {
    let text = |more: &str| format!("[session]\n{more}\n{GOOD}");
    assert_eq!(
        errors(&text("client_tls_cert_file = \"c\"")),
        [
            "2 session.client_tls_cert_file: cannot read c: entity not found",
            "2 session.client_tls_cert_file: `client_tls_cert_file` without `client_tls_key_file`",
        ]
    );
    assert_eq!(
        errors(&text("client_tls_mode = \"require\"")),
        ["2 session.client_tls_mode: \"require\" without a certificate: no client could connect"]
    );
    let empty = |_: &Path| Ok(String::new());
    let both = text("client_tls_cert_file = \"c\"\nclient_tls_key_file = \"k\"");
    assert_eq!(parse_with(&both, &empty).unwrap_err().iter().len(), 2);
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "a table of files and what is wrong with each"
)]
fn contradictions_are_found() {
    let mut wrong = Vec::new();
    for (from, to, expected) in [
        (
            "[[databases.tables]]",
            "[[databases.tables]]\nname = \"NOTIFICATIONS\"\nkind = \"reference\"\n[[databases.tables]]",
            "12 databases[0].tables[1].name: table `Notifications` is declared twice (first as number 1)",
        ),
        (
            "kind = \"sharded\"",
            "kind = \"home\"",
            "8 databases[0].tables[0]: table `Notifications` is of kind \"home\", but names no shard",
        ),
        (
            "kind = \"sharded\"",
            "kind = \"home\"\nshard = \"s9\"",
            "11 databases[0].tables[0].shard: there is no shard `s9`",
        ),
        (
            "kind = \"sharded\"",
            "kind = \"sharded\"\ncolumns = [\"id\"]",
            "11 databases[0].tables[0].columns: the key column `user_id` is not among the columns of `Notifications`",
        ),
        (
            "kind = \"sharded\"",
            "kind = \"reference\"\nkey_column = \"id\"",
            "11 databases[0].tables[0].key_column: `key_column` is for tables of kind \"sharded\"",
        ),
        (
            "weight = 2",
            "weight = 0",
            "11 databases[0].shards[0]: every replica of shard `s0` has weight 0: none would take reads",
        ),
        (
            "host = \"b\"",
            "host = \"a\"",
            "17 databases[0].shards[0].servers[1].host: a:5432 is already a server of shard `s0`",
        ),
        (
            "password = \"secret\"",
            "",
            "2 users[0]: user `app` has no password",
        ),
        (
            "weight = 2",
            "port = 0",
            "19 databases[0].shards[0].servers[1].port: a server cannot have port 0",
        ),
        (
            "weight = 2",
            "[[databases]]\nname = \"app\"\n",
            "20 databases[1].name: database `app` is declared twice (first as number 1)",
        ),
        (
            "weight = 2",
            "[control]\nuser = \"x\"",
            "20 control.user: there is no user `x`",
        ),
        (
            "weight = 2",
            "[session]\nauth_user = \"x\"",
            "20 session.auth_user: there is no user `x`",
        ),
        (
            "name = \"app\"\n[[databases.tables]]",
            "name = \"app\"\nauth_user = \"x\"\n[[databases.tables]]",
            "8 databases[0].auth_user: there is no user `x`",
        ),
        (
            "weight = 2",
            "[[hba]]\naddress = \"10.0.0.0/33\"\nmethod = \"trust\"",
            "20 hba[0].address: invalid value: string \"10.0.0.0/33\", expected \"all\", \"local\", an IP address, or a network such as 10.0.0.0/8",
        ),
        (
            "weight = 2",
            "[[hba]]\nmethod = \"cert\"",
            "20 hba[0].method: \"cert\" without session.client_tls_ca_file: no certificate could be checked",
        ),
        (
            "weight = 2",
            "[[hba]]\nmethod = \"reject\"",
            "20 hba[0].method: everybody is rejected: no client could log in",
        ),
        (
            "weight = 2",
            "[session]\nauth_type = \"cert\"",
            "20 session.auth_type: \"cert\" without session.client_tls_ca_file: no certificate could be checked",
        ),
        (
            "weight = 2",
            "[pool]\ndefault_pool_size = 0",
            "20 pool.default_pool_size: no connection to a server could be made",
        ),
        (
            "weight = 2",
            "[listener]\nhost = \"a b\"",
            "20 listener.host: \"a b\" is not an address to listen on",
        ),
        (
            "weight = 2",
            "[listener]\nhost = \"1.2.3\"",
            "20 listener.host: \"1.2.3\" is not an address to listen on",
        ),
        (
            "weight = 2",
            "[http]\naddress = \"9632\"",
            "20 http.address: \"9632\" is not an address of the form host:port",
        ),
        (
            "weight = 2",
            "[databases.sharding]\nkey_type = \"uuid\"",
            "20 databases[0].sharding.key_type: function \"modulo\" needs an integer key, not uuid",
        ),
        (
            "weight = 2",
            "[databases.sharding]\nfunction = \"list\"\nlists = [{ shard = \"s0\", keys = [1, 1] }]",
            "21 databases[0].sharding.lists[0].keys: key 1 is listed twice, first for shard `s0`",
        ),
    ] {
        let text = GOOD.replace(from, to);
        let found = errors(&text);
        if !found.iter().any(|e| e == expected) {
            wrong.push((expected, found));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_users_and_no_databases_are_two_errors() {
    assert_eq!(
        errors(""),
        [
            "1 users: there is no user: nobody could log in",
            "1 databases: there is no database"
        ]
    );
    good(&format!(
        "[session]\nauth_type = \"trust\"\n{}",
        GOOD.replace("password = \"secret\"", "")
    ));
}

#[test]
fn two_shards_may_share_a_server_in_different_databases() {
    let more = "weight = 2\n[[databases.shards]]\nname = \"s1\"\ndbname = \"app1\"\n[[databases.shards.servers]]\nhost = \"a\"\nrole = \"ROLE\"\n";
    good(&GOOD.replace("weight = 2", &more.replace("ROLE", "primary")));
    let found = errors(&GOOD.replace("weight = 2", &more.replace("ROLE", "replica")));
    assert!(
        found
            .iter()
            .any(|e| e.ends_with("a:5432 is a replica here, but a primary of shard `s0`")),
        "{found:?}"
    );
}

#[test]
fn a_reload_takes_over_what_concerns_logins_alone() {
    let old = good(GOOD);
    let mut new = old.clone();
    assert!(compare(&old, &new).is_empty());
    new.listener.port = 1;
    new.listener.max_client_conn = 7;
    new.session.query_timeout = std::time::Duration::from_secs(1);
    new.session.auth_type = session::AuthType::Md5;
    new.databases[0].auth_user = Some("app".into());
    new.users.push(UserSettings {
        name: "more".into(),
        ..old.users[0].clone()
    });
    let applied = live(&old, &new);
    assert_eq!(
        compare(&old, &applied),
        ["session", "users.more", "databases.app"]
    );
    let left = [
        "listener.port",
        "listener.max_client_conn",
        "session.query_timeout",
    ];
    assert_eq!(compare(&applied, &new), left);
    new.databases[0].shards[0].servers[1].weight = 9;
    let applied = live(&old, &new);
    assert_eq!(compare(&applied, &new).last().unwrap(), "databases.app");
    // A database that the new file lacks goes on.
    new.databases.clear();
    assert_eq!(live(&old, &new).databases, old.databases);
}

#[test]
fn a_broken_server_does_not_hide_errors_elsewhere() {
    let text = GOOD.replace("\"master\"", "\"primry\"").replace(
        "weight = 2",
        "[[databases.shards]]\nname = \"s1\"\n[databases.sharding]\nfunction = \"ring\"\npositions = [{ shard = \"s0\", position = 1000 }]",
    );
    assert_eq!(
        errors(&text),
        [
            "15 databases[0].shards[0].servers[0].role: \"primry\" is not a value of this key",
            "19 databases[0].shards[1]: shard `s1` has no primary",
            "23 databases[0].sharding.positions[0].position: position 1000 lies outside the ring of 1000 points",
            "23 databases[0].sharding.positions: shard `s1` has no position on the ring: it would own no keys",
        ]
    );
}

/// Errors in every kind of value, none hiding another and none told twice.
#[test]
fn every_kind_of_value_can_be_wrong_at_once() {
    let text = r#"
users = 3
workers = "many"
[log]
format = "xml"
[session]
auth_type = 5
[control]
check_interval = []
[[databases]]
name = 1
[databases.sharding]
function = "rnig"
positions = [{ shard = "s0" }, 7, { position = -1 }]
ranges = 5
lists = [{ shard = "s0", keys = [1.5] }]
[[databases.tables]]
name = "t"
columns = [1, 2]
[[databases.shards]]
"#;
    let lines: Vec<usize> = parse_with(text, &no_files)
        .unwrap_err()
        .iter()
        .map(|e| e.line)
        .collect();
    assert_eq!(
        lines,
        [
            2, 3, 5, 7, 9, 11, 13, 14, 14, 14, 14, 15, 16, 17, 19, 19, 20
        ]
    );
}
