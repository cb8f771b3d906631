"""The local outbox: a page that shows the mails which local mode keeps in a folder instead of sending them."""
