"""Customers: the organisations that pay."""

from typing import Any, cast

from psycopg.rows import class_row

from innkeeper.model.workspace import Customer
from innkeeper.store.session import Session

_COLUMNS = "id, name, contact_name, contact_email, plan, created_at"


def insert(
    session: Session, *, customer_id: str, name: str, contact_name: str, contact_email: str, plan: str
) -> Customer:
    """A new customer; ``Conflict`` when the name is taken."""
    with session.cursor(row_factory=class_row(Customer)) as cursor:
        query = (
            "INSERT INTO customers (id, name, contact_name, contact_email, plan) VALUES (%s, %s,"
            f" %s, %s, %s) RETURNING {_COLUMNS}"
        )
        return cast(
            "Customer", cursor.execute(query, (customer_id, name, contact_name, contact_email, plan)).fetchone()
        )


def find(session: Session, id_or_name: str) -> Customer | None:
    """By id, or by exact name."""
    with session.cursor(row_factory=class_row(Customer)) as cursor:
        query = f"SELECT {_COLUMNS} FROM customers WHERE id = %(key)s OR name = %(key)s ORDER BY id <> %(key)s LIMIT 1"
        return cursor.execute(query, {"key": id_or_name}).fetchone()


def page(session: Session, *, after: str, limit: int) -> list[Customer]:
    """At most ``limit`` customers in order of id, from the one behind ``after``."""
    with session.cursor(row_factory=class_row(Customer)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM customers WHERE id > %s ORDER BY id LIMIT %s", (after, limit)
        ).fetchall()


def other_emails(session: Session, customer_id: str) -> list[str]:
    """Members' addresses beside the contact's, for a notice that the contact's relay refused."""
    rows: list[dict[str, Any]] = session.execute(
        "SELECT u.email FROM members m JOIN users u ON u.id = m.user_id WHERE m.customer_id = %s ORDER BY u.email",
        (customer_id,),
    ).fetchall()
    return [row["email"] for row in rows]
