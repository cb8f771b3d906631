"""What is true: frozen dataclasses and pure decisions. Standard library only, no I/O, time is an argument."""
