"""Logging without secrets: ``redaction`` knows them, ``setup`` configures a process. Imported by any layer above."""
