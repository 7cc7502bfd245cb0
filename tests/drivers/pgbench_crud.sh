#!/bin/sh
# pgbench through pgdrover in each of its modes: a transaction of three statements, a read outside a
# transaction, and a pipeline, by more clients than there are server connections.
#
# Run it inside `pgdrover demo -- tests/drivers/pgbench_crud.sh`: the address comes from the PG...
# variables. Exits with 1 and the first difference, or prints how much was checked.
set -eu

FIRST_USER=2000000
USERS=30
CLIENTS=12
TRANSACTIONS=40
PRIMARY='/* pgdrover: role=primary */'
checked=0
written=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }

equal() {
    if [ "$2" != "$3" ]; then
        printf '%s:\nfound    %s\nexpected %s\n' "$1" "$2" "$3" >&2
        exit 1
    fi
    checked=$((checked + 1))
}

cat >"$work/write.sql" <<SQL
\\set user $FIRST_USER + random(0, $USERS - 1)
BEGIN;
UPDATE notifications SET amount = amount + 1 WHERE user_id = :user AND id = 1;
SELECT amount FROM notifications WHERE user_id = :user AND id = 1;
UPDATE user_preferences SET lang = 'seen' WHERE user_id = :user;
END;
SQL
cat >"$work/read.sql" <<SQL
\\set user $FIRST_USER + random(0, $USERS - 1)
SELECT id, title FROM notifications WHERE user_id = :user ORDER BY id;
SELECT count(*) FROM notifications n JOIN user_preferences p USING (user_id) WHERE user_id = :user;
SQL
cat >"$work/pipeline.sql" <<SQL
\\set user $FIRST_USER + random(0, $USERS - 1)
\\startpipeline
SELECT lang FROM user_preferences WHERE user_id = :user;
SELECT title FROM notifications WHERE user_id = :user;
\\endpipeline
SQL

bench() {
    mode=$1
    shift
    # A thread for each: a client that waits for a server connection must not stop one that has it.
    if ! pgbench -n -M "$mode" -c $CLIENTS -j $CLIENTS -t $TRANSACTIONS "$@" >"$work/out" 2>&1; then
        cat "$work/out" >&2
        echo "pgbench -M $mode $* failed" >&2
        exit 1
    fi
    wanted=$((CLIENTS * TRANSACTIONS))
    equal "pgbench -M $mode" "$(sed -n 's/^number of transactions actually processed: //p' "$work/out")" "$wanted/$wanted"
    equal "failures of pgbench -M $mode" "$(sed -n 's/^number of failed transactions: //p' "$work/out" | cut -d' ' -f1)" 0
    # One script: all are its transactions; several: each is listed with its own.
    case $* in
        *pipeline*) ;;
        *read*) written=$((written + $(awk '/^SQL script 1/ { on = 1 } on && / transactions \(/ { print $2; exit }' "$work/out"))) ;;
        *) written=$((written + wanted)) ;;
    esac
}

for user in $(seq $FIRST_USER $((FIRST_USER + USERS - 1))); do
    printf 'DELETE FROM notifications WHERE user_id = %s;\nDELETE FROM user_preferences WHERE user_id = %s;\n' "$user" "$user"
    printf "INSERT INTO notifications (id, user_id, title, amount) VALUES (1, %s, 'counter', 0);\n" "$user"
    printf "INSERT INTO user_preferences (user_id, lang) VALUES (%s, 'en');\n" "$user"
done | run

for mode in simple extended prepared; do
    bench "$mode" -f "$work/write.sql@2" -f "$work/read.sql@1"
    [ "$mode" = simple ] || bench "$mode" -f "$work/pipeline.sql"
    bench "$mode" -f "$work/write.sql"
done

# The runs of write.sql alone are known; of the mixtures, pgbench tells how often it chose it.
total=$(for user in $(seq $FIRST_USER $((FIRST_USER + USERS - 1))); do
    echo "$PRIMARY SELECT amount FROM notifications WHERE user_id = $user;"
done | run | awk '{ n += $1 } END { print n }')
equal "the counters' sum" "$total" "$written"
echo "$(pgbench --version): $checked checks passed"
