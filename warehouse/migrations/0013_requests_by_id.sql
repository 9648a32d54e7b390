-- A request is asked for by its id alone (receipts): without an index, that reads thirty days of requests.
ALTER TABLE request_energy ADD INDEX IF NOT EXISTS by_request_id request_id TYPE bloom_filter(0.01) GRANULARITY 1;
ALTER TABLE request_energy MATERIALIZE INDEX by_request_id;
