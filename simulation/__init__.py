"""Worlds with known truth that the system is played against."""
