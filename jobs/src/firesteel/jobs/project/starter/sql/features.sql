-- The features of the model, one row per event.
SELECT id, dt, amount
FROM events
