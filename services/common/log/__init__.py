"""The event log: one interface, two engines. Events come in through the outbox and out in order of their key."""
