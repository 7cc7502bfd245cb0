-- The home table's rows, on the first shard alone.
INSERT INTO settings VALUES
    ('daily_limit', '100'),
    ('quiet_hours', '22:00-07:00'),
    ('sender', 'pgdrover demo');
