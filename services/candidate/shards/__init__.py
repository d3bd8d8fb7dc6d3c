"""The user index in shards: what a shard answers, and the front that asks all and merges."""
