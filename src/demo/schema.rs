//! The tables of the demo: the design's notifications, preferences and devices, one reference
//! table and one home table.

use std::fmt::Write;

/// On every shard, run by the owner of the tables.
const TABLES: &str = "
CREATE TABLE notifications (
    id         bigint NOT NULL,
    user_id    bigint NOT NULL,
    title      text NOT NULL DEFAULT '',
    country    text,
    amount     numeric,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, id)
);
CREATE TABLE user_preferences (
    user_id       bigint PRIMARY KEY,
    lang          text,
    sms_enabled   boolean NOT NULL DEFAULT false,
    email_enabled boolean NOT NULL DEFAULT true
);
CREATE TABLE devices (
    user_id bigint NOT NULL,
    token   text NOT NULL,
    PRIMARY KEY (user_id, token)
);
CREATE TABLE countries (code text PRIMARY KEY, name text NOT NULL);
CREATE TABLE settings (name text PRIMARY KEY, value text);
";

/// The reference table's rows, the same on every shard.
pub(super) const COUNTRIES: [(&str, &str); 8] = [
    ("BR", "Brazil"),
    ("DE", "Germany"),
    ("FR", "France"),
    ("IN", "India"),
    ("JP", "Japan"),
    ("NG", "Nigeria"),
    ("PL", "Poland"),
    ("US", "United States"),
];

/// The home table's rows, on its shard alone.
const SETTINGS: [(&str, &str); 3] = [
    ("daily_limit", "100"),
    ("quiet_hours", "22:00-07:00"),
    ("sender", "pgdrover demo"),
];

/// Everything a shard holds before data is loaded through pgdrover.
pub(super) fn shard_sql(is_home: bool) -> String {
    let mut sql = TABLES.to_owned();
    sql.push_str(&insert("countries", &COUNTRIES));
    if is_home {
        sql.push_str(&insert("settings", &SETTINGS));
    }
    sql
}

fn insert(table: &str, rows: &[(&str, &str)]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|(a, b)| format!("('{a}', '{b}')"))
        .collect();
    format!("INSERT INTO {table} VALUES {};\n", rows.join(", "))
}

/// The tables as pgdrover's configuration declares them.
pub(super) fn tables_toml(home: &str) -> String {
    let sharded = [
        (
            "notifications",
            "\"id\", \"user_id\", \"title\", \"country\", \"amount\", \"created_at\"",
        ),
        (
            "user_preferences",
            "\"user_id\", \"lang\", \"sms_enabled\", \"email_enabled\"",
        ),
        ("devices", "\"user_id\", \"token\""),
    ];
    let mut text = String::new();
    for (name, columns) in sharded {
        let _ = write!(
            text,
            "\n[[databases.tables]]\nname = \"{name}\"\nkind = \"sharded\"\n\
             key_column = \"user_id\"\ncolumns = [{columns}]\n"
        );
    }
    let _ = write!(
        text,
        "\n[[databases.tables]]\nname = \"countries\"\nkind = \"reference\"\n\
         \n[[databases.tables]]\nname = \"settings\"\nkind = \"home\"\nshard = \"{home}\"\n"
    );
    text
}
