-- Access: operator
-- One row if the ledger names a version of a floor or of weights.
SELECT 1 AS named
FROM ledger
WHERE $version IN ({version:UInt32}, {version:UInt32} + 1000000000)
  AND ({of_hardware:String} = '*' OR hardware = {of_hardware:String})
  AND ({of_model:String} = '*' OR model = {of_model:String})
LIMIT 1
