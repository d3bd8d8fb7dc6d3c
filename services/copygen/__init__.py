"""Keeps the words of notifications and chooses which a delivery carries."""
