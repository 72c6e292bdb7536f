-- One row per flight, with the weather at its origin in the hour of its departure.
SELECT
  f.flight_id,
  f.dt,
  f.origin,
  CAST(f.sched_dep_time DIV 100 AS INT) AS dep_hour,
  f.distance,
  f.dep_delay,
  w.wind_speed,
  w.precip,
  w.visib,
  w.temp
FROM flights AS f
LEFT JOIN weather AS w
  ON f.origin = w.origin AND f.dt = w.dt AND f.hour = w.hour
WHERE f.distance >= :min_distance
