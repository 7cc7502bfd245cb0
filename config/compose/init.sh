#!/bin/sh
# Run once by the image on each primary, as the superuser, in the new database.
set -eu

psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set app_password="$APP_PASSWORD" --set replication_password="$REPLICATION_PASSWORD" <<'SQL'
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'replication_password';
CREATE ROLE app LOGIN PASSWORD :'app_password';
GRANT pg_monitor TO app;
ALTER DATABASE :"DBNAME" OWNER TO app;
SET ROLE app;
\i /demo/schema.sql
\getenv home HOME_SHARD
\if :home
\i /demo/home.sql
\endif
SQL

echo 'host replication replicator samenet scram-sha-256' >>"$PGDATA/pg_hba.conf"
