//! The tables of the demo: the design's notifications, preferences and devices, one reference
//! table and one home table.

use std::fmt::Write;

/// On every shard, run by the owner of the tables.
const TABLES: &str = include_str!("../../config/compose/schema.sql");
/// On the home table's shard.
const HOME: &str = include_str!("../../config/compose/home.sql");

/// Codes of the reference table, for the data that is loaded.
pub(super) const COUNTRIES: [&str; 8] = ["BR", "DE", "FR", "IN", "JP", "NG", "PL", "US"];

/// Everything a shard holds before data is loaded through pgdrover.
pub(super) fn shard_sql(is_home: bool) -> String {
    [TABLES, if is_home { HOME } else { "" }].concat()
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
