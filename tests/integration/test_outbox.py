"""The outbox's pages over a folder that the mail adapter filled."""

import os
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from innkeeper.adapters.local.mail import MailFolder
from innkeeper.outbox.app import create_outbox
from innkeeper.ports import Mail


@pytest.fixture
def mailer(tmp_path: Path) -> MailFolder:
    return MailFolder(tmp_path, sender="innkeeper@localhost")


@pytest.fixture
def pages(tmp_path: Path, mailer: MailFolder) -> TestClient:
    return TestClient(create_outbox(tmp_path))


def test_an_empty_outbox_says_so(pages: TestClient):
    answer = pages.get("/")
    assert answer.status_code == 200
    assert "No mail yet" in answer.text


def test_the_list_shows_the_newest_first_and_leads_to_the_mail(pages: TestClient, mailer: MailFolder, tmp_path: Path):
    for number, name in enumerate(("first", "second")):
        mailer.send(Mail(name, "ada@example.org", f"The {name}", f"See http://hub.localhost:8080/{name}.\n"))
        os.utime(tmp_path / f"{name}.eml", (1_000_000 + number, 1_000_000 + number))
    text = pages.get("/").text
    assert text.index("The second") < text.index("The first")
    assert 'href="/mail/first"' in text
    shown = pages.get("/mail/first")
    assert '<a href="http://hub.localhost:8080/first">http://hub.localhost:8080/first</a>.' in shown.text
    assert "Subject: The first" in pages.get("/mail/first/source").text


def test_what_a_mail_holds_is_text(pages: TestClient, mailer: MailFolder):
    mailer.send(
        Mail("m", "ada@example.org", "<script>alert(1)</script>", '<img src=x> http://x/"><script>y</script>\n')
    )
    for path in ("/", "/mail/m"):
        answer = pages.get(path)
        assert "<script" not in answer.text
        assert "<img" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert pages.get("/mail/m/source").headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("name", ["nothing", "..%2Fsecret", "%2e%2e%2fsecret", "a.eml", "tmp", "%00", "-x"])
def test_no_name_leads_out_of_the_folder(pages: TestClient, tmp_path: Path, name: str):
    (tmp_path.parent / "secret.eml").write_text("Subject: secret\n\nsecret\n")
    for path in (f"/mail/{name}", f"/mail/{name}/source"):
        answer = pages.get(path)
        assert answer.status_code == 404
        assert "secret\n" not in answer.text
