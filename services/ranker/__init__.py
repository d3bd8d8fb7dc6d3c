"""Predicts what users do after a notification: one probability per event and head."""
