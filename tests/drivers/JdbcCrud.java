// JDBC through pgdrover: autocommit on and off, batches, server-side prepared statements from the
// first execution, results fetched in portions, CopyManager.
//
// Run it inside `pgdrover demo -- java -cp /usr/share/java/postgresql.jar tests/drivers/JdbcCrud.java`:
// the address comes from the PG... variables. Exits with 1 and the first difference, or prints how
// much was checked.

import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicInteger;
import org.postgresql.PGConnection;

public class JdbcCrud {
    static final long FIRST_USER = 6_000_000;
    static final int WORKERS = 6;
    static final int ROUNDS = 4;
    static final int SHARDS = 3;
    // A read outside a transaction may go to a replica that has not heard of the last write yet.
    static final String PRIMARY = "/* pgdrover: role=primary */ ";

    static final AtomicInteger checked = new AtomicInteger();
    static final Map<String, Set<Integer>> pids = new ConcurrentHashMap<>();

    static void equal(Object found, Object expected, String what) {
        if (!Objects.equals(found, expected)) {
            throw new AssertionError(what + ": found " + found + ", expected " + expected);
        }
        checked.incrementAndGet();
    }

    interface Act {
        void run() throws Exception;
    }

    static void fails(String state, String what, Act act) throws Exception {
        try {
            act.run();
        } catch (SQLException e) {
            equal(e.getSQLState(), state, what + ": " + e.getMessage());
            return;
        }
        throw new AssertionError(what + ": no error");
    }

    static Connection connect(String options) throws SQLException {
        Properties login = new Properties();
        login.setProperty("user", System.getenv("PGUSER"));
        login.setProperty("password", System.getenv("PGPASSWORD"));
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/"
            + System.getenv("PGDATABASE") + options;
        return DriverManager.getConnection(url, login);
    }

    static int update(Connection c, String sql, Object... values) throws SQLException {
        try (PreparedStatement s = c.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) s.setObject(i + 1, values[i]);
            return s.executeUpdate();
        }
    }

    static List<List<Object>> query(Connection c, String sql, Object... values) throws SQLException {
        try (PreparedStatement s = c.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) s.setObject(i + 1, values[i]);
            try (ResultSet r = s.executeQuery()) {
                return rows(r);
            }
        }
    }

    static List<List<Object>> rows(ResultSet r) throws SQLException {
        List<List<Object>> all = new ArrayList<>();
        while (r.next()) {
            List<Object> row = new ArrayList<>();
            for (int i = 1; i <= r.getMetaData().getColumnCount(); i++) row.add(r.getObject(i));
            all.add(row);
        }
        return all;
    }

    static void crud(Connection c, long user, int worker) throws Exception {
        for (String table : List.of("notifications", "user_preferences", "devices")) {
            update(c, "DELETE FROM " + table + " WHERE user_id = ?", user);
        }
        equal(update(c, "INSERT INTO user_preferences (user_id, lang) VALUES (?, ?)", user, "en"), 1, "insert");
        List<Object> where = query(c, PRIMARY + "SELECT current_setting('cluster_name'), pg_backend_pid()"
            + " FROM user_preferences WHERE user_id = ?", user).get(0);
        equal(where.get(0), "shard" + user % SHARDS + "-1", "server of user " + user);
        pids.computeIfAbsent(worker + " on " + user % SHARDS, k -> ConcurrentHashMap.newKeySet()).add((Integer) where.get(1));
        try (PreparedStatement s = c.prepareStatement(
                "INSERT INTO notifications (id, user_id, title, amount) VALUES (?, ?, ?, ?)")) {
            for (long n = 0; n < 300; n++) {
                s.setLong(1, n);
                s.setLong(2, user);
                s.setString(3, "title " + n);
                s.setBigDecimal(4, new BigDecimal(n).movePointLeft(2));
                s.addBatch();
            }
            int[] expected = new int[300];
            Arrays.fill(expected, 1);
            equal(Arrays.toString(s.executeBatch()), Arrays.toString(expected), "batch");
        }
        List<List<Object>> found = query(c, PRIMARY + "SELECT id, title, amount FROM notifications WHERE user_id = ? AND id < ? ORDER BY id", user, 3);
        equal(found, List.of(
            List.of(0L, "title 0", new BigDecimal("0.00")),
            List.of(1L, "title 1", new BigDecimal("0.01")),
            List.of(2L, "title 2", new BigDecimal("0.02"))), "rows read back");
        equal(update(c, "UPDATE notifications SET title = title || '!' WHERE user_id = ? AND id >= ?", user, 290L), 10, "update");
        try (PreparedStatement s = c.prepareStatement("INSERT INTO devices (user_id, token) VALUES (?, ?)", Statement.RETURN_GENERATED_KEYS)) {
            s.setLong(1, user);
            s.setString(2, "jdbc");
            s.executeUpdate();
            try (ResultSet keys = s.getGeneratedKeys()) {
                equal(rows(keys), List.of(List.of(user, "jdbc")), "RETURNING");
            }
        }
        try (Statement s = c.createStatement()) {
            equal(s.executeUpdate("DELETE FROM notifications WHERE user_id = " + user + " AND id >= 100"), 200, "delete");
        }
    }

    static void transactions(Connection c, long user) throws Exception {
        c.setAutoCommit(false);
        try {
            update(c, "UPDATE user_preferences SET lang = 'de' WHERE user_id = ?", user);
            Savepoint before = c.setSavepoint("before");
            fails("23505", "a second row like it", () -> update(c, "INSERT INTO devices (user_id, token) VALUES (?, 'jdbc')", user));
            fails("25P02", "a statement in a failed transaction", () -> query(c, "SELECT 1"));
            c.rollback(before);
            equal(query(c, "SELECT lang FROM user_preferences WHERE user_id = ?", user), List.of(List.of("de")), "after the savepoint");
            c.rollback();
            equal(query(c, "SELECT lang FROM user_preferences WHERE user_id = ?", user), List.of(List.of("en")), "after a rollback");
            fails("0A000", "a second shard", () -> query(c, "SELECT lang FROM user_preferences WHERE user_id = ?", user + 1));
            c.rollback();
            c.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
            equal(query(c, "SELECT current_setting('transaction_isolation') FROM devices WHERE user_id = ?", user),
                List.of(List.of("repeatable read")), "isolation");
            c.commit();
            c.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
            c.setReadOnly(true);
            fails("25006", "a write in a read-only transaction", () -> update(c, "DELETE FROM devices WHERE user_id = ?", user));
            c.rollback();
            c.setReadOnly(false);
            // 100 rows in portions of 7: one portal, executed again and again.
            try (PreparedStatement s = c.prepareStatement("SELECT id FROM notifications WHERE user_id = ? ORDER BY id")) {
                s.setFetchSize(7);
                s.setLong(1, user);
                long next = 0;
                try (ResultSet r = s.executeQuery()) {
                    while (r.next()) equal(r.getLong(1), next++, "a row fetched");
                }
                equal(next, 100L, "rows fetched");
            }
            c.commit();
        } finally {
            c.rollback();
            c.setAutoCommit(true);
        }
    }

    static void prepared(Connection c, List<Long> users) throws Exception {
        try (PreparedStatement s = c.prepareStatement(PRIMARY + "SELECT user_id, lang FROM user_preferences WHERE user_id = ?")) {
            for (int turn = 0; turn < 9; turn++) {
                long user = users.get(turn % users.size());
                s.setLong(1, user);
                try (ResultSet r = s.executeQuery()) {
                    equal(rows(r), List.of(List.of(user, "en")), "a prepared statement");
                }
            }
        }
        DatabaseMetaData about = c.getMetaData();
        try (ResultSet r = about.getPrimaryKeys(null, null, "devices")) {
            equal(rows(r).size(), 2, "columns of a primary key");
        }
        try (ResultSet r = about.getTables(null, "public", "%", new String[] {"TABLE"})) {
            equal(rows(r).size(), 5, "tables");
        }
    }

    static void copy(Connection c, long user) throws Exception {
        var manager = c.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder rows = new StringBuilder();
        for (int n = 1000; n < 1500; n++) rows.append(n + "\t" + user + "\ttitle " + n + "\n");
        long count = manager.copyIn("/* pgdrover: shard=" + user % SHARDS + " */ COPY notifications (id, user_id, title) FROM STDIN",
            new StringReader(rows.toString()));
        equal(count, 500L, "COPY FROM");
        StringWriter out = new StringWriter();
        manager.copyOut(PRIMARY + "COPY (SELECT id, user_id, title FROM notifications WHERE user_id = " + user
            + " AND id >= 1000 ORDER BY id) TO STDOUT", out);
        equal(out.toString(), rows.toString(), "COPY TO");
        update(c, "DELETE FROM notifications WHERE user_id = ? AND id >= 1000", user);
    }

    static Void work(int worker) throws Exception {
        List<Long> users = new ArrayList<>();
        for (int n = 0; n < SHARDS; n++) users.add(FIRST_USER + worker * 10 + n);
        for (int round = 0; round < ROUNDS; round++) {
            String[] options = {"?prepareThreshold=1", "?prepareThreshold=0", "?preferQueryMode=simple",
                "?prepareThreshold=-1&reWriteBatchedInserts=false", "?binaryTransfer=true&prepareThreshold=2"};
            String option = options[(worker + round) % options.length];
            try (Connection c = connect(option)) {
                for (long user : users) {
                    crud(c, user, worker);
                    transactions(c, user);
                }
                prepared(c, users);
                copy(c, users.get(round % SHARDS));
            } catch (Throwable e) {
                throw new Exception("with " + option, e);
            }
        }
        return null;
    }

    public static void main(String[] args) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(WORKERS);
        List<Future<Void>> all = new ArrayList<>();
        for (int n = 0; n < WORKERS; n++) {
            int worker = n;
            all.add(threads.submit(() -> work(worker)));
        }
        threads.shutdown();
        try {
            for (Future<Void> one : all) one.get();
        } catch (ExecutionException e) {
            e.printStackTrace();
            System.exit(1);
        }
        if (pids.values().stream().noneMatch(seen -> seen.size() > 1)) {
            System.err.println("no server connection changed hands: " + pids);
            System.exit(1);
        }
        System.out.println("JDBC " + org.postgresql.util.DriverInfo.DRIVER_VERSION + ": " + checked + " checks passed");
    }
}
