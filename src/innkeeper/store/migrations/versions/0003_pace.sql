-- N-1 tolerant: tables and an index that its code never meets.

-- Finds the one that is under way among millions of operations, and holds that it is one.
CREATE UNIQUE INDEX operations_one_reseal ON operations (kind) WHERE state = 'running' AND kind = 'secrets.reseal';

-- Workspaces that were put to sleep for want of traffic, by the minute of business time.
CREATE TABLE sleeps (
  at     timestamptz PRIMARY KEY,
  count  int NOT NULL
);

-- The pace they may fall asleep at, under one lock.
CREATE TABLE sleep_pace (
  single           boolean PRIMARY KEY DEFAULT true CHECK (single),
  fleet            int NOT NULL DEFAULT 0,    -- awake or within the hour, when last counted
  counted_real_at  timestamptz,
  paused_at        timestamptz                -- since when more were idle than may sleep now; null: not
);
INSERT INTO sleep_pace DEFAULT VALUES;

GRANT SELECT, INSERT, UPDATE, DELETE ON sleeps TO innkeeper_app;
GRANT SELECT, UPDATE ON sleep_pace TO innkeeper_app;
