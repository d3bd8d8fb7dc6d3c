"""The statements of queries.sql."""

from pathlib import Path

from services.runtime.database import load_queries

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))
