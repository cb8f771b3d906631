-- Clusters as rows, and on which of them each activation is. The version before this one knows one runtime, writes no
-- cluster and goes on running: what it begins gets the local cluster, by default.

CREATE TABLE clusters (
  id                  text PRIMARY KEY,
  name                text NOT NULL CONSTRAINT clusters_name_unique UNIQUE,
  kind                text NOT NULL CONSTRAINT clusters_kind CHECK (kind IN ('local', 'kubernetes')),
  access              text NOT NULL,                          -- where its credentials are; '' for local
  state               text NOT NULL DEFAULT 'open' CONSTRAINT clusters_state CHECK (state IN ('open', 'cordoned', 'draining')),
  capacity            int NOT NULL CONSTRAINT clusters_activations CHECK (capacity >= 0),
  dns_peers           text[] NOT NULL DEFAULT '{}',
  drain_operation_id  text REFERENCES operations,
  version             bigint NOT NULL DEFAULT 1,
  created_at          timestamptz NOT NULL DEFAULT business_now(),
  CONSTRAINT clusters_draining_is_followed CHECK ((state = 'draining') = (drain_operation_id IS NOT NULL))
);

-- Whoever already runs workspaces runs them as processes of its own machine.
INSERT INTO clusters (id, name, kind, access, capacity)
  SELECT 'cls-local', 'local', 'local', '', 1000 WHERE EXISTS (SELECT FROM activations);

CREATE FUNCTION local_cluster() RETURNS text LANGUAGE sql STABLE SET search_path = public, pg_temp
  AS $$ SELECT id FROM clusters WHERE kind = 'local' ORDER BY created_at, id LIMIT 1 $$;

ALTER TABLE activations ADD COLUMN cluster_id text DEFAULT local_cluster() REFERENCES clusters;
CREATE INDEX activations_by_cluster ON activations (cluster_id, phase, due_real_at) WHERE phase <> 'absent';

-- It is being moved to another cluster: once it has stopped, it is woken again.
ALTER TABLE workspaces ADD COLUMN moving boolean NOT NULL DEFAULT false;
CREATE INDEX workspaces_moving ON workspaces (id) WHERE moving;

REVOKE ALL ON FUNCTION local_cluster() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION local_cluster() TO innkeeper_app;
GRANT SELECT, INSERT, UPDATE ON clusters TO innkeeper_app;
