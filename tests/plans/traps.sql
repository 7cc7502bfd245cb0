-- Traps: statements that look like one shard and are not, and some that look harder than they
-- are. Notation and tables as in oracle.sql.

-- row or: SC concat, later
SELECT * FROM notifications WHERE user_id = 42 OR id = 1

-- row or: SC concat, later
SELECT * FROM notifications WHERE (user_id = 42 AND id = 1) OR id = 2

-- row or: S0
SELECT * FROM notifications WHERE (user_id = 42 AND id = 1) OR (id = 2 AND user_id = 42)

-- row or: S0
SELECT * FROM notifications WHERE id = 7 AND (user_id = 42 OR user_id = 45)

-- row or: SC concat, later
SELECT * FROM notifications n JOIN user_preferences p USING (user_id) WHERE n.user_id = 42 OR p.user_id = 42

-- row not: SC concat, later
SELECT * FROM notifications WHERE NOT (user_id = 42)

-- row not: SC concat, later
SELECT * FROM notifications WHERE user_id <> 42

-- row not: SC concat, later
SELECT * FROM notifications WHERE user_id NOT IN (42)

-- row not: SC concat, later
SELECT * FROM notifications WHERE NOT (user_id IN (42))

-- row not: SC concat, later
SELECT * FROM notifications WHERE (user_id = 42) IS NOT TRUE

-- row not: SC concat, later
SELECT * FROM notifications WHERE (user_id = 42) = false

-- row not: SC concat, later
SELECT * FROM notifications WHERE user_id IS NOT DISTINCT FROM 42

-- row not: SC concat, later
SELECT * FROM notifications WHERE CASE WHEN user_id = 42 THEN true ELSE true END

-- row not: SC concat, later
SELECT * FROM notifications WHERE coalesce(user_id = 42, true)

-- row not: SC concat, later
SELECT * FROM notifications WHERE user_id = ALL (ARRAY[42])

-- row not: SC concat, later
SELECT * FROM notifications WHERE user_id >= 42 AND user_id <= 42

-- row not: SC concat, later
SELECT * FROM notifications WHERE user_id BETWEEN 42 AND 42

-- row on: SC concat, later
SELECT * FROM notifications n LEFT JOIN user_preferences p ON p.user_id = n.user_id AND n.user_id = 42

-- row on: SC concat, later
SELECT * FROM notifications n LEFT JOIN user_preferences p ON n.user_id = p.user_id AND p.user_id = 42

-- row on: S0
SELECT * FROM notifications n JOIN user_preferences p ON n.user_id = p.user_id AND p.user_id = 42

-- row on: SC concat, later
SELECT * FROM user_preferences p RIGHT JOIN notifications n ON n.user_id = p.user_id AND p.user_id = 42

-- row on: S0
SELECT * FROM notifications n LEFT JOIN user_preferences p ON p.user_id = n.user_id WHERE n.user_id = 42

-- row on: SC concat, later
SELECT * FROM notifications n LEFT JOIN user_preferences p ON p.user_id = n.user_id WHERE p.user_id = 42

-- row on: X
SELECT * FROM notifications n FULL JOIN user_preferences p ON p.user_id = n.user_id AND p.user_id = 42

-- row on: X
SELECT * FROM notifications n FULL JOIN user_preferences p ON p.user_id = n.user_id WHERE n.user_id = 42

-- row on: S0
SELECT * FROM notifications n LEFT JOIN (user_preferences p JOIN devices d ON p.user_id = d.user_id) ON d.user_id = n.user_id WHERE n.user_id = 42

-- row on: X
SELECT * FROM countries c LEFT JOIN notifications n ON n.country = c.code AND n.user_id = c.code WHERE c.code = '42'

-- row on: X
SELECT * FROM notifications NATURAL JOIN user_preferences WHERE notifications.user_id = 42

-- row on: S0
SELECT * FROM notifications JOIN user_preferences USING (user_id) WHERE user_id = 42

-- row on: S0
SELECT * FROM notifications JOIN user_preferences USING (user_id) JOIN devices USING (user_id) WHERE user_id = 42

-- row on: S0
SELECT * FROM notifications LEFT JOIN user_preferences USING (user_id) WHERE user_id = 42

-- row on: X
SELECT * FROM notifications FULL JOIN user_preferences USING (user_id) WHERE user_id = 42

-- row on: X
SELECT * FROM notifications n JOIN devices d USING (id) WHERE n.user_id = 42

-- row on: X
SELECT * FROM notifications n CROSS JOIN devices d WHERE n.user_id = 42

-- row on: S0
SELECT * FROM notifications n, devices d WHERE n.user_id = 42 AND d.user_id = 42

-- row on: X
SELECT * FROM notifications n, devices d WHERE n.user_id = 42 AND d.user_id = 45

-- row on: X
SELECT * FROM notifications n, devices d WHERE user_id = 42

-- row target list: SC concat, later
SELECT user_id = 42, * FROM notifications

-- row target list: SC combine count, later
SELECT count(*) FILTER (WHERE user_id = 42) FROM notifications

-- row target list: SC combine partial groups, later
SELECT country FROM notifications GROUP BY country HAVING max(user_id) = 42

-- row target list: SC kway(user_id = ?), later
SELECT * FROM notifications ORDER BY user_id = 42

-- row target list: SC concat, later
SELECT * FROM notifications WHERE id = 1 AND title = 'user_id = 42'

-- row set operation: X
SELECT * FROM notifications WHERE user_id = 42 UNION SELECT * FROM notifications

-- row set operation: S0
SELECT * FROM notifications WHERE user_id = 42 UNION SELECT * FROM notifications WHERE user_id = 42

-- row set operation: X
SELECT * FROM notifications WHERE user_id = 42 EXCEPT SELECT * FROM notifications WHERE user_id = 43

-- row set operation: T{0} concat, later
SELECT * FROM notifications WHERE user_id = 42 UNION ALL SELECT * FROM notifications WHERE user_id = 45

-- row subquery: X
SELECT * FROM notifications WHERE user_id = 42 AND id IN (SELECT user_id FROM devices)

-- row subquery: S0
SELECT * FROM notifications WHERE user_id = 42 AND user_id IN (SELECT user_id FROM devices)

-- row subquery: X
SELECT * FROM notifications WHERE user_id = 42 AND user_id IN (SELECT user_id FROM devices LIMIT 5)

-- row subquery: X
SELECT * FROM notifications WHERE user_id = 42 AND user_id NOT IN (SELECT user_id FROM devices)

-- row subquery: S0
SELECT * FROM notifications n WHERE user_id = 42 AND EXISTS (SELECT 1 FROM devices d WHERE d.user_id = n.user_id)

-- row subquery: S0
SELECT * FROM notifications n WHERE user_id = 42 AND NOT EXISTS (SELECT 1 FROM devices d WHERE d.user_id = n.user_id)

-- row subquery: X
SELECT * FROM notifications n WHERE NOT EXISTS (SELECT 1 FROM devices d WHERE d.user_id = 42)

-- row subquery: SC concat, later
SELECT * FROM notifications n WHERE NOT EXISTS (SELECT 1 FROM devices d WHERE d.user_id = n.user_id AND d.user_id = 42)

-- row subquery: S0
SELECT * FROM notifications WHERE user_id IN (SELECT user_id FROM devices WHERE user_id = 42)

-- row subquery: SC concat, later
SELECT * FROM notifications WHERE id = 3 OR user_id IN (SELECT 42)

-- row subquery: X
SELECT * FROM notifications WHERE id = 3 OR user_id IN (SELECT user_id FROM devices WHERE user_id = 42)

-- row subquery: X
SELECT (SELECT count(*) FROM notifications), count(*) FROM notifications WHERE user_id = 42

-- row subquery: S0
SELECT (SELECT count(*) FROM devices d WHERE d.user_id = n.user_id) FROM notifications n WHERE n.user_id = 42

-- row subquery: X
SELECT (SELECT count(*) FROM notifications)

-- row subquery: S0
SELECT * FROM (SELECT * FROM notifications) t WHERE t.user_id = 42

-- row subquery: X
SELECT * FROM (SELECT * FROM notifications LIMIT 5) t WHERE t.user_id = 42

-- row subquery: X
SELECT * FROM (SELECT * FROM notifications ORDER BY id FETCH FIRST 5 ROWS ONLY) t WHERE t.user_id = 42

-- row subquery: X
SELECT * FROM (SELECT DISTINCT ON (country) * FROM notifications) t WHERE t.user_id = 42

-- row subquery: X
SELECT * FROM (SELECT user_id, row_number() OVER (ORDER BY id) FROM notifications) t WHERE t.user_id = 42

-- row subquery: S0
SELECT * FROM (SELECT user_id, count(*) AS c FROM notifications GROUP BY user_id) t WHERE t.user_id = 42

-- row subquery: X
SELECT * FROM (SELECT max(user_id) AS user_id FROM notifications) t WHERE t.user_id = 42

-- row subquery: SC concat, later
SELECT * FROM (SELECT id AS user_id FROM notifications) t WHERE t.user_id = 42

-- row subquery: X
SELECT * FROM (SELECT * FROM notifications UNION ALL SELECT * FROM notifications) t WHERE t.user_id = 42

-- row subquery: S0
SELECT * FROM notifications n, LATERAL (SELECT * FROM devices d WHERE d.user_id = n.user_id) x WHERE n.user_id = 42

-- row subquery: X
SELECT * FROM notifications n, LATERAL (SELECT * FROM devices d WHERE d.token = n.title) x WHERE n.user_id = 42

-- row subquery: X
SELECT 1 FROM (VALUES (43)) x(user_id) WHERE EXISTS (SELECT 1 FROM devices x, (countries a JOIN countries b ON EXISTS (SELECT 1 FROM notifications n WHERE n.user_id = x.user_id)) WHERE x.user_id = 42)

-- row subquery: S0
SELECT 1 FROM (VALUES (42)) x(user_id) WHERE EXISTS (SELECT 1 FROM devices x, (countries a JOIN countries b ON EXISTS (SELECT 1 FROM notifications n WHERE n.user_id = x.user_id)) WHERE x.user_id = 42)

-- row alias: SC concat, later
SELECT * FROM notifications AS n (user_id, id) WHERE n.user_id = 42

-- row alias: X
SELECT * FROM user_preferences AS p (lang, user_id) JOIN notifications n ON n.user_id = p.lang WHERE p.user_id = 42

-- row alias: SC concat, later
SELECT * FROM countries AS notifications, notifications AS c WHERE notifications.user_id = 42

-- row alias: SC concat, later
SELECT * FROM notifications AS n WHERE notifications.user_id = 42 OR id = 2

-- row alias: S0
SELECT * FROM public.notifications WHERE public.notifications.user_id = 42

-- row alias: X
SELECT * FROM other.notifications WHERE user_id = 42

-- row cte: S0
WITH notifications AS (SELECT * FROM notifications WHERE user_id = 42) SELECT * FROM notifications

-- row cte: SC concat, later
WITH devices AS (SELECT 42 AS user_id) SELECT * FROM notifications, devices WHERE devices.user_id = 43

-- row cte: SC concat, later
WITH u AS (SELECT * FROM user_preferences) SELECT * FROM u a JOIN u b ON a.user_id = b.user_id WHERE a.user_id = 42

-- row cte: S0
WITH u AS (SELECT * FROM user_preferences) SELECT * FROM u WHERE user_id = 42

-- row cte: X
WITH u AS (SELECT * FROM user_preferences LIMIT 3) SELECT * FROM u WHERE user_id = 42

-- row cte: X
WITH RECURSIVE t AS (SELECT * FROM notifications WHERE user_id = 42 UNION ALL SELECT n.* FROM notifications n JOIN t ON n.id = t.id) SELECT * FROM t

-- row cte: S0
WITH RECURSIVE t AS (SELECT * FROM notifications WHERE user_id = 42 UNION ALL SELECT n.* FROM notifications n JOIN t ON n.id = t.id WHERE n.user_id = 42) SELECT * FROM t

-- row cte: SC concat, later
WITH u(lang, user_id) AS (SELECT user_id, lang FROM user_preferences) SELECT * FROM u WHERE user_id = 42

-- row cte: S0
WITH d AS (DELETE FROM notifications WHERE user_id = 42 RETURNING *) SELECT count(*) FROM d

-- row cte: X
WITH d AS (DELETE FROM notifications WHERE user_id = 42 RETURNING *) INSERT INTO devices(user_id, token) VALUES (43, 'x')

-- row cte: S0
WITH d AS (DELETE FROM notifications WHERE user_id = 42 RETURNING *) INSERT INTO devices(user_id, token) VALUES (42, 'x')

-- row other column: SC concat, later
SELECT * FROM notifications n JOIN countries c ON n.country = c.code WHERE c.user_id = 42

-- row other column: S0
SELECT * FROM notifications n JOIN countries c ON n.country = c.code WHERE user_id = 42

-- row other column: SC concat, later
SELECT * FROM notifications n JOIN countries c ON c.user_id = n.user_id WHERE c.user_id = 42

-- row other column: SC concat, later
SELECT * FROM notifications WHERE "USER_ID" = 42

-- row other column: S0
SELECT * FROM notifications WHERE "user_id" = 42

-- row other column: S0
SELECT * FROM "notifications" WHERE USER_ID = 42

-- row other column: X
SELECT * FROM "Notifications" WHERE user_id = 42

-- row other column: SC concat, later
SELECT * FROM notifications WHERE ｕser_id = 42

-- row other column: SC concat, later
SELECT * FROM notifications WHERE (notifications).user_id = 42

-- row other column: SC concat, later
SELECT * FROM notifications WHERE user_id[1] = 42

-- row other column: SC concat, later
SELECT * FROM notifications WHERE user_id::text = '42'

-- row other column: SC concat, later
SELECT * FROM notifications WHERE user_id + 0 = 42

-- row other column: SC concat, later
SELECT * FROM notifications WHERE -user_id = -42

-- row comment: SC concat, later
SELECT * FROM notifications -- WHERE user_id = 42

-- row comment: SC concat, later
SELECT * FROM notifications /* WHERE user_id = 42 */

-- row comment: SC concat, later
SELECT * FROM notifications /* /* nested */ WHERE user_id = 42 */

-- row comment: S0
SELECT * FROM notifications /* -- */ WHERE user_id = 42

-- row comment: SC concat, later
SELECT * FROM notifications WHERE title = '/*' AND id = 1 AND title <> '*/ AND user_id = 42'

-- row comment: SC concat, later
SELECT * FROM notifications WHERE title = $$ AND user_id = 42 $$

-- row comment: SC concat, later
SELECT * FROM notifications WHERE title = $q$ ' $$ AND user_id = 42 $q$

-- row comment: SC concat, later
SELECT * FROM notifications WHERE title = E'\' AND user_id = 42 --'

-- row comment: SC concat, later
SELECT * FROM notifications WHERE title = U&'\0041' AND id = 42

-- row value: S1
SELECT * FROM notifications WHERE user_id = ' 43 '

-- row value: R1
SELECT * FROM notifications WHERE user_id = 'abc'

-- row value: S0
SELECT * FROM notifications WHERE user_id = E'42'

-- row value: X
SELECT * FROM notifications WHERE user_id = E'\x34\x32'

-- row value: SC concat, later
SELECT * FROM notifications WHERE user_id = U&'42'

-- row value: SC concat, later
SELECT * FROM notifications WHERE user_id = B'101010'

-- row value: SC concat, later
SELECT * FROM notifications WHERE user_id = 0x2A

-- row value: SC concat, later
SELECT * FROM notifications WHERE user_id = 1_000

-- row value: S0
SELECT * FROM notifications WHERE user_id = 4.2e1

-- row value: SC concat, later
SELECT * FROM notifications WHERE user_id = 41.6::bigint

-- row value: SC concat, later
SELECT * FROM notifications WHERE user_id = 42::text

-- row value: SC concat, later
SELECT * FROM notifications WHERE user_id = 41.6::numeric(3,0)

-- row value: S0
SELECT * FROM notifications WHERE user_id = '42'::bigint

-- row value: S0
SELECT * FROM notifications WHERE user_id = bigint '42'

-- row value: S1
SELECT * FROM notifications WHERE user_id = 9223372036854775807

-- row value: R1
SELECT * FROM notifications WHERE user_id = 9223372036854775808

-- row value: S1
SELECT * FROM notifications WHERE user_id = -9223372036854775808

-- row value: S0
SELECT * FROM notifications WHERE user_id = (42)

-- row value: SC concat, later
SELECT * FROM notifications WHERE user_id = (SELECT 42)

-- row value: SC concat, later
SELECT * FROM notifications WHERE user_id = 40 + 2

-- row value: T{0,1} concat, later
SELECT * FROM notifications WHERE user_id IN (42, 43, NULL)

-- row value: SC concat, later
SELECT * FROM notifications WHERE user_id IN (1.5, '42.0')

-- row value: S0
SELECT * FROM notifications WHERE user_id IN (42, 45.0, 1.5)

-- row value: S0
SELECT * FROM notifications WHERE user_id = ANY ('{42,45}')

-- row value: S0
SELECT * FROM notifications WHERE user_id = ANY ('{42,NULL}'::bigint[])

-- row value: SC concat, later
SELECT * FROM notifications WHERE user_id = ANY (ARRAY[41.6]::bigint[])

-- row value: S0
SELECT * FROM notifications WHERE user_id = ANY (ARRAY[42, 45])

-- row value: SC concat, later
SELECT * FROM notifications WHERE user_id = ANY (ARRAY[42, id])

-- row value: R1
SELECT * FROM notifications WHERE user_id = ANY ('{}')

-- row value: SC concat, later
SELECT * FROM notifications WHERE user_id = ANY (SELECT 42)

-- row value: S0
SELECT * FROM notifications WHERE (id, user_id) IN ((1, 42), (2, 45))

-- row value: SC concat, later
SELECT * FROM notifications WHERE (id, user_id) < (1, 42)

-- row param: S0
-- $1 = text 42
-- $2 = text 1
SELECT * FROM notifications WHERE user_id = $1 AND id = $2

-- row param: SC concat, later
-- $1 = text 42.0
SELECT * FROM notifications WHERE amount = $1 AND user_id = $1

-- row param: S0
-- $1 = int8 42
SELECT * FROM notifications WHERE id = $1 AND user_id = $1

-- row param: S0
-- $1 = int4 binary 42
SELECT * FROM notifications WHERE user_id = $1::bigint

-- row param: T{} concat, later
-- $1 = varchar abc
SELECT * FROM notifications WHERE user_id = 43 OR (id = 1 AND user_id = $1::bigint)

-- row param: SC concat, later
-- $1 = numeric 41.6
SELECT * FROM notifications WHERE user_id = $1::bigint

-- row param: S0
-- $1 = numeric 42.0
SELECT * FROM notifications WHERE user_id = $1

-- row param: R1
-- $1 = numeric 42.5
SELECT * FROM notifications WHERE user_id = $1

-- row param: X
-- $1 = float8 binary 42
SELECT * FROM notifications WHERE user_id = $1

-- row param: S0
-- $1 = text 42
-- $2 = text 45
SELECT * FROM notifications WHERE user_id IN ($1, $2)

-- row param: T{0,1} concat, later
-- $1 = text 42
-- $2 = text 43
SELECT * FROM notifications WHERE user_id IN ($1, $2)

-- row param: SC concat, later
-- $1 = text 42
SELECT * FROM notifications WHERE user_id IN ($1, 1.5)

-- row param: S0
-- $1 = int8[] {42,45}
SELECT * FROM notifications WHERE user_id = ANY ($1)

-- row param: S0
-- $1 = text 1
-- $2 = text 42
INSERT INTO notifications(id, user_id) VALUES ($1, $2)

-- row param: X
-- $1 = text 1
-- $2 = NULL
INSERT INTO notifications(id, user_id) VALUES ($1, $2)

-- row param: X
-- $1 = text 1
-- $2 = float8 binary 41.6
INSERT INTO notifications(id, user_id) VALUES ($1, $2)

-- row param: X
-- $1 = text 1
-- $2 = numeric 41.6
INSERT INTO notifications(id, user_id) VALUES ($1, $2)

-- row param: X
-- $1 = text 42
INSERT INTO notifications(id, user_id, amount) VALUES (1, $1, $1)

-- row param: R1 sticky
-- $1 = text 1
-- $2 = text abc
INSERT INTO notifications(id, user_id) VALUES ($1, $2)

-- row insert: X
INSERT INTO notifications VALUES (1, 42)

-- row insert: S0
INSERT INTO user_preferences VALUES (42)

-- row insert: X
INSERT INTO devices(token) VALUES ('x')

-- row insert: X
INSERT INTO notifications DEFAULT VALUES

-- row insert: X
INSERT INTO notifications(id, user_id) VALUES (1, abs(-42))

-- row insert: X
INSERT INTO notifications(id, user_id) VALUES (1, (SELECT 42))

-- row insert: X
INSERT INTO notifications(id, user_id) VALUES (1, 42), (2, NULL)

-- row insert: X
INSERT INTO notifications(id, user_id) VALUES (1, 42), (2)

-- row insert: S0
INSERT INTO notifications(id, user_id) VALUES (1, 42), (2, 45)

-- row insert: X
INSERT INTO notifications(id, user_id) VALUES ((SELECT max(id) FROM notifications), 42)

-- row insert: S0
INSERT INTO notifications(id, user_id) VALUES ((SELECT max(id) FROM notifications WHERE user_id = 42), 42)

-- row insert: S0
INSERT INTO notifications(id, user_id) SELECT id, user_id FROM devices WHERE user_id = 42

-- row insert: X
INSERT INTO notifications(user_id, id) SELECT id, user_id FROM devices WHERE user_id = 42

-- row insert: X
INSERT INTO notifications(id, user_id) SELECT * FROM devices WHERE user_id = 42

-- row insert: X
INSERT INTO notifications(id, user_id) SELECT 1, 42

-- row insert: X
INSERT INTO user_preferences VALUES (42, 'x') ON CONFLICT (user_id) DO UPDATE SET (user_id, lang) = (1, 'x')

-- row insert: S0
INSERT INTO user_preferences VALUES (42, 'x') ON CONFLICT DO NOTHING RETURNING *

-- row insert: X
INSERT INTO settings SELECT title, title FROM notifications WHERE user_id = 42

-- row update: S0
UPDATE notifications SET title = 'x' WHERE user_id = 42

-- row update: S0
UPDATE notifications n SET title = p.lang FROM user_preferences p WHERE p.user_id = n.user_id AND n.user_id = 42

-- row update: X
UPDATE notifications n SET title = p.lang FROM user_preferences p WHERE n.user_id = 42

-- row update: X
UPDATE notifications SET user_id = id WHERE user_id = 42

-- row update: X
UPDATE notifications SET user_id = user_id + 1 WHERE user_id = 42

-- row update: X
UPDATE notifications SET (user_id, id) = (43, 1) WHERE user_id = 42

-- row update: X
UPDATE notifications SET user_id = 42

-- row update: X
UPDATE notifications SET user_id = NULL WHERE user_id = 42

-- row update: X
UPDATE notifications SET title = (SELECT token FROM devices LIMIT 1) WHERE user_id = 42

-- row update: X
UPDATE countries SET name = (SELECT title FROM notifications WHERE user_id = 42)

-- row update: R1 sticky
UPDATE notifications SET title = 'x' WHERE user_id = NULL

-- row delete: S0
DELETE FROM notifications WHERE user_id = 42

-- row delete: SC sum of the tags, 2pc, later
DELETE FROM notifications

-- row delete: S0
DELETE FROM ONLY notifications WHERE user_id = 42

-- row merge: X
MERGE INTO user_preferences USING devices d ON user_preferences.user_id = d.user_id WHEN NOT MATCHED THEN INSERT (user_id, lang) VALUES (d.user_id, 'x')

-- row merge: X
MERGE INTO user_preferences USING countries c ON user_preferences.lang = c.code WHEN MATCHED THEN DELETE

-- row merge: X
MERGE INTO user_preferences USING (VALUES (42,'en')) v(u,l) ON user_preferences.user_id = v.u WHEN MATCHED THEN UPDATE SET user_id = 1

-- row merge: X
MERGE INTO user_preferences USING (VALUES (42,'en')) v(u,l) ON user_preferences.user_id = v.u WHEN NOT MATCHED THEN INSERT (user_id) VALUES (43)

-- row merge: X
MERGE INTO user_preferences USING (VALUES (42,'en')) v(u,l) ON user_preferences.lang = v.l WHEN MATCHED THEN DELETE

-- row function: X
SELECT my_function(42)

-- row function: S0
SELECT my_function(title) FROM notifications WHERE user_id = 42

-- row function: R1 sticky
SELECT random()

-- row function: H0
SELECT pg_advisory_lock(1)

-- row function: X
SELECT query_to_xml('select * from notifications', true, true, '')

-- row function: R1
SELECT generate_series(1, 3)

-- row function: R1
SELECT * FROM generate_series(1, 3) g

-- row function: X
CALL clean_up()

-- row function: X
DO $$ BEGIN DELETE FROM notifications; END $$

-- row unknown: X
SELECT * FROM unknown_table

-- row unknown: X
SELECT * FROM notifications n JOIN unknown_table u ON u.user_id = n.user_id WHERE n.user_id = 42

-- row unknown: X
SELECT * FROM notifications WHERE user_id = 42 AND id IN (SELECT id FROM unknown_table)

-- row unknown: X
TABLE notifications

-- row unknown: R1 sticky
SELECT * FROM information_schema.tables

-- row unknown: R1 sticky
SELECT 'unterminated

-- row hint: S2 forced
SELECT * FROM unknown_table /* pgdrover: shard=2 */

-- row hint: X
/* pgdrover: shard=3 */ SELECT 1

-- row hint: X
/* pgdrover: shrad=1 */ SELECT 1

-- row hint: X
/* pgdrover shard=1 */ SELECT 1

-- row hint: X
/* pgdrover: */ SELECT 1

-- row hint: X
/* shard: two */ SELECT 1

-- row hint: X
/* pgdrover: role=replica */ DELETE FROM notifications WHERE user_id = 42

-- row hint: X
/* pgdrover: role=replica */ SELECT * FROM notifications WHERE user_id = 42 FOR UPDATE

-- row hint: S1 forced
/* pgdrover: shard=1, role=primary */ SELECT 1

-- row hint: S1 forced
/* pgdrover: shard=1 role=replica */ SELECT 1

-- row hint: X
/* pgdrover: shard=1 */ SELECT 1 /* pgdrover: shard=2 */

-- row hint: X
/* pgdrover: shard=1 */ INSERT INTO notifications(id, user_id) VALUES (1, 42)

-- row hint: S0
/* pgdrover: shard=0 */ INSERT INTO notifications(id, user_id) VALUES (1, 42)

-- row hint: SC concat, later
SELECT * FROM notifications WHERE title = '/* pgdrover: shard=2 */'

-- row hint: S2 forced
SELECT 1 -- pgdrover: shard=2

-- row hint: S2 forced
SELECT * FROM notifications; /* pgdrover: shard=2 */

-- row utility: L
BEGIN READ ONLY

-- row utility: L; X
PREPARE TRANSACTION 'x'; COMMIT PREPARED 'x'

-- row utility: X
SET standard_conforming_strings = off

-- row utility: L
SET standard_conforming_strings = on

-- row utility: L
SET TIME ZONE 'UTC'

-- row utility: AllShards atomic, later
TRUNCATE notifications

-- row utility: X
CREATE TEMP TABLE t (a int)

-- row utility: AllShards atomic, later
CREATE TABLE t AS SELECT * FROM notifications WHERE user_id = 42

-- row utility: H0
LISTEN channel

-- row utility: H0
NOTIFY channel

-- row utility: S0
EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM notifications WHERE user_id = 42

-- row utility: S0
EXPLAIN DELETE FROM notifications WHERE user_id = 42

-- row utility: L
EXPLAIN (ROUTE) SELECT * FROM notifications

-- row utility: S0
COPY (SELECT * FROM notifications WHERE user_id = 42) TO STDOUT

-- row utility: SC concat, later
COPY notifications TO STDOUT

-- row utility: X
COPY unknown_table TO STDOUT

-- row utility: H0
COPY settings FROM STDIN

-- row utility: X
SELECT * INTO t FROM notifications WHERE user_id = 42

-- row param: S0
-- $1 = varchar binary 00000042
SELECT * FROM notifications WHERE user_id = $1::bigint

-- row param: S1
-- $1 = varchar 43
SELECT * FROM notifications WHERE user_id = $1::bigint

-- row hint: X
/* pgdrover: shard=0 */ UPDATE notifications SET user_id = 43 WHERE user_id = 42

-- row hint: S0 forced
/* pgdrover: shard=0 */ DELETE FROM notifications WHERE created_at < '2020-01-01'

-- row function: X
SELECT query_to_xml('select * from notifications', true, true, '') FROM notifications WHERE user_id = 42

-- row insert: X
INSERT INTO notifications (id, user_id) SELECT v.a, v.a FROM (VALUES (42)) v(a), devices d

-- row insert: S0
INSERT INTO notifications (id, user_id) SELECT v.a, v.a FROM (VALUES (42)) v(a)

-- row insert: S0
INSERT INTO notifications (id, user_id) SELECT v.a, v.a FROM (VALUES (42)) v(a), countries c

-- row end: X
SELECT 1 END, user_id FROM notifications

-- row end: X
SELECT id END FROM notifications WHERE user_id = 42
