"""Drives the others: slots, ready events and deliveries, batch by batch, under leases."""
