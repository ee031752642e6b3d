CREATE TABLE s (a VARCHAR PRIMARY KEY) WITH (file = '../s.csv');
--                                                  ^^^^^^^^^^ must be a path inside the project folder
CREATE TABLE t (a VARCHAR PRIMARY KEY) WITH (file = 't.xlsx');
--                                                  ^^^^^^^^ must be a .csv file
CREATE TABLE u (a VARCHAR PRIMARY KEY, b VARCHAR GENERATED ALWAYS AS (a)) WITH (file = 'u.csv');
--                                     ^ must not be generated
