-- Access: internal
-- Stores the live rows of a table in another one with the same columns. Repeating it changes nothing.
INSERT INTO $target SELECT * FROM $source FINAL
