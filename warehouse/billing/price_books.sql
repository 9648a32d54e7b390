-- Access: shared
-- All versions of the price book.
SELECT book_version, toUnixTimestamp64Milli(stored_at) AS stored_at, actor, sha256, text
FROM price_books FINAL
ORDER BY book_version
