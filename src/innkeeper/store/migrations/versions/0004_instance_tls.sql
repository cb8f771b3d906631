-- How applications connect to an instance, as libpq's sslmode. Empty: encrypted, unless it is on this machine, which is
-- what the version before this one does with every instance.

ALTER TABLE instances ADD COLUMN ssl_mode text NOT NULL DEFAULT ''
  CONSTRAINT instances_ssl_mode CHECK (ssl_mode IN ('', 'disable', 'require', 'verify-full'));
