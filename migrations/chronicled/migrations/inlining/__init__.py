"""Plain functions on payloads, read as text: a path of them becomes one function over fields, with no maps in between.

A step is a pure function that takes a map and returns it. Most do nothing with the map itself but to take, put, move
and remove entries whose names stand in the text. Such a function is followed statement by statement with what each
entry holds; what it computes goes on as it is written. What cannot be followed with certainty is called, as it always
was.
"""
