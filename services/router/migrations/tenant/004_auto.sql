-- "auto" chooses among all tiers.
ALTER TABLE decisions DROP CONSTRAINT decisions_requested_tier_check;
ALTER TABLE decisions ADD CONSTRAINT decisions_requested_tier_check
    CHECK (requested_tier IN ('auto', 'premium', 'standard', 'slm'));
