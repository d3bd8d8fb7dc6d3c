"""Measurements: `python -m bench.NAME --json OUT`. Numbers for people and programs."""
