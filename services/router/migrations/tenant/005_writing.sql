-- How a decision ended is written into the page where it stands, without touching an index.
DROP INDEX decisions_unsettled;
DROP INDEX decisions_by_turn;
CREATE INDEX decisions_by_turn ON decisions (turn) WHERE turn <> '';
ALTER TABLE decisions SET (fillfactor = 60);
