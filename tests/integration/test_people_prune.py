"""Sessions and sign-ins that have ended do not stay in the database."""

from innkeeper.store import people


def test_only_what_has_ended_is_forgotten(state):
    with state.transaction() as session:
        session.execute("INSERT INTO users VALUES ('u', 'https://issuer', 'sub', 'u@x.example', 'U')")
        for name, expires, seen in (
            ("alive", "1 hour", "0"),
            ("over", "-1 second", "0"),
            ("idle", "1 hour", "-9 hours"),
        ):
            session.execute(
                "INSERT INTO sessions (id_hash, user_id, csrf, seen_real_at, expires_real_at) VALUES"
                " (%s, 'u', 'c', clock_timestamp() + %s::interval, clock_timestamp() + %s::interval)",
                (name.encode(), seen, expires),
            )
        session.execute(
            "INSERT INTO sign_ins VALUES ('s', 'b', 'n', 'v', '/', clock_timestamp() - interval '1 second')"
        )
    with state.transaction() as session:
        assert people.prune(session) == 2
    with state.transaction() as session:
        left = session.execute("SELECT id_hash FROM sessions").fetchall()
        assert [bytes(row["id_hash"]) for row in left] == [b"alive"]
        assert session.execute("SELECT 1 FROM sign_ins").fetchall() == []
