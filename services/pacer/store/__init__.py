"""What the pacer keeps in Postgres."""
