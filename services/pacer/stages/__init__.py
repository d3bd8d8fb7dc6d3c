"""The stations of the loop, each one batch at a time."""
