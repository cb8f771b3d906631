"""What a machine has more of than before: two results of machine.traces compared. Called by __main__.py, for CI.

What is less afterwards is nobody's fault: `make cluster-down` may have taken away what an earlier, killed run had left.
A setting that was not there before came with a kernel module, which stays loaded; one that was there must be as it was.
"""

from collections import Counter

Facts = dict[str, "list[str] | dict[str, str]"]


def added(before: Facts, after: Facts) -> list[str]:
    """A line for each thing that came and each setting that changed; empty when the machine is as clean as it was."""
    found: list[str] = []
    for kind, now in after.items():
        then = before.get(kind)
        if isinstance(now, dict):
            known = then if isinstance(then, dict) else {}
            changed = {name: value for name, value in now.items() if known.get(name, value) != value}
            found += [f"{kind}: {name} is {value}, was {known[name]}" for name, value in changed.items()]
        else:
            more = Counter(now) - Counter(then if isinstance(then, list) else [])
            found += [f"{kind}: {thing.strip()}" for thing in more.elements()]
    return found
