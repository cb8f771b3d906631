"""Row 7: requests a second to an awake workspace through the gateway / through the same HAProxy plain / nginx."""

from contextlib import ExitStack

from harness import Bench, Goal, Row, alone, say
from proxies import gateway, has_nginx, nginx, origin, plain, row, take_turns

PLAIN, NGINX = Goal(">=", 0.95), Goal(">=", 0.9)
WHAT = "gateway requests/s to an awake workspace"


def measure(bench: Bench) -> list[Row]:
    folder = bench.folder / "row7"
    folder.mkdir()
    with ExitStack() as stack:
        served = stack.enter_context(origin(folder))
        proxies = [
            stack.enter_context(gateway(folder / "gateway", served)),
            stack.enter_context(plain(folder, served)),
        ]
        if has_nginx():
            proxies.append(stack.enter_context(nginx(folder / "nginx", served)))
        else:
            say("no nginx on PATH: the ratio to it is left out")
        ours, *others = take_turns(proxies, quick=bench.quick)
    rows = [row("7", f"{WHAT} / the same HAProxy as a plain static proxy", PLAIN, ours, others[0])]
    if len(others) > 1:
        rows.append(row("7", f"{WHAT} / nginx as a proxy", NGINX, ours, others[1]))
    return rows


if __name__ == "__main__":
    alone(measure)
