"""How long the log keeps what the archive has: days in Postgres, records in Kafka. How long calls are remembered."""
