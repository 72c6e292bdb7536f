-- What the model needs, one row an event.
SELECT id, dt, amount
FROM events
