"""``make bench``: every row on one running product, then one table. ``--only 6 7`` for some, ``--scale``: full size.

``--quick`` takes less than a minute, and leaves out what cannot be that short: the table says so.
"""

import argparse
import sys
from collections.abc import Callable

import footprint
import kwok_scale
import row1_cluster_provision
import row1_cold_provision
import row2_spare
import row3_provision_rate
import row4_sweep_scale
import row6_activity_tracking
import row7_proxy
import row8_wake
import row9_api_reads
import row11_objects
import row12_cluster_wake
from harness import Bench, Row, run

ROWS: dict[str, Callable[[Bench], list[Row]]] = {
    "footprint": footprint.measure,  # first: nothing was done yet
    "8": row8_wake.measure,
    "2": row2_spare.measure,
    "1": row1_cold_provision.measure,
    "9": row9_api_reads.measure,
    "3": row3_provision_rate.measure,  # last of those on the product: it leaves many workspaces
    "4": row4_sweep_scale.measure,
    "6": row6_activity_tracking.measure,
    "7": row7_proxy.measure,
    "1-cluster": row1_cluster_provision.measure,
    "11": row11_objects.measure,
    "12": row12_cluster_wake.measure,
    "kwok": kwok_scale.measure,
}
LARGE = ("kwok",)
"""Only with --scale, unless asked for."""

LONG = {
    "1-cluster": "waits for namespaces to vanish: a minute",
    "11": "starts an API server of its own: a quarter of a minute",
    "12": "waits for a kubelet to start pods and to end them: a minute",
}
"""Not with --quick, unless asked for, and why."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="in less than a minute: fewer pairs, shorter loads, little of a cluster"
    )
    parser.add_argument("--scale", action="store_true", help="row 4 with 1,000,000 workspaces, kwok with 3,000")
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    arguments = parser.parse_args()
    usual = {name for name in ROWS if arguments.scale or name not in LARGE}
    wanted = set(arguments.only or (usual - LONG.keys() if arguments.quick else usual))
    left_out = [] if arguments.only else [_left_out(name) for name in LONG if name in usual - wanted]
    measures = [measure for name, measure in ROWS.items() if name in wanted]
    run(measures, quick=arguments.quick, scale=arguments.scale, left_out=left_out)


def _left_out(name: str) -> Row:
    what = sys.modules[ROWS[name].__module__].__doc__ or ""
    how = f'make bench ARGS="--quick --only {name}", or without --quick'
    return Row.not_measured(name, what.partition(": ")[2].splitlines()[0].rstrip("."), None, f"it {LONG[name]}; {how}")


if __name__ == "__main__":
    main()
