"""The `fastconv` command."""
