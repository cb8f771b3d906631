"""``python -m innkeeper.gateway DIRECTORY``: the agent of the gateway whose configuration lies there."""

import logging
import sys
from pathlib import Path

from innkeeper.gateway.agent import run_agent
from innkeeper.gateway.config import AGENT_SETTINGS
from innkeeper.gateway.settings import GatewaySettings


def main(arguments: list[str]) -> int:
    """Exit status 0 after a clean end, 1 if another agent runs, 2 for wrong usage."""
    if len(arguments) != 1 or not (Path(arguments[0]) / AGENT_SETTINGS).is_file():
        sys.stderr.write("usage: python -m innkeeper.gateway DIRECTORY (with an agent.json from write_config)\n")
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return run_agent(GatewaySettings.from_json((Path(arguments[0]) / AGENT_SETTINGS).read_text(encoding="utf-8")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
