CREATE TABLE s (a VARCHAR PRIMARY KEY) WITH (file = '../s.csv');
--                                                  ^^^^^^^^^^ must be a path inside the project folder
CREATE TABLE t (a VARCHAR PRIMARY KEY) WITH (file = 't.xlsx');
--                                                  ^^^^^^^^ must be a .csv or .parquet file
CREATE TABLE u (a VARCHAR PRIMARY KEY, b VARCHAR GENERATED ALWAYS AS (a)) WITH (file = 'u.csv');
--                                     ^ must not be generated
CREATE TABLE v (a VARCHAR PRIMARY KEY) WITH (file = 'v.parquet', null = '-');
--                                                                      ^^^ Parquet has NULLs of its own
