-- SHA-256 over what a decision looked at: feedback and training join by it.
ALTER TABLE decisions ADD COLUMN context_hash text NOT NULL DEFAULT '';
