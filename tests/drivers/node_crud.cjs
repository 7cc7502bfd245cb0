// node-postgres through pgdrover: simple queries, parameters, named statements, its pool, cursors
// of its own making, and COPY by the protocol's messages.
//
// Run it inside `pgdrover demo -- node tests/drivers/node_crud.cjs` with NODE_PATH naming a folder
// that has `pg`: the address comes from the PG... variables. Exits with 1 and the first difference,
// or prints how much was checked.
"use strict";
const assert = require("node:assert/strict");
const pg = require("pg");

const FIRST_USER = 5_000_000;
const WORKERS = 8;
const ROUNDS = 5;
const SHARDS = 3;
// A read outside a transaction may go to a replica that has not heard of the last write yet.
const PRIMARY = "/* pgdrover: role=primary */ ";

let checked = 0;
const pids = Array.from({ length: SHARDS }, () => new Map());

function equal(found, expected, what) {
  assert.deepEqual(found, expected, `${what}: found ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`);
  checked++;
}

async function fails(code, what, promise) {
  const error = await promise.then(() => null, (e) => e);
  assert.ok(error, `${what}: no error`);
  assert.equal(error.code, code, `${what}: ${error.message}`);
  checked++;
}

async function onOwnShard(client, user, worker) {
  const sql = PRIMARY + "SELECT current_setting('cluster_name') AS name, pg_backend_pid() AS pid FROM user_preferences WHERE user_id = $1";
  const { rows } = await client.query(sql, [user]);
  equal(rows[0].name, `shard${user % SHARDS}-1`, `server of user ${user}`);
  const mine = pids[user % SHARDS];
  mine.set(worker, (mine.get(worker) ?? new Set()).add(rows[0].pid));
}

async function crud(client, user, worker) {
  for (const table of ["notifications", "user_preferences", "devices"]) {
    await client.query(`DELETE FROM ${table} WHERE user_id = $1`, [user]);
  }
  equal((await client.query("INSERT INTO user_preferences (user_id, lang) VALUES ($1, $2)", [user, "en"])).rowCount, 1, "insert");
  await onOwnShard(client, user, worker);
  for (let n = 0; n < 5; n++) {
    await client.query("INSERT INTO notifications (id, user_id, title, amount) VALUES ($1, $2, $3, $4)", [n, user, `title ${n}`, n / 4]);
  }
  // Without parameters: the simple protocol.
  await client.query(`UPDATE notifications SET title = 'it''s new' WHERE user_id = ${user} AND id = 0`);
  const { rows, fields } = await client.query(
    PRIMARY + "SELECT id::int, title, amount::float FROM notifications WHERE user_id = $1 ORDER BY id", [user]);
  equal(fields.map((f) => f.name), ["id", "title", "amount"], "columns");
  equal(rows, [0, 1, 2, 3, 4].map((n) => ({ id: n, title: n ? `title ${n}` : "it's new", amount: n / 4 })), "rows read back");
  const several = await client.query(
    `${PRIMARY} SELECT 1 AS a; SELECT count(*)::int AS b FROM notifications WHERE user_id = ${user}`);
  equal(several.map((r) => r.rows[0]), [{ a: 1 }, { b: 5 }], "two statements in one message");
  const deleted = await client.query("DELETE FROM notifications WHERE user_id = $1 AND id = ANY($2) RETURNING id::int", [user, [3, 4, 9]]);
  equal(deleted.rows.map((r) => r.id).sort(), [3, 4], "rows deleted");
}

async function transactions(client, user) {
  await client.query("BEGIN");
  await client.query("INSERT INTO devices (user_id, token) VALUES ($1, 'kept')", [user]);
  await client.query("SAVEPOINT s");
  await fails("23505", "a second row like it", client.query("INSERT INTO devices (user_id, token) VALUES ($1, 'kept')", [user]));
  await fails("25P02", "a statement in a failed transaction", client.query("SELECT 1"));
  await client.query("ROLLBACK TO SAVEPOINT s");
  equal((await client.query("SELECT token FROM devices WHERE user_id = $1", [user])).rows, [{ token: "kept" }], "after the savepoint");
  await client.query("COMMIT");
  await client.query("BEGIN");
  await client.query("DELETE FROM devices WHERE user_id = $1", [user]);
  await client.query("ROLLBACK");
  equal((await client.query(PRIMARY + "SELECT token FROM devices WHERE user_id = $1", [user])).rows, [{ token: "kept" }], "after ROLLBACK");
  await client.query("BEGIN");
  await client.query("UPDATE user_preferences SET lang = 'de' WHERE user_id = $1", [user]);
  await fails("0A000", "a second shard", client.query("SELECT lang FROM user_preferences WHERE user_id = $1", [user + 1]));
  equal((await client.query("COMMIT")).command, "ROLLBACK", "COMMIT of a failed transaction");
  equal((await client.query(PRIMARY + "SELECT lang FROM user_preferences WHERE user_id = $1", [user])).rows, [{ lang: "en" }], "nothing was committed");
}

async function named(client, users) {
  for (let turn = 0; turn < 9; turn++) {
    const user = users[turn % users.length];
    const { rows } = await client.query({
      name: "preferences of a user",
      text: PRIMARY + "SELECT user_id::int, lang FROM user_preferences WHERE user_id = $1",
      values: [user],
    });
    equal(rows, [{ user_id: user, lang: "en" }], "a named statement");
    const array = await client.query({ name: "rows as arrays", text: PRIMARY + "SELECT lang FROM user_preferences WHERE user_id = $1", values: [user], rowMode: "array" });
    equal(array.rows, [["en"]], "rows as arrays");
  }
  await fails("22P02", "a parameter of the wrong type", client.query({
    name: "preferences of a user", text: PRIMARY + "SELECT user_id::int, lang FROM user_preferences WHERE user_id = $1", values: ["x"],
  }));
}

// COPY, by the messages of the protocol that node-postgres knows: what pg-copy-streams does.
class Copy {
  constructor(text, input) {
    this.text = text;
    this.input = input;
    this.output = "";
    this.done = new Promise((resolve, reject) => { this.resolve = resolve; this.reject = reject; });
  }
  submit(connection) { this.connection = connection; connection.query(this.text); }
  handleCopyInResponse(connection) {
    connection.sendCopyFromChunk(Buffer.from(this.input));
    connection.endCopyFrom();
  }
  handleCopyData(message) { this.output += message.chunk.toString(); }
  handleCommandComplete(message) { this.tag = message.text; }
  handleError(error) { this.failed = error; this.reject(error); }
  handleReadyForQuery() { if (!this.failed) this.resolve(this); }
  handleRowDescription() {}
}

async function copy(client, user) {
  const rows = Array.from({ length: 200 }, (_, n) => `${1000 + n}\t${user}\ttitle ${n}\n`).join("");
  const into = new Copy(`/* pgdrover: shard=${user % SHARDS} */ COPY notifications (id, user_id, title) FROM STDIN`, rows);
  client.query(into);
  equal((await into.done).tag, "COPY 200", "COPY FROM");
  const out = new Copy(`${PRIMARY} COPY (SELECT id, user_id, title FROM notifications WHERE user_id = ${user} AND id >= 1000 ORDER BY id) TO STDOUT`);
  client.query(out);
  equal((await out.done).output, rows, "COPY TO");
  const bad = new Copy(`/* pgdrover: shard=${user % SHARDS} */ COPY notifications (id, user_id, title) FROM STDIN`, "not a number\n");
  client.query(bad);
  await fails("22P02", "COPY of nonsense", bad.done);
  await client.query("DELETE FROM notifications WHERE user_id = $1 AND id >= 1000", [user]);
}

async function worker(number, pool) {
  const users = Array.from({ length: SHARDS }, (_, n) => FIRST_USER + number * 10 + n);
  for (let round = 0; round < ROUNDS; round++) {
    // Every other worker has a connection of its own for each round.
    const client = number % 2 ? await pool.connect() : new pg.Client();
    if (number % 2 === 0) await client.connect();
    for (const user of users) {
      await crud(client, user, number);
      await transactions(client, user);
    }
    await named(client, users);
    await copy(client, users[round % users.length]);
    if (number % 2) client.release();
    else await client.end();
  }
}

async function main() {
  const pool = new pg.Pool({ max: 3 });
  await Promise.all(Array.from({ length: WORKERS }, (_, n) => worker(n, pool)));
  await pool.end();
  pids.forEach((byWorker, shard) => {
    assert.ok([...byWorker.values()].some((seen) => seen.size > 1), `shard ${shard}: no server connection changed hands`);
  });
  console.log(`node-postgres ${require("pg/package.json").version}: ${checked} checks passed`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
