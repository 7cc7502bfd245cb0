"""psycopg 3 through pgdrover: sync and async, every way it has of sending a statement.

Run it inside `pgdrover demo -- python3 tests/drivers/psycopg_crud.py`: libpq takes the address from
the PG... variables. Exits with 1 and the first difference, or prints how much was checked.
"""

import asyncio
import random
import sys
import threading
import traceback
from decimal import Decimal

import psycopg
from psycopg import errors
from psycopg.rows import dict_row

FIRST_USER = 3_000_000
WORKERS = 8
ROUNDS = 5
SHARDS = 3
# A read outside a transaction may go to a replica that has not heard of the last write yet.
PRIMARY = "/* pgdrover: role=primary */ "

checked = 0
pids = [{} for _ in range(SHARDS)]


def equal(found, expected, what):
    """Compares, and stops the worker at the first difference."""
    global checked
    if found != expected:
        raise AssertionError(f"{what}: found {found!r}, expected {expected!r}")
    checked += 1


def fails(error, what, act):
    try:
        act()
    except error:
        return
    raise AssertionError(f"{what}: no {error.__name__}")


def on_own_shard(conn, user, worker):
    """Asks the server itself, together with a row, which one it is."""
    row = conn.execute(
        PRIMARY + "SELECT current_setting('cluster_name'), pg_backend_pid()"
        " FROM user_preferences WHERE user_id = %s",
        (user,),
    ).fetchone()
    equal(row[0], f"shard{user % SHARDS}-1", f"server of user {user}")
    pids[user % SHARDS].setdefault(worker, set()).add(row[1])


def clear(conn, user):
    for table in ("notifications", "user_preferences", "devices"):
        conn.execute(f"DELETE FROM {table} WHERE user_id = %s", (user,))


def crud(conn, user, worker):
    clear(conn, user)
    equal(
        conn.execute("INSERT INTO user_preferences (user_id, lang) VALUES (%s, %s)", (user, "en")).rowcount,
        1,
        "insert of preferences",
    )
    on_own_shard(conn, user, worker)
    with conn.cursor() as cur:
        # psycopg sends the rows of executemany as one pipeline.
        cur.executemany(
            "INSERT INTO notifications (id, user_id, title, amount) VALUES (%s, %s, %s, %s)",
            [(n, user, f"title {n}", Decimal(n) / 4) for n in range(20)],
        )
        equal(cur.rowcount, 20, "rows of executemany")
        cur.executemany(
            "UPDATE notifications SET title = %s WHERE user_id = %s AND id = %s RETURNING id, title",
            [(f"new {n}", user, n) for n in range(3)],
            returning=True,
        )
        returned = []
        while True:
            returned += cur.fetchall()
            if not cur.nextset():
                break
        equal(returned, [(n, f"new {n}") for n in range(3)], "RETURNING of executemany")
    rows = conn.execute(
        PRIMARY + "SELECT id, title, amount FROM notifications WHERE user_id = %s ORDER BY id", (user,)
    ).fetchall()
    titles = [f"new {n}" if n < 3 else f"title {n}" for n in range(20)]
    equal(rows, [(n, titles[n], Decimal(n) / 4) for n in range(20)], "rows read back")
    deleted = conn.execute("DELETE FROM notifications WHERE user_id = %s AND id >= 10 RETURNING id", (user,))
    equal(sorted(deleted.fetchall()), [(n,) for n in range(10, 20)], "rows deleted")
    cur = conn.cursor(row_factory=dict_row)
    cur.execute(PRIMARY + "SELECT count(*) AS n, sum(id) AS s FROM notifications WHERE user_id = %s", (user,))
    equal(cur.fetchone(), {"n": 10, "s": Decimal(45)}, "what is left")


def transactions(conn, user):
    with conn.transaction():
        conn.execute("INSERT INTO devices (user_id, token) VALUES (%s, 'kept')", (user,))
        try:
            with conn.transaction():
                conn.execute("INSERT INTO devices (user_id, token) VALUES (%s, 'undone')", (user,))
                conn.execute("INSERT INTO devices (user_id, token) VALUES (%s, 'kept')", (user,))
        except errors.UniqueViolation:
            pass
        inside = conn.execute("SELECT token FROM devices WHERE user_id = %s", (user,)).fetchall()
        equal(inside, [("kept",)], "after a savepoint was rolled back")
    try:
        with conn.transaction():
            conn.execute("DELETE FROM devices WHERE user_id = %s", (user,))
            raise RuntimeError("changed my mind")
    except RuntimeError:
        pass
    after = conn.execute(PRIMARY + "SELECT token FROM devices WHERE user_id = %s", (user,)).fetchall()
    equal(after, [("kept",)], "after ROLLBACK")

    conn.autocommit = False
    try:
        conn.execute("UPDATE user_preferences SET lang = 'de' WHERE user_id = %s", (user,))
        fails(errors.DivisionByZero, "1/0", lambda: conn.execute("SELECT 1/0"))
        fails(
            errors.InFailedSqlTransaction,
            "a statement in a failed transaction",
            lambda: conn.execute("SELECT lang FROM user_preferences WHERE user_id = %s", (user,)),
        )
        conn.rollback()
        lang = conn.execute("SELECT lang FROM user_preferences WHERE user_id = %s", (user,)).fetchone()
        equal(lang, ("en",), "after a failed transaction")
        conn.rollback()
        conn.execute("UPDATE user_preferences SET lang = 'fr' WHERE user_id = %s", (user,))
        fails(
            errors.FeatureNotSupported,
            "a second shard in one transaction",
            lambda: conn.execute("SELECT lang FROM user_preferences WHERE user_id = %s", (user + 1,)),
        )
        conn.rollback()
        conn.read_only = True
        fails(
            errors.ReadOnlySqlTransaction,
            "a write in a read-only transaction",
            lambda: conn.execute("DELETE FROM devices WHERE user_id = %s", (user,)),
        )
        conn.rollback()
        conn.read_only = None
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        first = conn.execute(
            "SELECT count(*), current_setting('transaction_isolation') FROM devices WHERE user_id = %s",
            (user,),
        ).fetchone()
        equal(first, (1, "repeatable read"), "isolation")
        conn.commit()
        conn.isolation_level = None
    finally:
        conn.rollback()
        conn.autocommit = True


def prepared(conn, users):
    """Named statements, on all shards in turn."""
    sql = PRIMARY + "SELECT user_id, lang FROM user_preferences WHERE user_id = %s"
    for threshold in (0, 2, None):
        conn.prepare_threshold = threshold
        for turn in range(9):
            user = users[turn % len(users)]
            equal(conn.execute(sql, (user,)).fetchone(), (user, "en"), f"threshold {threshold}")
            row = conn.execute(sql, (user,), binary=True).fetchone()
            equal(row, (user, "en"), f"binary, threshold {threshold}")
    conn.prepare_threshold = 0
    with conn.transaction():
        conn.execute("UPDATE user_preferences SET email_enabled = NOT email_enabled WHERE user_id = %s", (users[0],))
        conn.execute("UPDATE user_preferences SET email_enabled = NOT email_enabled WHERE user_id = %s", (users[0],))
    conn.prepare_threshold = 5


def client_side(conn, user):
    """ClientCursor puts the values into the text and uses the simple protocol."""
    cur = psycopg.ClientCursor(conn)
    title = "it's 100 % \\ \"quoted\" $1 ; é"
    cur.execute(
        "INSERT INTO notifications (id, user_id, title) VALUES (%s, %s, %s) RETURNING title", (900, user, title)
    )
    equal(cur.fetchone(), (title,), "a title with every quote")
    cur.execute(PRIMARY + "SELECT title FROM notifications WHERE user_id = %s AND id = %s", (user, 900))
    equal(cur.fetchone(), (title,), "the title read back")
    cur.execute("DELETE FROM notifications WHERE user_id = %s AND title = %s", (user, title))
    equal(cur.rowcount, 1, "deleted by its title")


def pipeline(conn, users):
    user = users[0]
    with conn.pipeline() as p:
        cursors = [
            conn.execute(
                "INSERT INTO notifications (id, user_id, title) VALUES (%s, %s, %s) RETURNING id",
                (500 + n, user, "pipelined"),
            )
            for n in range(10)
        ]
        p.sync()
        equal([c.fetchone()[0] for c in cursors], list(range(500, 510)), "pipelined inserts")
        reads = []
        for other in users:
            reads.append(conn.execute(PRIMARY + "SELECT lang FROM user_preferences WHERE user_id = %s", (other,)))
            p.sync()
        equal([c.fetchone() for c in reads], [("en",)] * len(users), "pipelined reads of three shards")
    with conn.pipeline(), conn.transaction():
        conn.execute("DELETE FROM notifications WHERE user_id = %s AND title = 'pipelined'", (user,))
        left = conn.execute("SELECT count(*) FROM notifications WHERE user_id = %s AND id >= 500", (user,))
        equal(left.fetchone(), (0,), "a transaction in a pipeline")

    def broken():
        with conn.pipeline():
            conn.execute("INSERT INTO devices (user_id, token) VALUES (%s, 'piped')", (user,))
            conn.execute("INSERT INTO devices (user_id, token) VALUES (%s, NULL)", (user,))
            conn.execute("INSERT INTO devices (user_id, token) VALUES (%s, 'behind')", (user,))

    fails(errors.NotNullViolation, "an error in a pipeline", broken)
    after = conn.execute(PRIMARY + "SELECT token FROM devices WHERE user_id = %s", (user,)).fetchall()
    equal(after, [("kept",)], "a failed pipeline leaves nothing")


def copy(conn, user, worker):
    shard = user % SHARDS
    with conn.cursor() as cur:
        # Where COPY's rows belong is told by a hint.
        with cur.copy(f"/* pgdrover: shard={shard} */ COPY notifications (id, user_id, title) FROM STDIN") as c:
            for n in range(1000, 1500):
                c.write_row((n, user, f"copied\t{n}\n"))
        equal(cur.rowcount, 500, "rows copied in")
        query = f"COPY (SELECT id, title FROM notifications WHERE user_id = {user} AND id >= 1000 ORDER BY id) TO STDOUT"
        with cur.copy(PRIMARY + query) as c:
            c.set_types(["int8", "text"])
            rows = list(c.rows())
        equal(rows, [(n, f"copied\t{n}\n") for n in range(1000, 1500)], "rows copied out")
        with conn.transaction(), cur.copy(query + " (FORMAT binary)") as c:
            c.set_types(["int8", "text"])
            equal(len(list(c.rows())), 500, "rows copied out in binary")

        def given_up():
            with cur.copy(f"/* pgdrover: shard={shard} */ COPY devices (user_id, token) FROM STDIN") as c:
                c.write_row((user, "half"))
                raise ZeroDivisionError

        fails(ZeroDivisionError, "a COPY given up", given_up)
        equal(
            conn.execute(PRIMARY + "SELECT count(*) FROM devices WHERE user_id = %s", (user,)).fetchone(),
            (1,),
            "a COPY given up leaves nothing",
        )
        name = f"psycopg {worker}"
        conn.execute("DELETE FROM settings WHERE name = %s", (name,))
        with cur.copy("COPY settings FROM STDIN (FORMAT binary)") as c:
            c.set_types(["text", "text"])
            c.write_row((name, "home"))
        equal(
            conn.execute(PRIMARY + "SELECT value FROM settings WHERE name = %s", (name,)).fetchone(),
            ("home",),
            "a row copied into a home table",
        )
        conn.execute("DELETE FROM settings WHERE name = %s", (name,))
        with cur.copy("COPY countries TO STDOUT") as c:
            equal(len(list(c.rows())), 8, "a reference table copied out")
    conn.execute("DELETE FROM notifications WHERE user_id = %s AND id >= 1000", (user,))


def cursors(conn, user):
    with conn.transaction():
        values = ", ".join(f"(%(user)s, 'c{n}')" for n in range(1, 101))
        conn.execute(f"INSERT INTO devices (user_id, token) VALUES {values}", {"user": user})
        with conn.cursor(name="walk", scrollable=True) as cur:
            cur.itersize = 17
            cur.execute("SELECT token FROM devices WHERE user_id = %s AND token LIKE 'c%%' ORDER BY length(token), token", (user,))
            equal([r[0] for r in cur], [f"c{n}" for n in range(1, 101)], "a server-side cursor")
            cur.scroll(0, mode="absolute")
            equal(cur.fetchmany(2), [("c1",), ("c2",)], "a cursor scrolled back")
        conn.execute("DELETE FROM devices WHERE user_id = %s AND token LIKE 'c%%'", (user,))


def sync_worker(worker):
    users = [FIRST_USER + worker * 10 + n for n in range(SHARDS)]
    with psycopg.connect(autocommit=True, application_name=f"psycopg {worker}") as conn:
        for round in range(ROUNDS):
            for user in users:
                crud(conn, user, worker)
                transactions(conn, user)
                client_side(conn, user)
            prepared(conn, users)
            pipeline(conn, users)
            random.Random(worker * 100 + round).shuffle(users)
            copy(conn, users[0], worker)
            cursors(conn, users[1])
        conn.cancel()
        equal(conn.execute("SELECT 1").fetchone(), (1,), "after a cancel that came late")


async def async_worker(worker):
    user = FIRST_USER + 1000 + worker
    conn = await psycopg.AsyncConnection.connect(autocommit=True, prepare_threshold=worker % 3)
    async with conn:
        for round in range(ROUNDS):
            for table in ("notifications", "user_preferences", "devices"):
                await conn.execute(f"DELETE FROM {table} WHERE user_id = %s", (user,))
            async with conn.transaction():
                for n in range(10):
                    await conn.execute(
                        "INSERT INTO notifications (id, user_id, title) VALUES (%s, %s, %s)", (n, user, f"async {n}")
                    )
                cur = await conn.execute("SELECT count(*) FROM notifications WHERE user_id = %s", (user,))
                equal(await cur.fetchone(), (10,), "async, inside the transaction")
            async with conn.pipeline():
                cursors = [
                    await conn.execute(
                        PRIMARY + "SELECT title FROM notifications WHERE user_id = %s AND id = %s", (user, n)
                    )
                    for n in range(10)
                ]
                titles = [(await c.fetchone())[0] for c in cursors]
            equal(titles, [f"async {n}" for n in range(10)], "async pipeline")
            cur = conn.cursor()
            async with cur.copy(
                f"/* pgdrover: shard={user % SHARDS} */ COPY devices (user_id, token) FROM STDIN"
            ) as c:
                for n in range(50):
                    await c.write_row((user, f"async {n}"))
            async with cur.copy(
                PRIMARY + f"COPY (SELECT token FROM devices WHERE user_id = {user}) TO STDOUT"
            ) as c:
                equal(len([r async for r in c.rows()]), 50, f"async COPY, round {round}")


def run(work, *arguments):
    try:
        work(*arguments)
    except BaseException:
        failures.append(traceback.format_exc())


failures = []


def main():
    threads = [threading.Thread(target=run, args=(sync_worker, n)) for n in range(WORKERS)]
    for thread in threads:
        thread.start()

    async def all_async():
        await asyncio.gather(*(async_worker(n) for n in range(WORKERS)))

    run(asyncio.run, all_async())
    for thread in threads:
        thread.join()
    if failures:
        print(failures[0], file=sys.stderr)
        sys.exit(1)
    # Each worker has met several server connections of a shard, or nothing changed hands.
    for shard, by_worker in enumerate(pids):
        if not any(len(seen) > 1 for seen in by_worker.values()):
            sys.exit(f"shard {shard}: no server connection changed hands: {by_worker}")
    print(f"psycopg {psycopg.__version__}: {checked} checks passed")


main()
