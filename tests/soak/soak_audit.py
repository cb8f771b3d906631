"""Ten thousand random tampers of a real chain: each is found."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from innkeeper.model import audit
from innkeeper.model.audit import AuditRow, Head
from support.progress import Progress
from support.scenarios import Stage

SECTION = "audit tampers"
BATCH = 1000
UNITS = [f"seed {number}" for number in range(1, 11)]


def tamper(rows: list[AuditRow], head: Head, dice: random.Random) -> tuple[list[AuditRow], Head]:
    """As somebody who owns the database could: also with all hashes behind it made anew."""
    rows = list(rows)
    place = dice.randrange(len(rows))
    match dice.randrange(6):
        case 0:
            name = dice.choice(["actor", "action", "target", "detail"])
            rows[place] = replace(rows[place], **{name: getattr(rows[place], name) + dice.choice("xyz")})
        case 1:
            rows[place] = replace(rows[place], at=rows[place].at + timedelta(microseconds=dice.choice([-1, 1])))
        case 2:
            del rows[place]
        case 3:
            other = (place + 1 + dice.randrange(len(rows) - 1)) % len(rows)
            rows[place], rows[other] = (
                replace(rows[other], seq=rows[place].seq),
                replace(rows[place], seq=rows[other].seq),
            )
        case 4:
            del rows[place:]
            if dice.random() < 0.5:
                head = Head(len(rows), rows[-1].hash if rows else audit.GENESIS)
        case _:
            rows[place] = replace(rows[place], actor=rows[place].actor + "x")
            rows = rewritten(rows)
            head = Head(rows[-1].seq, rows[-1].hash)
    return rows, head


def rewritten(rows: list[AuditRow]) -> list[AuditRow]:
    previous, made = audit.GENESIS, list[AuditRow]()
    for row in rows:
        chained = replace(row, previous=previous)
        made.append(replace(chained, hash=audit.row_hash(chained)))
        previous = made[-1].hash
    return made


@pytest.mark.timeout(600)
@pytest.mark.parametrize("unit", Progress().left(SECTION, UNITS))
def test_every_tamper_is_found(stage: Stage, unit: str):
    with Progress().unit(SECTION, unit, of=UNITS) as reached:
        stage.asleep()
        stage.pass_time(timedelta(days=61))
        s = stage.site.look()
        anchor = s.head
        assert list(audit.verify(s.audit, s.head, [anchor])) == []
        dice = random.Random(unit)
        found = 0
        for _ in range(BATCH):
            rows, head = tamper(s.audit, s.head, dice)
            found += bool(list(audit.verify(rows, head, [anchor])))
        assert found == BATCH
        reached |= {"tampers": BATCH, "found": found}
