//! The configuration files of the demo: each server's, and pgdrover's.

use std::fmt::Write;

use super::cluster::ShardServers;
use super::{DATABASE, PASSWORD, USER};

/// How the demo spreads keys over its shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharding {
    /// `user_id % shards`.
    Modulo,
    /// Positions on a ring of 1000 points: 250, 500 and 750 for three shards.
    Ring,
    /// Ranges up to 100 million: 0–33M, 33M–66M and 66M–100M for three shards.
    Range,
}

/// The end of the last range.
const LAST_KEY: u64 = 100;
/// Ranges are cut at whole millions.
const MILLION: u64 = 1_000_000;
/// How many points the ring has.
const RING_SIZE: u32 = 1000;

impl Sharding {
    /// The position on the ring of one shard among so many.
    fn position(shard: u16, shards: u16) -> u32 {
        RING_SIZE * (u32::from(shard) + 1) / (u32::from(shards) + 1)
    }

    /// The first key of a shard's range; for `shard == shards` the end of the last range.
    pub(super) fn range_start(shard: u16, shards: u16) -> u64 {
        LAST_KEY * u64::from(shard) / u64::from(shards) * MILLION
    }

    fn toml(self, shards: &[ShardServers]) -> String {
        let count = shards.len() as u16;
        let name = match self {
            Sharding::Modulo => "modulo",
            Sharding::Ring => "ring",
            Sharding::Range => "range",
        };
        let mut text = format!(
            "\n[databases.sharding]\nfunction = \"{name}\"\n\
             key_column = \"user_id\"\nkey_type = \"bigint\"\n"
        );
        let entry = |shard: &ShardServers| match self {
            Sharding::Modulo => String::new(),
            Sharding::Ring => format!(
                "  {{ shard = \"{}\", position = {} }},\n",
                shard.name,
                Self::position(shard.number, count)
            ),
            Sharding::Range => format!(
                "  {{ shard = \"{}\", from = {}, to = {} }},\n",
                shard.name,
                Self::range_start(shard.number, count),
                Self::range_start(shard.number + 1, count)
            ),
        };
        let entries: String = shards.iter().map(entry).collect();
        match self {
            Sharding::Modulo => {}
            Sharding::Ring => {
                let _ = write!(text, "ring_size = {RING_SIZE}\npositions = [\n{entries}]\n");
            }
            Sharding::Range => {
                let _ = write!(text, "ranges = [\n{entries}]\n");
            }
        }
        text
    }
}

/// Where pgdrover listens before a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The port for clients.
    pub port: u16,
    /// The port for operators.
    pub http_port: u16,
}

/// A complete `pgdrover.toml`. `extra` comes first: whole sections such as `[pool]`, other than
/// `[listener]` and `[http]`.
pub(super) fn pgdrover_toml(
    shards: &[ShardServers],
    sharding: Sharding,
    endpoint: Endpoint,
    extra: &str,
) -> String {
    let Endpoint { port, http_port } = endpoint;
    let mut text = format!(
        "[listener]\nhost = \"127.0.0.1\"\nport = {port}\n\n\
         [http]\naddress = \"127.0.0.1:{http_port}\"\n\n{extra}\n\
         [[users]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n\n\
         [[databases]]\nname = \"{DATABASE}\"\n"
    );
    text.push_str(&sharding.toml(shards));
    text.push_str(&super::schema::tables_toml(&shards[0].name));
    for shard in shards {
        let _ = write!(
            text,
            "\n[[databases.shards]]\nname = \"{}\"\ndbname = \"{DATABASE}\"\n",
            shard.name
        );
        for server in &shard.servers {
            let _ = write!(
                text,
                "  [[databases.shards.servers]]\n  host = \"{}\"\n  port = {}\n  role = \"{}\"\n",
                server.host,
                server.port,
                server.role.as_str()
            );
        }
    }
    text
}

/// What every server of the demo needs to be a member of a replicated, poolable cluster, and
/// what makes it small and quick: it keeps nothing that must survive a power failure.
const POSTGRES: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("shared_buffers", "16MB"),
    ("max_prepared_transactions", "50"),
    ("wal_level", "replica"),
    ("max_wal_senders", "10"),
    ("hot_standby", "on"),
    ("hot_standby_feedback", "on"),
    // A replica that was down for a while finds its WAL without a replication slot.
    ("wal_keep_size", "128MB"),
    ("min_wal_size", "32MB"),
    ("max_wal_size", "256MB"),
    // pg_rewind needs both when an old primary rejoins.
    ("wal_log_hints", "on"),
    ("full_page_writes", "on"),
    ("fsync", "off"),
    // In the data folder, so that it goes with the folder when a server was killed.
    ("dynamic_shared_memory_type", "mmap"),
    ("wal_retrieve_retry_interval", "100ms"),
    ("wal_receiver_timeout", "5s"),
    ("wal_sender_timeout", "5s"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("lc_messages", "C"),
];

/// The file that a server's `postgresql.conf` includes.
pub(super) fn postgresql_conf(
    name: &str,
    port: u16,
    sockets: &str,
    preload: bool,
    extra: &[(String, String)],
) -> String {
    let port = port.to_string();
    let mut own = vec![
        ("cluster_name", name),
        ("port", &port),
        ("unix_socket_directories", sockets),
    ];
    if preload {
        own.push(("shared_preload_libraries", "pg_stat_statements"));
    }
    let extra = extra.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let all = own.into_iter().chain(POSTGRES.iter().copied()).chain(extra);
    all.map(|(key, value)| format!("{key} = '{}'\n", value.replace('\'', "''")))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Server, user_ids};
    use super::*;
    use crate::config::{self, Config};
    use crate::sharding::Key;

    fn shard(number: u16) -> ShardServers {
        let server = |n| Server::unstarted((number, n), 20_000 + number * 3 + n);
        ShardServers {
            number,
            name: format!("shard{number}"),
            servers: (0..3).map(server).collect(),
        }
    }

    fn parse(text: &str) -> Config {
        let env = |_: &str| Some("secret".to_owned());
        let no_file = |_: &Path| Err(std::io::Error::other("no files in this test"));
        config::parse(text, "demo.toml", &env, &no_file).unwrap()
    }

    #[test]
    fn three_shards_have_the_documents_positions_and_ranges() {
        let positions: Vec<_> = (0..3).map(|s| Sharding::position(s, 3)).collect();
        assert_eq!(positions, [250, 500, 750]);
        let starts: Vec<_> = (0..=3)
            .map(|s| Sharding::range_start(s, 3) / MILLION)
            .collect();
        assert_eq!(starts, [0, 33, 66, 100]);
    }

    #[test]
    fn positions_stay_on_the_ring_and_apart() {
        for shards in [1, 2, 7, 100] {
            let positions: Vec<_> = (0..shards).map(|s| Sharding::position(s, shards)).collect();
            assert!(positions.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(positions.iter().all(|p| *p < RING_SIZE));
        }
    }

    #[test]
    fn the_configuration_passes_the_checks_and_names_every_server() {
        let endpoint = Endpoint {
            port: 0,
            http_port: 0,
        };
        for sharding in [Sharding::Modulo, Sharding::Ring, Sharding::Range] {
            for count in [1, 3, 5] {
                let shards: Vec<_> = (0..count).map(shard).collect();
                let text = pgdrover_toml(&shards, sharding, endpoint, "[log]\nlevel = \"warn\"\n");
                let config = parse(&text);
                let database = &config.databases[0];
                let servers: usize = database.shards.iter().map(|s| s.servers.len()).sum();
                assert_eq!(servers, usize::from(count) * 3);
                let function = database.function().unwrap();
                let mut users = vec![0; usize::from(count)];
                for user in user_ids(3000, sharding, count) {
                    users[usize::from(function.shard(&Key::Int(user)).unwrap().0)] += 1;
                }
                // With a ring of count + 1 equal arcs, the first shard owns two of them.
                assert!(
                    users.iter().all(|u| *u > 3000 / (i32::from(count) + 2)),
                    "{users:?}"
                );
            }
        }
    }

    #[test]
    fn the_containers_have_the_same_tables_and_servers() {
        let shards: Vec<_> = (0..3).map(shard).collect();
        let endpoint = Endpoint {
            port: 6432,
            http_port: 9632,
        };
        let own = parse(&pgdrover_toml(&shards, Sharding::Modulo, endpoint, ""));
        let containers = parse(include_str!("../../config/compose/pgdrover.toml"));
        let (own, containers) = (&own.databases[0], &containers.databases[0]);
        assert_eq!(own.tables, containers.tables);
        assert_eq!(own.sharding, containers.sharding);
        let compose = include_str!("../../docker-compose.yml");
        for (ours, theirs) in own.shards.iter().zip(&containers.shards) {
            assert_eq!(ours.name, theirs.name);
            for (number, server) in theirs.servers.iter().enumerate() {
                assert_eq!(server.role, ours.servers[number].role);
                assert!(compose.contains(&format!("    hostname: {}\n", server.host)));
            }
        }
    }

    #[test]
    fn extra_settings_come_last_and_are_quoted() {
        let extra = [("shared_buffers".to_owned(), "o'clock".to_owned())];
        let text = postgresql_conf("shard0-1", 1, "", true, &extra);
        assert!(text.ends_with("shared_buffers = 'o''clock'\n"));
        assert!(text.contains("shared_preload_libraries = 'pg_stat_statements'"));
    }
}
