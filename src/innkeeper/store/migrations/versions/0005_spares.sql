-- N-1 tolerant: a table that its code never meets. Its `inn drift` lists as orphans what is named here, and leaves it.

-- Empty databases, made before a workspace asks for one. Handing one out is one row, in the transaction that creates the
-- workspace; the row goes once the workspace has its database, under its own names, and nothing is left under these.
CREATE TABLE spares (
  id               text PRIMARY KEY,             -- what its names derive from; never that of a workspace
  instance_id      text NOT NULL REFERENCES instances,
  state            text NOT NULL CONSTRAINT spares_state CHECK (state IN ('making', 'ready', 'given', 'dropping')),
  workspace_id     text REFERENCES workspaces,   -- which it was given to
  revision         int NOT NULL,                 -- of the hardening it has; an older one is not handed out
  fence            bigint NOT NULL,              -- raised by everybody who works on it
  attempts         int NOT NULL DEFAULT 0,
  due_real_at      timestamptz NOT NULL DEFAULT clock_timestamp(),  -- in work until then; afterwards anybody's
  created_real_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT spares_given_to_somebody CHECK (state <> 'given' OR workspace_id IS NOT NULL)
);
CREATE INDEX spares_by_instance ON spares (instance_id, created_real_at);
CREATE INDEX spares_by_workspace ON spares (workspace_id) WHERE state = 'given';
-- One is made or dropped at a time.
CREATE UNIQUE INDEX spares_one_in_work ON spares (instance_id) WHERE state IN ('making', 'dropping');

GRANT SELECT, INSERT, UPDATE, DELETE ON spares TO innkeeper_app;
