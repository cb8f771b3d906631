"""An agent and an HAProxy of different versions: neither reads what the other wrote as something else."""

from collections.abc import Callable

from innkeeper.gateway.config import CONFIGURATION, write_config
from innkeeper.gateway.held import FORMAT
from support.gateway import Gateway
from support.waiting import eventually


def of_another_format(front: Gateway) -> None:
    """HAProxy as another version would have started it, with an entry that this one would misread."""
    write_config(front.settings)
    configuration = front.settings.directory / CONFIGURATION
    text = configuration.read_text()
    assert text.count(f"proc.format int({FORMAT})") == 1
    configuration.write_text(text.replace(f"proc.format int({FORMAT})", f"proc.format int({FORMAT - 1})"))
    front.run_haproxy()
    front.runtime("add map hosts.map shop.apps.localhost shop.1")


def test_an_agent_leaves_an_haproxy_of_another_format_alone(make_front: Callable[..., Gateway]):
    front = make_front(start=False)
    site, app = front.workspace("shop"), front.app("shop")
    version = front.publish(site, app)
    of_another_format(front)
    held = front.runtime("show map hosts.map")
    front.start_agent()
    eventually(lambda: "configuration of another version" in front.log("agent.log"))
    # Neither registered nor filled nor believed.
    assert front.rows("SELECT 1 FROM gateways") == []
    assert front.runtime("show map hosts.map") == held
    # Control: one of its own format, in its place, is taken at once by the agent that waits.
    front.kill(front.haproxy)
    front.start_haproxy()
    front.settled(version)
    assert front.get(site).text == "shop"


def test_an_agent_that_comes_later_adopts_an_haproxy_of_its_own_format(make_front: Callable[..., Gateway]):
    """The control of the control: what is refused above is the format, not the age."""
    front = make_front()
    site, _ = front.awake("shop")
    boot = front.boot_id()
    front.kill(front.agent)
    front.start_agent()
    front.settled(version := front.withdraw(site))
    eventually(lambda: front.drained(site, version))
    assert (front.boot_id(), front.one("SELECT count(*) FROM gateways")) == (boot, 1)
    assert "another version" not in front.log("agent.log")
