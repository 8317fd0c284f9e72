-- Step 3: the index that finds the newest result of a key has the key first, as the view keys has.
-- With the owner first, the ends of a batch lay as far apart as their owners: each was a page more in the log.
-- It is made anew by its block of queries.sql, under the name of the side that the live history has.

DROP INDEX IF EXISTS history_a_completed;

DROP INDEX IF EXISTS history_b_completed;
