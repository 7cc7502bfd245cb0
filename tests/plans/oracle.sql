-- The oracle: one statement for each block, under the row of the specification's table and its
-- plan. Tables: notifications, user_preferences and devices are sharded by user_id (modulo 3),
-- countries is a reference table, settings lives on shard 0.
--
-- S0 one shard, S2 forced by a hint, R1 any one, H0 home, L pgdrover or the session, X refused,
-- T{0,1} these shards, SC all, RA all with a copy; "later": refused until several shards are
-- supported. Parameters: $1 = TYPE [binary] VALUE, where TYPE is what Parse declares (text format
-- and no declared type for `text`). Blessed by PGDROVER_BLESS=1 cargo test --test it router.

-- row 1: S0
SELECT * FROM notifications WHERE user_id=42

-- row 2: S1
SELECT * FROM notifications WHERE user_id='43'

-- row 3: S2
SELECT * FROM notifications n WHERE 44=n.user_id

-- row 4: S0
-- $1 = text 42
SELECT * FROM notifications WHERE user_id=$1

-- row 4: S0
-- $1 = int4 binary 42
SELECT * FROM notifications WHERE user_id=$1

-- row 4: S0
-- $1 = int8 binary 42
SELECT * FROM notifications WHERE user_id=$1

-- row 5: R1
-- $1 = NULL
SELECT * FROM notifications WHERE user_id=$1

-- row 6: S1
SELECT * FROM notifications WHERE user_id=-5

-- row 7: S0
SELECT * FROM notifications WHERE user_id=42.0

-- row 7: R1
SELECT * FROM notifications WHERE user_id=42.5

-- row 8: S1
SELECT * FROM notifications WHERE user_id IN (1,4,7)

-- row 9: T{0,1} concat, later
SELECT * FROM notifications WHERE user_id IN (42,43)

-- row 10: T{0,2} concat, later
-- $1 = text {42,44}
SELECT * FROM notifications WHERE user_id=ANY($1)

-- row 11: S0
SELECT * FROM notifications WHERE user_id=42 OR user_id=45

-- row 12: SC concat, later
SELECT * FROM notifications WHERE user_id=42 OR title='x'

-- row 13: R1
SELECT * FROM notifications WHERE user_id=42 AND user_id=43

-- row 14: SC concat, later
SELECT * FROM notifications WHERE NOT user_id=42

-- row 14: SC concat, later
SELECT * FROM notifications WHERE user_id>5

-- row 15: S0
SELECT * FROM notifications WHERE (user_id,id)=(42,9)

-- row 16: S1
-- $1 = text 43
SELECT * FROM notifications WHERE user_id=CAST($1 AS int8)

-- row 17: SC concat, later
SELECT * FROM notifications WHERE user_id=abs(-42)

-- row 18: SC concat, later
SELECT user_id=42 FROM notifications

-- row 19: S2
SELECT * FROM notifications JOIN user_preferences USING(user_id) WHERE user_preferences.user_id=44

-- row 20: SC concat, later
SELECT * FROM notifications n JOIN devices d ON d.user_id=n.user_id

-- row 21: X
SELECT * FROM notifications n JOIN devices d ON d.token=n.title

-- row 22: X
SELECT * FROM notifications n JOIN devices d ON d.token=n.title WHERE n.user_id=42 AND d.user_id=45

-- row 23: SC concat, later
SELECT * FROM notifications n LEFT JOIN user_preferences p ON p.user_id=n.user_id AND p.user_id=43

-- row 24: S0
SELECT * FROM countries c JOIN notifications n ON n.country=c.code WHERE n.user_id=42

-- row 25: X
SELECT * FROM countries c LEFT JOIN notifications n ON n.country=c.code

-- row 26: X
SELECT code FROM countries c WHERE EXISTS(SELECT 1 FROM notifications n WHERE n.country=c.code)

-- row 27: R1
SELECT * FROM countries

-- row 28: H0
SELECT * FROM settings

-- row 29: X
SELECT * FROM settings s, notifications n WHERE n.user_id=43

-- row 29: X
SELECT * FROM settings s, notifications n WHERE n.user_id=42

-- row 30: S1
SELECT * FROM (SELECT * FROM notifications WHERE user_id=43) t ORDER BY 1

-- row 31: S2
WITH u AS (SELECT * FROM user_preferences WHERE user_id=44) SELECT * FROM u JOIN notifications n ON n.user_id=u.user_id

-- row 32: SC concat, later
SELECT * FROM notifications WHERE user_id IN (SELECT user_id FROM devices WHERE token='x')

-- row 33: X
SELECT * FROM notifications WHERE id=(SELECT max(id) FROM notifications)

-- row 34: T{0,1} concat, later
SELECT id FROM notifications WHERE user_id=42 UNION ALL SELECT id FROM notifications WHERE user_id=43

-- row 35: T{0,1} distinct, later
SELECT id FROM notifications WHERE user_id=42 UNION SELECT id FROM notifications WHERE user_id=43

-- row 36: X
SELECT code FROM countries UNION ALL SELECT country FROM notifications

-- row 37: SC combine count, later
SELECT count(*) FROM notifications

-- row 38: SC combine avg, later
SELECT avg(amount) FROM notifications

-- row 39: SC combine partial groups, kway(2 desc), limit, later
SELECT country,count(*) FROM notifications GROUP BY 1 HAVING count(*)>5 ORDER BY 2 DESC LIMIT 3

-- row 40: SC kway(2 desc), limit, later
SELECT user_id,count(*) FROM notifications GROUP BY 1 HAVING count(*)>5 ORDER BY 2 DESC LIMIT 3

-- row 41: SC combine count, later
SELECT count(DISTINCT country) FROM notifications

-- row 42: SC combine count, later
SELECT count(DISTINCT user_id) FROM notifications

-- row 43: SC distinct, later
SELECT DISTINCT country FROM notifications

-- row 44: SC kway(user_id, created_at desc), later
SELECT DISTINCT ON (user_id) * FROM notifications ORDER BY user_id, created_at DESC

-- row 45: SC kway(created_at desc), limit, later
SELECT * FROM notifications ORDER BY created_at DESC LIMIT 10 OFFSET 20

-- row 46: SC kway(title), limit, later
SELECT title FROM notifications ORDER BY title LIMIT 5

-- row 47: SC kway(amount nulls first), limit, later
SELECT id FROM notifications ORDER BY amount NULLS FIRST LIMIT 5

-- row 48: SC limit, later
SELECT * FROM notifications LIMIT 5

-- row 49: SC concat, later
SELECT row_number() OVER (PARTITION BY user_id ORDER BY id) FROM notifications

-- row 49: X
SELECT row_number() OVER (ORDER BY id) FROM notifications

-- row 50: X
SELECT percentile_cont(.5) WITHIN GROUP (ORDER BY amount) FROM notifications

-- row 51: X
SELECT * FROM notifications LIMIT 9 FOR UPDATE SKIP LOCKED

-- row 51: S0
SELECT * FROM notifications WHERE user_id=42 LIMIT 9 FOR UPDATE SKIP LOCKED

-- row 52: R1
SELECT now()

-- row 52: R1 sticky
SELECT * FROM pg_class

-- row 53: S0
INSERT INTO notifications(id,user_id) VALUES (1,42)

-- row 54: Split{0,1} 2pc, later
INSERT INTO notifications(id,user_id) VALUES (1,42),(2,43),(3,45)

-- row 55: X
INSERT INTO notifications(id) VALUES (1)

-- row 55: X
INSERT INTO notifications(id,user_id) VALUES (1,NULL)

-- row 55: X
INSERT INTO notifications(id,user_id) VALUES (1,DEFAULT)

-- row 56: X
INSERT INTO notifications(id,user_id) VALUES (1,41.6)

-- row 57: SC each shard its own rows, 2pc, later
INSERT INTO notifications(id,user_id,title) SELECT user_id,user_id,lang FROM user_preferences

-- row 58: X
INSERT INTO user_preferences(user_id) SELECT id FROM notifications

-- row 59: S0
INSERT INTO user_preferences VALUES (42,'en') ON CONFLICT (user_id) DO UPDATE SET lang='en'

-- row 59: X
INSERT INTO user_preferences VALUES (42,'en') ON CONFLICT (user_id) DO UPDATE SET user_id=1

-- row 60: SC sum of the tags, 2pc, later
UPDATE notifications SET title='x' WHERE country='PL'

-- row 61: MoveRow{0,1} 2pc, later
UPDATE user_preferences SET user_id=43 WHERE user_id=42

-- row 62: S0
UPDATE user_preferences SET user_id=42, lang='x' WHERE user_id=42

-- row 63: S2
DELETE FROM notifications n USING user_preferences p WHERE p.user_id=n.user_id AND p.user_id=44

-- row 64: X
DELETE FROM notifications WHERE id IN (SELECT id FROM notifications LIMIT 10)

-- row 65: RA 2pc, later
INSERT INTO countries VALUES ('DE','Germany')

-- row 66: X
UPDATE countries SET name=random()::text

-- row 67: H0
UPDATE settings SET value='1'

-- row 68: S0
MERGE INTO user_preferences USING (VALUES (42,'en')) v(u,l) ON user_preferences.user_id=v.u WHEN MATCHED THEN UPDATE SET lang=v.l WHEN NOT MATCHED THEN INSERT (user_id,lang) VALUES (v.u,v.l)

-- row 69: CopySplit 2pc, later
COPY notifications(id,user_id) FROM STDIN

-- row 69: X
COPY notifications(id) FROM STDIN

-- row 69: RA 2pc, later
COPY countries FROM STDIN

-- row 70: AllShards atomic, later
CREATE INDEX i ON notifications(title)

-- row 70: AllShards one by one, later
CREATE INDEX CONCURRENTLY i ON notifications(title)

-- row 71: X
SELECT nextval('s')

-- row 72: L; S0; S1; L
BEGIN; SELECT * FROM notifications WHERE user_id=42; SELECT * FROM notifications WHERE user_id='43'; COMMIT

-- row 73: L
SET search_path=public

-- row 73: L
SHOW search_path

-- row 74: SC kway(created_at desc), limit, later
EXPLAIN SELECT * FROM notifications ORDER BY created_at DESC LIMIT 10 OFFSET 20

-- row 75: S2 forced
/* shard:2 */ SELECT * FROM notifications

-- row 76 (later, L and S1): X; X
PREPARE q AS SELECT * FROM notifications WHERE user_id=$1; EXECUTE q(43)

-- row 77: S0
DECLARE c CURSOR FOR SELECT * FROM notifications WHERE user_id=42

-- row 77: X
DECLARE c CURSOR FOR SELECT * FROM notifications n JOIN devices d ON d.user_id=n.user_id

-- row 78: S0
SELECT * FROM notifications WHERE user_id=42 FOR NO KEY UPDATE
