-- Access: internal
-- Deletes rows of a table without marks for deleted rows, by their keys: texts, joined by line ends.
ALTER TABLE $table DELETE
WHERE has({keys:Array(String)}, $key)
SETTINGS mutations_sync = 2
