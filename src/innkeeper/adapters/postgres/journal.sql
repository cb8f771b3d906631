-- The admin database of an instance. Run by prepare.py in one transaction; every statement may be repeated.
-- IK001 (a stale fence), IK002 (busy) and IK003 (not as it should be) are named in errors.py.

CREATE SCHEMA IF NOT EXISTS innkeeper;
CREATE TABLE IF NOT EXISTS innkeeper.version (
  version      int         NOT NULL,
  at           timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS innkeeper.tenants (
  workspace_id text        CONSTRAINT tenants_pkey PRIMARY KEY,
  fence        bigint      NOT NULL,
  database     text        NOT NULL,
  intent       text        NOT NULL DEFAULT 'none'
               CONSTRAINT tenants_intent CHECK (intent IN ('none', 'creating', 'ready', 'dropping', 'dropped')),
  intent_fence bigint      NOT NULL DEFAULT 0,
  hardening    int         NOT NULL DEFAULT 0,
  extensions   text[]      NOT NULL DEFAULT '{}',
  changed_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE OR REPLACE FUNCTION innkeeper.lock_key(ws text) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT hashtextextended('workspace ' || ws, 0) $$;

CREATE OR REPLACE FUNCTION innkeeper.enter(ws text, db text, claimed bigint, whole_session boolean) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  seen bigint;
  alone boolean;
BEGIN
  PERFORM set_config('application_name', format('innkeeper %s %s', ws, claimed), NOT whole_session);
  SELECT fence INTO seen FROM innkeeper.tenants WHERE workspace_id = ws;
  IF seen > claimed THEN
    RAISE EXCEPTION 'fence % of workspace % is stale: % has been here', claimed, ws, seen USING ERRCODE = 'IK001';
  END IF;
  IF whole_session THEN
    alone := pg_try_advisory_lock(innkeeper.lock_key(ws));
  ELSE
    alone := pg_try_advisory_xact_lock(innkeeper.lock_key(ws));
  END IF;
  IF NOT alone THEN
    RAISE EXCEPTION 'another session acts for workspace %', ws USING ERRCODE = 'IK002';
  END IF;
  -- Again, under the lock: the session that held it may have been a newer one.
  INSERT INTO innkeeper.tenants AS t (workspace_id, fence, database) VALUES (ws, claimed, db)
    ON CONFLICT (workspace_id) DO UPDATE SET fence = excluded.fence WHERE t.fence <= excluded.fence;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'fence % of workspace % is stale', claimed, ws USING ERRCODE = 'IK001';
  END IF;
END $$;

CREATE OR REPLACE FUNCTION innkeeper.must_be(holds boolean, what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF holds IS NOT TRUE THEN
    RAISE EXCEPTION '%', what USING ERRCODE = 'IK003';
  END IF;
END $$;

-- DDL that depends on what is there cannot be said in plain SQL.
CREATE OR REPLACE FUNCTION innkeeper.ensure_role(r text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  other record;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
    EXECUTE format('CREATE ROLE %I NOLOGIN', r);
  END IF;
  -- Neither a member of anything nor shared with anybody.
  FOR other IN SELECT roleid::regrole AS granted, member::regrole AS grantee FROM pg_auth_members
                WHERE r::regrole IN (roleid, member) LOOP
    EXECUTE format('REVOKE %s FROM %s CASCADE', other.granted, other.grantee);
  END LOOP;
END $$;

CREATE OR REPLACE FUNCTION innkeeper.close_role(r text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
    EXECUTE format('ALTER ROLE %I WITH NOLOGIN PASSWORD NULL', r);
  END IF;
END $$;

CREATE OR REPLACE FUNCTION innkeeper.revoke_all(db text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  other record;
BEGIN
  FOR other IN SELECT DISTINCT CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS grantee
                 FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
                WHERE datname = db AND grantee <> datdba LOOP
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM %s CASCADE', db, other.grantee);
  END LOOP;
END $$;
