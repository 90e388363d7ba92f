"""The demonstration behind `make demo`: a small world of real processes, and a theft in it.

It uses the commands that a user has and talks to the server as an officer does. Nothing in it decides anything: what is
flagged is what the server flagged. It imports the emulator's client and the schema, never the verifier or the server.
"""
