-- Where an activation is found whatever pod it has: the address of its Service. Null: there is none, or it was started by
-- the version before this one, which writes neither of them.

ALTER TABLE activations ADD COLUMN service text;

-- Copied when a route is published, with the generation it is of: when the version before this one publishes the next
-- generation, it leaves the last one's Service there, which may be another tenant's by then.
ALTER TABLE routes ADD COLUMN service text;
ALTER TABLE routes ADD COLUMN service_generation int;
