"""Everybody's facts in columns: a DuckDB file that is made anew, never changed, and only read.

columns   what a table of users holds, and in which form
sql       rules as SQL over it, with the engine's three values
flags     a whole flag as SQL: who is refused first at which step
people    a table of users to ask: of a file, or made on the spot
figures   counts, and what a sample's are worth
"""
