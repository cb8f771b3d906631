-- The inside of every tenant database; what it is for is said in hardening.py. Run in the private template and, when
-- this file has changed, in each database: every statement may be repeated. With every change here raise HARDENING, in
-- model/workspace.py.

DO $$
DECLARE
  relation text;
  function regprocedure;
BEGIN
  FOREACH relation IN ARRAY ARRAY[
    -- Other sessions, what they do and hold.
    'pg_stat_activity', 'pg_stat_ssl', 'pg_stat_gssapi', 'pg_locks', 'pg_prepared_xacts',
    'pg_stat_progress_analyze', 'pg_stat_progress_basebackup', 'pg_stat_progress_cluster', 'pg_stat_progress_copy',
    'pg_stat_progress_create_index', 'pg_stat_progress_vacuum',
    -- Other databases, how busy they are and how many objects they have.
    'pg_stat_database', 'pg_stat_database_conflicts', 'pg_shdepend',
    -- What others set for their roles, and comments on them.
    'pg_db_role_setting', 'pg_parameter_acl', 'pg_shdescription', 'pg_shseclabel',
    -- Replication.
    'pg_stat_replication', 'pg_stat_replication_slots', 'pg_stat_subscription', 'pg_stat_subscription_stats',
    'pg_stat_wal_receiver', 'pg_replication_slots', 'pg_replication_origin'
  ] LOOP
    IF to_regclass('pg_catalog.' || relation) IS NOT NULL THEN
      EXECUTE format('REVOKE ALL ON pg_catalog.%I FROM PUBLIC', relation);
    END IF;
  END LOOP;
  FOR function IN
    SELECT oid FROM pg_proc
     WHERE pronamespace = 'pg_catalog'::regnamespace
       AND (
         -- Behind the views above.
         proname ~ '^pg_stat_get_(activity|backend_|db_|progress_info|wal_senders|wal_receiver|replication_slot)'
         OR proname ~ '^pg_stat_get_subscription'
         OR proname ~ '^pg_(lock_status|prepared_xact|get_replication_slots|tablespace_databases|control_.*)$'
         -- Files of the server: withheld by default, said again because an administrator may have said otherwise.
         OR proname ~ '^lo_(import|export)$'
         OR proname ~ '^pg_(read_|ls_|stat_file|current_logfile|hba_file_rules|ident_file_mappings)'
         -- The write-ahead log, which everybody shares.
         OR proname ~ '^pg_(logical_emit_message|(create|copy)_.*_replication_slot|drop_replication_slot)$'
         OR proname ~ '^pg_(replication_slot_advance|logical_slot_.*|replication_origin_.*|wal_summary_contents)$'
       )
  LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function);
  END LOOP;
END $$;

-- Names of roles are needed (psql, pg_dump); what a tenant set for its own role is not for others.
REVOKE ALL ON pg_catalog.pg_roles, pg_catalog.pg_user FROM PUBLIC;
GRANT SELECT (oid, rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,
  rolconnlimit, rolbypassrls) ON pg_catalog.pg_roles TO PUBLIC;
GRANT SELECT (usename, usesysid, usecreatedb, usesuper, userepl, usebypassrls) ON pg_catalog.pg_user TO PUBLIC;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
