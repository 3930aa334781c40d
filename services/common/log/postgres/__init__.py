"""The log in PostgreSQL: daily tables, offsets given after commit, partitions leased to members of a group."""
