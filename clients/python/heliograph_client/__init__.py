"""A small Python client for product teams: register event types, publish events, report back."""

from heliograph_client.client import Client, Connection, Rejected, Summary

__all__ = ["Client", "Connection", "Rejected", "Summary"]
