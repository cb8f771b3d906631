"""What stands in for clusters, servers and relays on one machine: PostgreSQL, processes, a folder of mails."""
