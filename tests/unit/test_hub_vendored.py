"""What the hub vendors is what VENDORED.md says, and no page names another origin."""

import hashlib
import re
from importlib import resources
from pathlib import Path

STATIC = Path(str(resources.files("innkeeper.hub") / "static"))
TEMPLATES = Path(str(resources.files("innkeeper.hub") / "templates"))


def test_vendored_files_are_unchanged_and_all_listed():
    folder = STATIC / "vendor"
    listed = dict(
        re.findall(r"^\| `([^`]+)` .*`([0-9a-f]{64})` \|$", (folder / "VENDORED.md").read_text(), re.MULTILINE)
    )
    present = {path.name for path in folder.iterdir() if "LICENSE" not in path.name and path.name != "VENDORED.md"}
    assert present == set(listed)
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


def test_every_vendored_file_names_a_licence_that_is_there():
    folder = STATIC / "vendor"
    licences = set(re.findall(r"[\w.-]+\.LICENSE(?:\.md)?", (folder / "VENDORED.md").read_text()))
    assert licences == {path.name for path in folder.glob("*LICENSE*")}


def test_own_pages_name_no_other_origin_and_nothing_inline():
    own = [*TEMPLATES.glob("*.html"), STATIC / "hub.css", STATIC / "hub.js"]
    assert len(own) > 10
    for path in own:
        text = path.read_text()
        assert not re.search(r"(?:src|href|url)[=(]\s*[\"']?(?:https?:)?//", text), path.name
        assert not re.search(r"<style|<script(?![^>]*src=)|\son\w+=|\sstyle=|hx-on|hx-vals=.js:", text), path.name
