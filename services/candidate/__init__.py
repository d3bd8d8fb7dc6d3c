"""Makes and keeps notification candidates: event pool, ready queue, sources, audiences."""
