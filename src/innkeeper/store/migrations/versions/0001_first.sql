-- The state database. Owner role: innkeeper_owner (runs migrations). Application: innkeeper_app. Gateway agents:
-- innkeeper_gateway. Times named *_real_at and leases are real time; every other *_at is business time (business_now()).

-- --- time ------------------------------------------------------------------------------------------------------------

CREATE TABLE installation (
  single            boolean PRIMARY KEY DEFAULT true CONSTRAINT installation_single CHECK (single),
  id                text NOT NULL DEFAULT gen_random_uuid()::text,
  movable           boolean NOT NULL,
  clock_offset      interval NOT NULL DEFAULT '0',
  moved_real_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  doubt_real_at     timestamptz,
  doubt_reason      text,
  bootstrap_used    boolean NOT NULL DEFAULT false,
  CONSTRAINT installation_clock_fixed CHECK (movable OR clock_offset = '0'),
  CONSTRAINT installation_clock_forward CHECK (clock_offset >= '0')
);

-- SECURITY DEFINER, because gateways stamp their rows with it and may not read the installation.
-- UTC, because a day of the offset must be 24 hours, whatever time zone the asking session keeps.
CREATE FUNCTION business_now() RETURNS timestamptz LANGUAGE sql STABLE SECURITY DEFINER
  SET search_path = public, pg_temp SET timezone = 'UTC'
  AS 'SELECT clock_timestamp() + clock_offset FROM installation';

CREATE FUNCTION installation_is_permanent() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.movable IS DISTINCT FROM OLD.movable OR NEW.id IS DISTINCT FROM OLD.id THEN
    RAISE EXCEPTION 'an installation stays movable or fixed for life';
  END IF;
  IF NEW.clock_offset < OLD.clock_offset THEN
    RAISE EXCEPTION 'business time never moves backwards';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER installation_permanent BEFORE UPDATE ON installation
  FOR EACH ROW EXECUTE FUNCTION installation_is_permanent();

-- One row a host: a worker's last reading of business time beside the host's own clock, and the advances recorded by
-- then, to notice that business time was moved behind the product's back.
CREATE TABLE clock_readings (
  host_boot   text PRIMARY KEY,
  at          timestamptz NOT NULL,
  boot_time   double precision NOT NULL,
  advanced    double precision NOT NULL
);

CREATE TABLE clock_moves (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  seconds  double precision NOT NULL,
  real_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A requested passage of business time (inn clock advance), walked due instant by due instant by the worker.
CREATE TABLE clock_passages (
  operation_id  text PRIMARY KEY,
  target_at     timestamptz NOT NULL,
  created_real_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished      boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX clock_passages_one ON clock_passages (finished) WHERE NOT finished;

-- When each sweep last began and ended a whole run; "settled" means: began after the clock moved, and ended.
CREATE TABLE sweeps (
  name              text PRIMARY KEY,
  started_real_at   timestamptz NOT NULL,
  finished_real_at  timestamptz
);

-- --- people ----------------------------------------------------------------------------------------------------------

CREATE TABLE customers (
  id             text PRIMARY KEY,
  name           text NOT NULL,
  contact_name   text NOT NULL,
  contact_email  text NOT NULL,
  plan           text NOT NULL CONSTRAINT customers_plan CHECK (plan IN ('free', 'pro', 'enterprise')),
  version        bigint NOT NULL DEFAULT 1,
  created_at     timestamptz NOT NULL DEFAULT business_now(),
  CONSTRAINT customers_name_unique UNIQUE (name)
);

CREATE TABLE users (
  id             text PRIMARY KEY,
  issuer         text NOT NULL,
  subject        text NOT NULL,
  email          text NOT NULL,
  name           text NOT NULL,
  created_at     timestamptz NOT NULL DEFAULT business_now(),
  CONSTRAINT users_identity_unique UNIQUE (issuer, subject)
);

CREATE TABLE members (
  customer_id  text NOT NULL REFERENCES customers,
  user_id      text NOT NULL REFERENCES users,
  role         text NOT NULL CONSTRAINT members_role CHECK (role IN ('owner', 'admin', 'member')),
  PRIMARY KEY (customer_id, user_id)
);
CREATE INDEX members_by_user ON members (user_id);

CREATE TABLE sign_ins (
  state_hash         bytea PRIMARY KEY,
  browser_hash       bytea NOT NULL,
  nonce              text NOT NULL,
  verifier           text NOT NULL,
  return_to          text NOT NULL,
  expires_real_at    timestamptz NOT NULL
);

CREATE TABLE sessions (
  id_hash            bytea PRIMARY KEY,
  user_id            text NOT NULL REFERENCES users,
  csrf               text NOT NULL,
  created_real_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  seen_real_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_real_at    timestamptz NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id);

CREATE TABLE tokens (
  id                 text PRIMARY KEY,
  name               text NOT NULL,
  secret_hash        bytea NOT NULL,
  scopes             text[] NOT NULL,
  created_by         text NOT NULL,
  created_real_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_real_at    timestamptz NOT NULL,
  revoked_real_at    timestamptz,
  used_real_at       timestamptz,
  CONSTRAINT tokens_secret_unique UNIQUE (secret_hash)
);

CREATE TABLE idempotency (
  actor              text NOT NULL,
  key                text NOT NULL,
  request_hash       bytea NOT NULL,
  status             int,
  headers            jsonb,
  body               bytea,
  created_real_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (actor, key)
);

-- --- what is run, and where ------------------------------------------------------------------------------------------

CREATE TABLE apps (
  id           text PRIMARY KEY,
  name         text NOT NULL,
  version      text NOT NULL,
  spec         jsonb NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT business_now(),
  CONSTRAINT apps_version_unique UNIQUE (name, version)
);

CREATE TABLE instances (
  id                    text PRIMARY KEY,
  name                  text NOT NULL CONSTRAINT instances_name_unique UNIQUE,
  kind                  text NOT NULL CONSTRAINT instances_kind CHECK (kind IN ('shared', 'dedicated')),
  host                  text NOT NULL,
  port                  int NOT NULL,
  admin_secret          text NOT NULL,
  state                 text NOT NULL DEFAULT 'open' CONSTRAINT instances_state CHECK (state IN ('open', 'cordoned', 'draining')),
  database_capacity     int NOT NULL CONSTRAINT instances_databases CHECK (database_capacity >= 0),
  connection_capacity   int NOT NULL CONSTRAINT instances_connections CHECK (connection_capacity >= 0),
  version               bigint NOT NULL DEFAULT 1,
  created_at            timestamptz NOT NULL DEFAULT business_now()
);

-- --- workspaces ------------------------------------------------------------------------------------------------------

CREATE TABLE workspaces (
  id                    text PRIMARY KEY,
  slug                  text NOT NULL,
  customer_id           text NOT NULL REFERENCES customers,
  plan                  text NOT NULL CONSTRAINT workspaces_plan CHECK (plan IN ('free', 'pro', 'enterprise')),
  app_id                text NOT NULL REFERENCES apps,
  instance_id           text REFERENCES instances,
  state                 text NOT NULL CONSTRAINT workspaces_state CHECK
    (state IN ('provisioning', 'active', 'deactivating', 'deactivated', 'waking', 'purging', 'purged')),
  generation            int NOT NULL DEFAULT 0,
  version               bigint NOT NULL DEFAULT 1,          -- raised by every change a reader can see: the ETag
  created_at            timestamptz NOT NULL DEFAULT business_now(),
  last_traffic_at       timestamptz,                        -- null: none seen yet
  activated_at          timestamptz,
  deactivated_at        timestamptz,
  purge_at              timestamptz,                        -- as things stand; null while active
  held_by               text,                               -- who placed the legal hold; null: none
  suspended             boolean NOT NULL DEFAULT false,
  database_ready        boolean NOT NULL DEFAULT false,     -- its database was created, hardened and verified once
  ordered               boolean NOT NULL DEFAULT false,     -- this deactivation was asked for: traffic does not undo it
  decided_at            timestamptz,                        -- when the running deactivation was decided
  operation_id          text,
  problem               jsonb,
  -- scheduling
  due_real_at           timestamptz,                        -- null: nothing to converge
  lease_until_real_at   timestamptz,
  lease_owner           text,
  fence                 bigint NOT NULL DEFAULT 0,          -- raised by every claim
  attempts              int NOT NULL DEFAULT 0,
  idle_due_at           timestamptz,                        -- active: when idleness is to be judged
  retention_due_at      timestamptz,                        -- deactivated: next notice or the purge
  -- capacity
  connections           int NOT NULL,                       -- what an activation needs
  connections_reserved  int NOT NULL DEFAULT 0,
  CONSTRAINT workspaces_slug_unique UNIQUE (slug),          -- rows stay for ever: a purged slug is a tombstone
  CONSTRAINT workspaces_purged_is_quiet CHECK (state <> 'purged' OR due_real_at IS NULL)
);
CREATE INDEX workspaces_due ON workspaces (due_real_at) WHERE due_real_at IS NOT NULL;
CREATE INDEX workspaces_idle ON workspaces (idle_due_at) WHERE state = 'active';
CREATE INDEX workspaces_retention ON workspaces (retention_due_at) WHERE state = 'deactivated' AND held_by IS NULL;
CREATE INDEX workspaces_by_customer ON workspaces (customer_id, id);
CREATE INDEX workspaces_by_instance ON workspaces (instance_id, id) WHERE state <> 'purged';
CREATE INDEX workspaces_by_state ON workspaces (state, id);

CREATE FUNCTION workspaces_keep_their_word() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.state = 'purged' AND NEW.state <> 'purged' THEN
    RAISE EXCEPTION 'workspace % was purged, which is for ever', OLD.id;
  END IF;
  IF OLD.state = 'purging' AND NEW.state NOT IN ('purging', 'purged') THEN
    RAISE EXCEPTION 'workspace % is being purged and cannot come back', OLD.id;
  END IF;
  IF NEW.slug <> OLD.slug OR NEW.id <> OLD.id THEN
    RAISE EXCEPTION 'a workspace keeps its id and slug';
  END IF;
  IF NEW.generation < OLD.generation OR NEW.fence < OLD.fence THEN
    RAISE EXCEPTION 'generation and fence only grow';
  END IF;
  RETURN NEW;
END $$;
-- Only where one of these is set: leases, due times and folded traffic are written far more often.
CREATE TRIGGER workspaces_invariants BEFORE UPDATE OF id, slug, state, generation, fence ON workspaces
  FOR EACH ROW EXECUTE FUNCTION workspaces_keep_their_word();

CREATE TABLE workspace_secrets (
  workspace_id  text NOT NULL REFERENCES workspaces,
  name          text NOT NULL,
  sealed        bytea NOT NULL,
  show_owner    boolean NOT NULL,
  PRIMARY KEY (workspace_id, name)
);

-- One life of a container; due until its objects are verified absent.
CREATE TABLE activations (
  workspace_id          text NOT NULL REFERENCES workspaces,
  generation            int NOT NULL,
  phase                 text NOT NULL CONSTRAINT activations_phase CHECK (phase IN ('starting', 'ready', 'stopping', 'ended', 'absent')),
  sealed_key            bytea NOT NULL,                     -- what its password is derived from; wiped when it ends
  address               text,
  pid                   int,
  started_at            timestamptz NOT NULL DEFAULT business_now(),
  started_real_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  ready_at              timestamptz,
  ended_at              timestamptz,
  withdrawn_version     bigint,                             -- route version that withdrew it
  due_real_at           timestamptz,
  PRIMARY KEY (workspace_id, generation)
);
CREATE INDEX activations_due ON activations (due_real_at) WHERE due_real_at IS NOT NULL;
CREATE INDEX activations_living ON activations (phase, workspace_id, generation) WHERE phase <> 'absent';

CREATE TABLE notices (
  workspace_id      text NOT NULL REFERENCES workspaces,
  generation        int NOT NULL,
  kind              text NOT NULL CONSTRAINT notices_kind CHECK (kind IN ('first', 'last')),
  recipient         text NOT NULL,
  created_at        timestamptz NOT NULL DEFAULT business_now(),
  accepted_at       timestamptz,
  failure           text,
  PRIMARY KEY (workspace_id, generation, kind)
);

-- Destructive acts, counted over 24 h of real time; the breaker latches until someone resets it.
CREATE TABLE destructive_acts (
  workspace_id      text PRIMARY KEY,
  kind              text NOT NULL,
  real_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
  at                timestamptz NOT NULL DEFAULT business_now()
);
CREATE INDEX destructive_acts_by_time ON destructive_acts (at);

CREATE TABLE breakers (
  name              text PRIMARY KEY,
  opened_at         timestamptz,
  reason            text,
  reset_at          timestamptz              -- acts before the last reset do not count again
);
INSERT INTO breakers (name) VALUES ('purge');

-- --- operations ------------------------------------------------------------------------------------------------------

CREATE TABLE operations (
  id               text PRIMARY KEY,
  kind             text NOT NULL,
  workspace_id     text REFERENCES workspaces DEFERRABLE INITIALLY DEFERRED,
  state            text NOT NULL DEFAULT 'running' CONSTRAINT operations_state CHECK (state IN ('running', 'done', 'failed', 'cancelled')),
  requested_by     text NOT NULL,
  requested_at     timestamptz NOT NULL DEFAULT business_now(),
  finished_at      timestamptz,
  error            jsonb,
  detail           jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX operations_by_workspace ON operations (workspace_id, requested_at DESC);
CREATE INDEX operations_by_time ON operations (requested_at DESC, id);

CREATE TABLE operation_events (
  operation_id  text NOT NULL REFERENCES operations,
  seq           int NOT NULL,
  at            timestamptz NOT NULL DEFAULT business_now(),
  step          text NOT NULL,
  message       text NOT NULL,
  PRIMARY KEY (operation_id, seq)
);

-- --- routes and gateways ---------------------------------------------------------------------------------------------

CREATE TABLE route_clock (
  single   boolean PRIMARY KEY DEFAULT true CHECK (single),
  version  bigint NOT NULL DEFAULT 0
);
INSERT INTO route_clock DEFAULT VALUES;

CREATE TABLE routes (
  workspace_id   text PRIMARY KEY REFERENCES workspaces,
  host           text NOT NULL CONSTRAINT routes_host_unique UNIQUE,
  status         text NOT NULL CONSTRAINT routes_status CHECK (status IN ('awake', 'asleep', 'refused', 'purged')),
  generation     int NOT NULL,
  ip             text,
  port           int,
  version        bigint NOT NULL,
  refusal        text,                        -- suspended, no-capacity, failed, purging
  retry_after    int,                         -- seconds
  refused_until_real_at timestamptz,          -- then the control plane makes it asleep again; null: until told
  close_after_real_at timestamptz,            -- withdrawn by order: streams may be cut from here on
  idle           jsonb NOT NULL DEFAULT '{}', -- {"probe_agents": [...], "ignore_paths": [...], "health_path": "/..."}
  CONSTRAINT routes_awake_has_address CHECK ((status = 'awake') = (ip IS NOT NULL AND port IS NOT NULL))
);
CREATE INDEX routes_by_version ON routes (version);
CREATE INDEX routes_refused ON routes (refused_until_real_at) WHERE refused_until_real_at IS NOT NULL;

-- A gateway process (one boot of one HAProxy). Agents may only insert; the control plane ends a row when proved gone.
CREATE TABLE gateways (
  gateway_id          text NOT NULL,
  boot_id             text NOT NULL,
  registered_real_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  registration        bigint GENERATED ALWAYS AS IDENTITY,  -- which came later, whatever the clock says
  first_version       bigint NOT NULL DEFAULT -1,           -- of the route clock then: what was withdrawn, it never had
  ended_real_at       timestamptz,
  PRIMARY KEY (gateway_id, boot_id)
);
CREATE UNIQUE INDEX gateways_live ON gateways (gateway_id, boot_id) WHERE ended_real_at IS NULL;

-- One row a reading of all cumulative counters: between two readings of one boot nothing is unknown.
CREATE TABLE gateway_reads (
  gateway_id    text NOT NULL,
  boot_id       text NOT NULL,
  read_no       bigint NOT NULL,
  real_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  read_at       timestamptz NOT NULL DEFAULT business_now(),
  final         boolean NOT NULL DEFAULT false,      -- handed in by a gateway that leaves cleanly
  PRIMARY KEY (gateway_id, boot_id, read_no)
);

-- What a reading found changed: requests since the reading before, and streams open at that moment.
CREATE TABLE activity (
  gateway_id    text NOT NULL,
  boot_id       text NOT NULL,
  read_no       bigint NOT NULL,
  workspace_id  text NOT NULL,
  requests      bigint NOT NULL,
  bytes         bigint NOT NULL,
  open_streams  int NOT NULL,
  PRIMARY KEY (gateway_id, boot_id, read_no, workspace_id)
);

-- Streams a gateway reported open at its last reading that mentioned the workspace (kept by the fold).
CREATE TABLE open_streams (
  gateway_id    text NOT NULL,
  boot_id       text NOT NULL,
  workspace_id  text NOT NULL,
  open_streams  int NOT NULL,
  real_at       timestamptz NOT NULL,
  PRIMARY KEY (gateway_id, boot_id, workspace_id)
);
CREATE INDEX open_streams_by_workspace ON open_streams (workspace_id);

-- "I have applied every route up to this version, read the map back and asked my own HAProxy."
CREATE TABLE acknowledgements (
  gateway_id    text NOT NULL,
  boot_id       text NOT NULL,
  version       bigint NOT NULL,
  real_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (gateway_id, boot_id, version)
);

-- After the acknowledgement of a withdrawal: streams left on that activation, and requests counted in its last reading.
CREATE TABLE drains (
  gateway_id    text NOT NULL,
  boot_id       text NOT NULL,
  workspace_id  text NOT NULL,
  version       bigint NOT NULL,          -- of the withdrawal
  drain_no      bigint NOT NULL,
  open_streams  int NOT NULL,
  read_no       bigint NOT NULL,          -- a reading taken after the last stream ended, already inserted
  real_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (gateway_id, boot_id, workspace_id, version, drain_no)
);

CREATE TABLE wake_requests (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  workspace_id  text NOT NULL,
  gateway_id    text NOT NULL,
  real_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX wake_requests_by_workspace ON wake_requests (workspace_id);

-- --- audit -----------------------------------------------------------------------------------------------------------

CREATE TABLE audit (
  seq       bigint PRIMARY KEY,
  at        timestamptz NOT NULL,
  real_at   timestamptz NOT NULL,
  actor     text NOT NULL,
  action    text NOT NULL,
  target    text NOT NULL,
  detail    text NOT NULL,           -- canonical JSON, as hashed
  previous  bytea NOT NULL,
  hash      bytea NOT NULL
);
CREATE INDEX audit_by_target ON audit (target, seq);

CREATE TABLE audit_head (
  single  boolean PRIMARY KEY DEFAULT true CHECK (single),
  seq     bigint NOT NULL DEFAULT 0,
  hash    bytea NOT NULL DEFAULT '\x0000000000000000000000000000000000000000000000000000000000000000'
);
INSERT INTO audit_head DEFAULT VALUES;

-- The chain is made here, as the owner: the application can neither choose a place in it nor touch its head.
-- hash = sha256(previous || for each of seq, at, real_at (microseconds since 1970), actor, action, target, detail:
--               decimal byte length, ':', UTF-8 bytes). model/audit.py computes the same.
CREATE FUNCTION audit_field(value text) RETURNS bytea LANGUAGE sql IMMUTABLE
  AS $$ SELECT convert_to(octet_length(convert_to(value, 'UTF8')) || ':' || value, 'UTF8') $$;

CREATE FUNCTION audit_chain() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE head audit_head;
BEGIN
  SELECT * INTO head FROM audit_head FOR UPDATE;
  NEW.seq := head.seq + 1;
  NEW.at := business_now();
  NEW.real_at := clock_timestamp();
  NEW.previous := head.hash;
  NEW.hash := sha256(head.hash
    || audit_field(NEW.seq::text)
    || audit_field((extract(epoch FROM NEW.at) * 1000000)::bigint::text)
    || audit_field((extract(epoch FROM NEW.real_at) * 1000000)::bigint::text)
    || audit_field(NEW.actor) || audit_field(NEW.action) || audit_field(NEW.target) || audit_field(NEW.detail));
  UPDATE audit_head SET seq = NEW.seq, hash = NEW.hash;
  RETURN NEW;
END $$;
CREATE TRIGGER audit_is_chained BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_chain();

-- --- grants ----------------------------------------------------------------------------------------------------------

REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO innkeeper_app, innkeeper_gateway;
GRANT EXECUTE ON FUNCTION business_now() TO innkeeper_app, innkeeper_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO innkeeper_app;
REVOKE INSERT, UPDATE, DELETE ON installation, audit_head, audit, route_clock FROM innkeeper_app;
REVOKE DELETE, TRUNCATE ON workspaces, activations, routes, customers, operations, notices, destructive_acts FROM innkeeper_app;
REVOKE UPDATE, DELETE ON clock_moves FROM innkeeper_app;
REVOKE INSERT, DELETE ON breakers FROM innkeeper_app;
REVOKE DELETE ON gateways FROM innkeeper_app;
REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM innkeeper_app;
GRANT INSERT ON audit TO innkeeper_app;
GRANT UPDATE (version) ON route_clock TO innkeeper_app;
GRANT UPDATE (clock_offset, moved_real_at, doubt_real_at, doubt_reason, bootstrap_used) ON installation TO innkeeper_app;

GRANT SELECT ON routes, route_clock TO innkeeper_gateway;
GRANT INSERT ON gateways, gateway_reads, activity, acknowledgements, drains, wake_requests TO innkeeper_gateway;
