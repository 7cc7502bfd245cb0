#!/bin/sh
# psql through pgdrover: scripts of statements, its own commands, \copy, \gdesc, \bind.
#
# Run it inside `pgdrover demo -- tests/drivers/psql_crud.sh`: psql takes the address from the PG...
# variables. Exits with 1 and the first difference, or prints how much was checked.
set -eu

FIRST_USER=1000000
ROUNDS=2
# A read outside a transaction may go to a replica that has not heard of the last write yet.
PRIMARY='/* pgdrover: role=primary */'
checked=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Reads a script from standard input; prints what psql said.
run() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }

# equal WHAT FOUND EXPECTED
equal() {
    if [ "$2" != "$3" ]; then
        printf '%s:\nfound    %s\nexpected %s\n' "$1" "$2" "$3" >&2
        exit 1
    fi
    checked=$((checked + 1))
}

one_user() {
    user=$1
    shard=$((user % 3))
    equal "crud of $user" "$(run -v user="$user" <<SQL
DELETE FROM notifications WHERE user_id = :user;
DELETE FROM user_preferences WHERE user_id = :user;
DELETE FROM devices WHERE user_id = :user;
INSERT INTO user_preferences (user_id, lang) VALUES (:user, 'en') RETURNING lang;
INSERT INTO notifications (id, user_id, title) VALUES (1, :user, 'it''s one'), (2, :user, 'two');
UPDATE notifications SET title = upper(title) WHERE user_id = :user AND id = 2 RETURNING title;
$PRIMARY SELECT n.title, p.lang FROM notifications n JOIN user_preferences p USING (user_id)
    WHERE n.user_id = :user ORDER BY n.id;
$PRIMARY SELECT current_setting('cluster_name') FROM user_preferences WHERE user_id = :user;
DELETE FROM notifications WHERE user_id = :user AND id = 1;
$PRIMARY SELECT count(*) FROM notifications WHERE user_id = :user;
SQL
)" "en
TWO
it's one|en
TWO|en
shard$shard-1
1"

    equal "transactions of $user" "$(run -v user="$user" <<SQL
BEGIN;
UPDATE user_preferences SET lang = 'de' WHERE user_id = :user;
SAVEPOINT before;
DELETE FROM user_preferences WHERE user_id = :user;
ROLLBACK TO before;
SELECT lang FROM user_preferences WHERE user_id = :user;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
UPDATE user_preferences SET lang = 'fr' WHERE user_id = :user;
SHOW transaction_isolation;
ROLLBACK;
$PRIMARY SELECT lang FROM user_preferences WHERE user_id = :user;
SQL
)" "de
serializable
de"

    # All statements of -c are one message and so one transaction.
    if psql -X -q -c "INSERT INTO devices (user_id, token) VALUES ($user, 'a'); SELECT 1/0 FROM devices WHERE user_id = $user" 2>"$work/error.$user"; then
        equal "1/0" "no error" "an error"
    fi
    equal "error of 1/0" "$(cat "$work/error.$user")" "ERROR:  division by zero"
    equal "a message that failed" "$(run -c "$PRIMARY SELECT count(*) FROM devices WHERE user_id = $user")" 0

    seq 10 14 | sed "s/.*/&	$user	title &/" >"$work/rows.$user"
    # psql keeps a comment behind \copy to itself: COPY by SQL carries the hint.
    run -c "/* pgdrover: shard=$shard */ COPY notifications (id, user_id, title) FROM STDIN" <"$work/rows.$user"
    equal "COPY TO of $user" "$(run -c "$PRIMARY COPY (SELECT id, user_id, title FROM notifications
        WHERE user_id = $user AND id >= 10 ORDER BY id) TO STDOUT")" "$(cat "$work/rows.$user")"
    # Inside a transaction, since a replica may not have the rows yet.
    run -v user="$user" <<SQL
BEGIN;
\\copy (SELECT id, user_id, title FROM notifications WHERE user_id = $user AND id >= 10 ORDER BY id) TO '$work/out.$user'
DELETE FROM notifications WHERE user_id = :user AND id >= 10;
COMMIT;
SQL
    equal "\\copy to of $user" "$(cat "$work/out.$user")" "$(cat "$work/rows.$user")"

    printf 'psql %s,"a, ""quoted"" value"\n' "$user" >"$work/home.$user"
    run -c "\\copy settings from '$work/home.$user' csv"
    equal "a row of a home table" \
        "$(run -c "$PRIMARY SELECT value FROM settings WHERE name = 'psql $user'")" 'a, "quoted" value'
    run -c "DELETE FROM settings WHERE name = 'psql $user'"
}

commands() {
    run -c '\dt' | grep -q 'public|notifications|table|app' || { echo "\\dt: $(run -c '\dt')" >&2; exit 1; }
    run -c '\d notifications' | grep -q '^user_id|bigint|' || { echo "\\d: $(run -c '\d notifications')" >&2; exit 1; }
    for command in '\l' '\du' '\df' '\dn' '\dv' '\di' '\dx' '\dconfig' '\dp' '\d+ devices' '\conninfo' '\encoding'; do
        # These look up catalogs, which each shard has alike.
        run -c "$command" >"$work/out" || { echo "$command failed" >&2; exit 1; }
        checked=$((checked + 1))
    done
    equal "\\gdesc" "$(run <<'SQL'
SELECT user_id, lang FROM user_preferences WHERE user_id = 1 \gdesc
SQL
)" "user_id|bigint
lang|text"
    equal "\\gexec" "$(run <<SQL
SELECT format('SELECT %s FROM countries WHERE code = %L', 'name', code) FROM countries WHERE code IN ('DE', 'FR') ORDER BY code \\gexec
SQL
)" "Germany
France"
    equal "FETCH_COUNT" "$(run <<SQL
\\set FETCH_COUNT 3
SELECT code FROM countries ORDER BY code;
SQL
)" "$(printf 'BR\nDE\nFR\nIN\nJP\nNG\nPL\nUS')"
}

several_users() {
    for _ in $(seq $ROUNDS); do
        for n in 0 1 2; do one_user $(($1 + n)); done
    done
    echo $checked
}

commands
pids=
for worker in 1 2 3; do
    several_users $((FIRST_USER + 10 * worker)) >"$work/checked.$worker" &
    pids="$pids $!"
done
failed=0
for pid in $pids; do wait "$pid" || failed=1; done
[ $failed = 0 ] || exit 1
for worker in 1 2 3; do checked=$((checked + $(cat "$work/checked.$worker"))); done
echo "$(psql --version): $checked checks passed"
