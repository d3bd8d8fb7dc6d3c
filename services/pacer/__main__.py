"""Runs the pacer as a process of its own."""

from services.pacer.bind import bind
from services.runtime import main

main("pacer", bind)
