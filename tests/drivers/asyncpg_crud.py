"""asyncpg through pgdrover: it prepares nearly everything, speaks binary, and has a pool.

Run it inside `pgdrover demo -- python3 tests/drivers/asyncpg_crud.py`: the address comes from the
PG... variables. Exits with 1 and the first difference, or prints how much was checked.
"""

import asyncio
import sys
from decimal import Decimal

import asyncpg

FIRST_USER = 4_000_000
WORKERS = 8
ROUNDS = 5
SHARDS = 3
# A read outside a transaction may go to a replica that has not heard of the last write yet.
PRIMARY = "/* pgdrover: role=primary */ "

checked = 0
pids = [{} for _ in range(SHARDS)]


def equal(found, expected, what):
    """Compares, and stops at the first difference."""
    global checked
    if found != expected:
        raise AssertionError(f"{what}: found {found!r}, expected {expected!r}")
    checked += 1


async def fails(error, what, act):
    try:
        await act
    except error:
        return
    raise AssertionError(f"{what}: no {error.__name__}")


async def on_own_shard(conn, user, worker):
    row = await conn.fetchrow(
        PRIMARY + "SELECT current_setting('cluster_name'), pg_backend_pid()"
        " FROM user_preferences WHERE user_id = $1",
        user,
    )
    equal(row[0], f"shard{user % SHARDS}-1", f"server of user {user}")
    pids[user % SHARDS].setdefault(worker, set()).add(row[1])


async def crud(conn, user, worker):
    for table in ("notifications", "user_preferences", "devices"):
        await conn.execute(f"DELETE FROM {table} WHERE user_id = $1", user)
    tag = await conn.execute("INSERT INTO user_preferences (user_id, lang) VALUES ($1, $2)", user, "en")
    equal(tag, "INSERT 0 1", "tag of an insert")
    await on_own_shard(conn, user, worker)
    await conn.executemany(
        "INSERT INTO notifications (id, user_id, title, amount) VALUES ($1, $2, $3, $4)",
        [(n, user, f"title {n}", Decimal(n)) for n in range(20)],
    )
    tag = await conn.execute("UPDATE notifications SET amount = amount / 4 WHERE user_id = $1", user)
    equal(tag, "UPDATE 20", "tag of an update")
    rows = await conn.fetch(PRIMARY + "SELECT id, title, amount FROM notifications WHERE user_id = $1 ORDER BY id", user)
    equal([tuple(r) for r in rows], [(n, f"title {n}", Decimal(n) / 4) for n in range(20)], "rows read back")
    # Without arguments asyncpg uses the simple protocol.
    tag = await conn.execute(f"DELETE FROM notifications WHERE user_id = {user} AND id >= 10")
    equal(tag, "DELETE 10", "tag of a delete")
    ids = await conn.fetchval(
        PRIMARY + "SELECT array_agg(id ORDER BY id) FROM notifications WHERE user_id = $1 AND id = ANY($2)", user, [1, 5, 15]
    )
    equal(ids, [1, 5], "an array in and out")


async def transactions(conn, user):
    async with conn.transaction():
        await conn.execute("INSERT INTO devices (user_id, token) VALUES ($1, 'kept')", user)
        try:
            async with conn.transaction():
                await conn.execute("INSERT INTO devices (user_id, token) VALUES ($1, 'undone')", user)
                await conn.execute("INSERT INTO devices (user_id, token) VALUES ($1, 'kept')", user)
        except asyncpg.UniqueViolationError:
            pass
        equal(
            [r[0] for r in await conn.fetch("SELECT token FROM devices WHERE user_id = $1", user)],
            ["kept"],
            "after a savepoint was rolled back",
        )
        # asyncpg's cursors are portals that Execute with a row limit walks through.
        walked = [r[0] async for r in conn.cursor("SELECT id FROM notifications WHERE user_id = $1 ORDER BY id", user, prefetch=3)]
        equal(walked, list(range(10)), "a cursor")
        cursor = await conn.cursor("SELECT id FROM notifications WHERE user_id = $1 ORDER BY id", user)
        await cursor.forward(4)
        equal([r[0] for r in await cursor.fetch(3)], [4, 5, 6], "a cursor moved on")
    undone = conn.transaction(isolation="repeatable_read")
    await undone.start()
    await conn.execute("DELETE FROM devices WHERE user_id = $1", user)
    equal(await conn.fetchval("SHOW transaction_isolation"), "repeatable read", "isolation")
    await undone.rollback()
    equal(
        await conn.fetchval(PRIMARY + "SELECT count(*) FROM devices WHERE user_id = $1", user), 1, "after a rollback"
    )

    async def failed():
        async with conn.transaction():
            await fails(asyncpg.DivisionByZeroError, "1/0", conn.fetchval("SELECT 1/0"))
            await conn.fetchval("SELECT lang FROM user_preferences WHERE user_id = $1", user)

    await fails(asyncpg.InFailedSQLTransactionError, "a statement in a failed transaction", failed())

    async def two_shards():
        async with conn.transaction():
            await conn.execute("UPDATE user_preferences SET lang = 'de' WHERE user_id = $1", user)
            await conn.execute("UPDATE user_preferences SET lang = 'de' WHERE user_id = $1", user + 1)

    await fails(asyncpg.FeatureNotSupportedError, "a second shard in one transaction", two_shards())
    async with conn.transaction(readonly=True):
        equal(
            await conn.fetchval("SELECT current_setting('transaction_read_only')"), "on", "a read-only transaction"
        )


async def prepared(conn, users):
    """One prepared statement, run on all shards in turn."""
    statement = await conn.prepare(PRIMARY + "SELECT user_id, lang FROM user_preferences WHERE user_id = $1")
    equal([p.name for p in statement.get_parameters()], ["int8"], "types of the parameters")
    equal([(a.name, a.type.name) for a in statement.get_attributes()], [("user_id", "int8"), ("lang", "text")], "columns")
    for turn in range(9):
        user = users[turn % len(users)]
        equal(tuple(await statement.fetchrow(user)), (user, "en"), "a prepared statement")
    # The same text under another name.
    again = await conn.prepare(PRIMARY + "SELECT user_id, lang FROM user_preferences WHERE user_id = $1")
    equal(await again.fetchval(users[0]), users[0], "the same text prepared twice")


async def copy(conn, user, worker):
    name = f"asyncpg {worker} "
    await conn.execute("DELETE FROM settings WHERE name LIKE $1", name + "%")
    records = [(f"{name}{n}", "x" * n) for n in range(300)]
    # asyncpg writes this COPY itself, so that no hint fits in: a home table needs none.
    tag = await conn.copy_records_to_table("settings", records=records, columns=["name", "value"])
    equal(tag, "COPY 300", "tag of COPY FROM")
    found = await conn.fetchval(PRIMARY + "SELECT sum(length(value)) FROM settings WHERE name LIKE $1", name + "%")
    equal(found, sum(range(300)), "what was copied")
    await conn.execute("DELETE FROM settings WHERE name LIKE $1", name + "%")
    out = bytearray()

    async def collect(data):
        out.extend(data)

    tag = await conn.copy_from_query(
        PRIMARY + "SELECT id FROM notifications WHERE user_id = $1 ORDER BY id", user, output=collect, format="csv"
    )
    equal(tag, "COPY 10", "tag of COPY TO")
    equal(out.decode().split(), [str(n) for n in range(10)], "rows copied out")
    await fails(
        asyncpg.FeatureNotSupportedError,
        "COPY into a sharded table without a hint",
        conn.copy_records_to_table("devices", records=[(user, "x")], columns=["user_id", "token"]),
    )


async def worker_loop(worker, connect):
    users = [FIRST_USER + worker * 10 + n for n in range(SHARDS)]
    for _ in range(ROUNDS):
        async with connect() as conn:
            for user in users:
                await crud(conn, user, worker)
                await transactions(conn, user)
                await copy(conn, user, worker)
            await prepared(conn, users)


class Single:
    """A connection of its own for each round: login and goodbye."""

    async def __aenter__(self):
        self.conn = await asyncpg.connect()
        return self.conn

    async def __aexit__(self, *_):
        await self.conn.close()


async def main():
    # Fewer connections than workers: each return to the pool runs its reset query.
    pool = await asyncpg.create_pool(min_size=2, max_size=3)
    async with pool:
        connects = [pool.acquire if n % 2 else Single for n in range(WORKERS)]
        await asyncio.gather(*(worker_loop(n, connects[n]) for n in range(WORKERS)))
    for shard, by_worker in enumerate(pids):
        if not any(len(seen) > 1 for seen in by_worker.values()):
            sys.exit(f"shard {shard}: no server connection changed hands: {by_worker}")
    print(f"asyncpg {asyncpg.__version__}: {checked} checks passed")


asyncio.run(main())
