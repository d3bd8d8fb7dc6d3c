-- name: insert_request
-- Remembers an answer; a concurrent call with the same id waits here for the first one's commit.
INSERT INTO requests (method, request_id, digest, answer, create_time)
VALUES (:method, :request_id, :digest, :answer, :now)
ON CONFLICT (method, request_id) DO NOTHING
RETURNING request_id

-- name: find_request
-- The answer that a request id got before.
SELECT digest, answer FROM requests WHERE method = :method AND request_id = :request_id
