//! What to try, once the demo runs.

use super::{Args, DATABASE, PASSWORD, Ready, ShardingName, USER, USERS};

/// The text that the demo prints when it is ready.
pub(super) fn text(ready: &Ready, args: &Args) -> String {
    let port = ready.endpoint.port;
    let http = ready.endpoint.http_port;
    let primary = ready.cluster.shards[0].primary();
    let superuser = &ready.cluster.superuser;
    let password = &ready.cluster.superuser_password;
    let shards = counted(args.shards, "shard");
    let replicas = counted(args.replicas, "replica");
    let spread = match args.sharding {
        ShardingName::Modulo => "by user_id modulo the number of shards",
        ShardingName::Ring => "by the ring position of user_id",
        ShardingName::Range => "by ranges of user_id",
    };
    let data = match args.no_data {
        true => "The sharded tables are empty.".into(),
        false => format!("{USERS} users have 10 notifications each."),
    };
    format!(
        "
pgdrover is ready: {shards}, each one primary and {replicas}; rows are spread
{spread}. {data}

  psql \"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/{DATABASE}\"

Try in psql:

  SELECT count(*) FROM notifications WHERE user_id = 100;
  EXPLAIN (ROUTE) SELECT title FROM notifications WHERE user_id = 100;
  UPDATE user_preferences SET lang = 'fr' WHERE user_id = 100;
  SELECT n.title, c.name FROM notifications n JOIN countries c ON c.code = n.country
    WHERE n.user_id = 100;
  SELECT count(*) FROM notifications;      -- concerns every shard

Beside it:

  curl http://127.0.0.1:{http}/metrics
  pgdrover ring -c {config}
  psql \"postgresql://{superuser}:{password}@{host}:{direct}/{DATABASE}\"
                                           # straight to the primary of {shard}
  cat {cluster}     # every server

Ctrl-C stops everything{kept}.",
        config = ready.config_file.display(),
        cluster = ready.cluster_file.display(),
        host = primary.host,
        direct = primary.port,
        shard = ready.cluster.shards[0].name,
        kept = if args.keep { "" } else { " and removes it" },
    )
}

fn counted(number: u16, noun: &str) -> String {
    match number {
        0 => format!("no {noun}"),
        1 => format!("1 {noun}"),
        many => format!("{many} {noun}s"),
    }
}
