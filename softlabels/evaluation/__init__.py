"""Judging soft labels against a true reference."""
