-- The demo's tables, on every shard: the design's notifications, preferences and devices, and one
-- reference table with the same rows everywhere. `pgdrover demo` and docker-compose.yml share
-- this file; their configurations of pgdrover declare the same tables.
CREATE TABLE notifications (
    id         bigint NOT NULL,
    user_id    bigint NOT NULL,
    title      text NOT NULL DEFAULT '',
    country    text,
    amount     numeric,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, id)
);

CREATE TABLE user_preferences (
    user_id       bigint PRIMARY KEY,
    lang          text,
    sms_enabled   boolean NOT NULL DEFAULT false,
    email_enabled boolean NOT NULL DEFAULT true
);

CREATE TABLE devices (
    user_id bigint NOT NULL,
    token   text NOT NULL,
    PRIMARY KEY (user_id, token)
);

CREATE TABLE countries (
    code text PRIMARY KEY,
    name text NOT NULL
);

INSERT INTO countries VALUES
    ('BR', 'Brazil'),
    ('DE', 'Germany'),
    ('FR', 'France'),
    ('IN', 'India'),
    ('JP', 'Japan'),
    ('NG', 'Nigeria'),
    ('PL', 'Poland'),
    ('US', 'United States');

-- A home table: every shard has it, only the first holds rows (home.sql).
CREATE TABLE settings (
    name  text PRIMARY KEY,
    value text
);
