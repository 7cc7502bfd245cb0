#!/bin/sh
# Entry point of every PostgreSQL container. With PRIMARY set: copy that server once, then follow
# it. Without: a primary, which the image initialises with init.sh.
set -eu

if [ -n "${PRIMARY:-}" ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    install -d -o postgres -g postgres -m 0700 "$PGDATA"
    # -R writes the connection string, password included, for the walreceiver.
    gosu postgres pg_basebackup --pgdata="$PGDATA" --checkpoint=fast --wal-method=stream -R \
        --dbname="host=$PRIMARY user=replicator password=$REPLICATION_PASSWORD"
fi

# cluster_name is also the name under which a replica stands in pg_stat_replication.
exec docker-entrypoint.sh postgres \
    -c cluster_name="$(hostname)" \
    -c max_connections=200 \
    -c max_prepared_transactions=50 \
    -c hot_standby_feedback=on \
    -c wal_keep_size=128MB \
    -c wal_log_hints=on
